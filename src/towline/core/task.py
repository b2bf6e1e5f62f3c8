"""What the user wrote: the task, as frozen data with every default in one place.

Field names are the keys of `towline.yaml`. The edge (`towline.taskfile`) reads, validates and
describes these classes with pydantic; this module knows nothing of files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from towline.core.units import Duration, seconds_text, usd_text

_S_PER_H = 3600
_RESERVED_SHARE = 0.2  # of max_cost at most, for the way home
_END_SHARE, _END_S = 0.1, 60.0  # of it, and no more than a minute: from the end command to the end
Scalar = str | int | float | bool | None


def _not_negative(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number from 0 up, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What to rent."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    provider: str | list[str] | None = None
    gpu: str | None = None
    region: str = "any"
    max_price_per_hour: float | None = None
    spot: bool = False
    disk_gb: float | None = None
    host: str | None = None  # user@addr[:port] of the user's own machine, for provider ssh
    identity: str | None = None  # private key file to log in with, for provider ssh
    known_hosts: str | None = None  # for provider ssh; default ~/.ssh/known_hosts

    def __post_init__(self) -> None:
        _not_negative("max_price_per_hour", self.max_price_per_hour)
        _not_negative("disk_gb", self.disk_gb)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be spent: money in USD, times as durations."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    max_cost: float | None = None
    max_duration: Duration | None = None
    ssh_timeout: Duration = Duration(120)
    ssh_poll: Duration = Duration(3)
    ssh_connect_timeout: Duration = Duration(5)
    boot_timeout: Duration = Duration(600)
    gather_grace: Duration = Duration(3600)
    stall_after: Duration = Duration(1800)
    on_stop_grace: Duration = Duration(60)

    def __post_init__(self) -> None:
        _not_negative("max_cost", self.max_cost)

    def ceiling_usd(self, price_usd_per_h: float) -> float | None:
        """What these limits let a run cost at this price; None when they set no end.

        The way home is paid as well: `max_duration` is the training's time only.
        """
        if not price_usd_per_h:
            return 0.0
        sums = [] if self.max_cost is None else [self.max_cost]
        if self.max_duration is not None:
            lives_s = self.max_duration + self._way_home_s()
            sums.append(lives_s / _S_PER_H * price_usd_per_h)
        return min(sums, default=None)

    def paid_up_s(self, price_usd_per_h: float) -> float | None:
        """At which age `max_cost` is used up but for what an end takes; None: never."""
        paid_s = self._paid_s(price_usd_per_h)
        return None if paid_s is None else paid_s - _end_takes_s(paid_s)

    def kept_back_s(self, price_usd_per_h: float) -> float:
        """How much of the time that `max_cost` pays for is kept for the way home and the end."""
        paid_s = self._paid_s(price_usd_per_h)
        if paid_s is None:
            return 0.0
        return min(self._way_home_s() + _end_takes_s(paid_s), _RESERVED_SHARE * paid_s)

    def training_end(self, price_usd_per_h: float) -> tuple[float, str] | None:
        """At which age of the instance the training is ended, in seconds, and why; None: never.

        `max_cost` is a cap on everything, so a part of it is kept back for the way home.
        """
        ends = []
        if self.max_duration is not None:
            why = f"max_duration of {seconds_text(self.max_duration)} reached"
            ends.append((float(self.max_duration), why))
        paid_s = self._paid_s(price_usd_per_h)
        if self.max_cost is not None and paid_s is not None:
            kept_back_s = self.kept_back_s(price_usd_per_h)
            kept_usd = kept_back_s / _S_PER_H * price_usd_per_h
            why = f"max_cost of {usd_text(self.max_cost)} reached"
            why += f" ({usd_text(kept_usd)} of it is kept for the way home)"
            ends.append((paid_s - kept_back_s, why))
        return min(ends, default=None)

    def lifetime_s(self, price_usd_per_h: float) -> float | None:
        """At which age the instance is to end whatever happens; None when no limit is set.

        Counted from its create, like the bill: the training's time and the time for the way
        home, and never more than `max_cost` pays for, less what an end takes.
        """
        end = self.training_end(price_usd_per_h)
        if end is None:
            return None
        ends = [end[0] + self._way_home_s()]
        paid_up_s = self.paid_up_s(price_usd_per_h)
        return min(ends if paid_up_s is None else [*ends, paid_up_s])

    def _paid_s(self, price_usd_per_h: float) -> float | None:
        """How long `max_cost` pays for; None for ever."""
        if self.max_cost is None or price_usd_per_h <= 0:
            return None
        return self.max_cost / price_usd_per_h * _S_PER_H

    def _way_home_s(self) -> float:
        return float(self.on_stop_grace + self.gather_grace)


def _end_takes_s(paid_s: float) -> float:
    return min(_END_S, _END_SHARE * paid_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifacts:
    """What to bring home."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    model: str | None = None
    outputs: list[str] = field(default_factory=lambda: ["output/**"])
    checkpoint_every: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Hold the instance for a while after the run's work is done."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    keep: Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """One training job.

    ``dataset`` and ``code`` are local paths; relative ones are taken from the task file's folder
    (the current folder in the Python API).
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}
    name: str | None = None
    dataset: str | None = None
    code: str | None = None
    framework: str | None = None
    settings: dict[str, Scalar] = field(default_factory=dict)
    command: str | None = None
    requirements: str | list[str] | None = None
    image: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    artifacts: Artifacts = field(default_factory=Artifacts)
    on_success: Literal["terminate"] | Keep = "terminate"
    on_failure: Literal["terminate"] | Keep = "terminate"
    upload: Literal["auto", "stream", "zip", "files"] = "auto"
