"""Settings of provider `local` (`providers.local` in config.yaml), with its injected faults.

boot_s, ssh_delay_s    seconds from create to "active", and from there to SSH accepting
price_usd_per_hour     what an instance pretends to cost
offers                 list of {type, price_usd_per_hour}; one offer "this-machine" without it
faults                 mapping of a moment to a fault, for tests and demos (see `FAULTS`)

A fault may end in `_N`: then it strikes the first N times only, counted in one process.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from towline.errors import SpecError
from towline.providers.settings import require_known

_KNOWN = ("boot_s", "ssh_delay_s", "price_usd_per_hour", "offers", "faults")
_WHERE = "providers.local"

FAULTS: dict[str, dict[str, str]] = {
    "create": {
        "no_capacity": "refused: none left of this offer",
        "quota": "refused: the account may not rent more",
        "refuse": "refused for another reason",
        "lost_reply": "made, but the answer is lost",
        "late": "the answer is lost, and the instance shows in the list 2 s later",
    },
    "boot": {
        "never": "stays in building",
        "dies": "is dead when it should become active",
    },
    "ssh": {
        "silent": "accepts connections and says nothing",
        "refuse_login": "SSH answers but lets no key in",
        "drop": "accepts connections and closes them",
    },
    "get": {"unavailable": "the API does not answer"},
    "list": {"unavailable": "the API does not answer"},
    "terminate": {
        "unavailable": "the API does not answer",
        "stuck": "accepted, but the instance never goes",
    },
}


@dataclass(slots=True)
class Faults:
    """What is to go wrong, and how often still (None: always)."""

    _plan: dict[str, tuple[str, float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: Any) -> Faults:
        """Read the mapping `faults`.

        Raises:
            SpecError: An unknown moment or fault.
        """
        plan: dict[str, tuple[str, float]] = {}
        for moment, text in _mapping(value or {}, f"{_WHERE}.faults").items():
            where = f"{_WHERE}.faults"
            require_known(moment, FAULTS, where, "moment")
            match = re.fullmatch(r"([a-z_]+?)(?:_(\d+))?", str(text))
            name = match[1] if match else str(text)
            require_known(name, FAULTS[moment], f"{where}.{moment}", "fault")
            plan[moment] = (name, int(match[2]) if match and match[2] else math.inf)
        return cls(plan)

    def plans(self, moment: str, fault: str) -> bool:
        """Say whether this fault is in the settings at all."""
        return self._plan.get(moment, ("", 0))[0] == fault

    def strike(self, moment: str) -> str | None:
        """The fault that strikes now, None for none; counts as one stroke."""
        fault, left = self._plan.get(moment, ("", 0))
        if left < 1:
            return None
        self._plan[moment] = (fault, left - 1)
        return fault


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """The settings, checked."""

    boot_s: float
    ssh_delay_s: float
    offers: list[tuple[str, float]]  # (type, price in USD per hour)
    faults: Faults

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> LocalSettings:
        """Read `providers.local`.

        Raises:
            SpecError: An unknown key or an unusable value; names the nearest known key.
        """
        for key in settings:
            require_known(key, _KNOWN, _WHERE, "setting")
        price = _number(settings.get("price_usd_per_hour", 0.0), "price_usd_per_hour")
        return cls(
            boot_s=_number(settings.get("boot_s", 0.0), "boot_s"),
            ssh_delay_s=_number(settings.get("ssh_delay_s", 0.0), "ssh_delay_s"),
            offers=_offers(settings.get("offers"), price),
            faults=Faults.parse(settings.get("faults")),
        )


def _offers(value: Any, price: float) -> list[tuple[str, float]]:
    if value is None:
        return [("this-machine", price)]
    if not isinstance(value, list) or not value:
        raise SpecError(f"{_WHERE}.offers must be a list of {{type, price_usd_per_hour}}")
    offers = []
    for number, entry in enumerate(value):
        where = f"offers[{number}]"
        known = _mapping(entry, f"{_WHERE}.{where}")
        for key in known:
            require_known(key, ("type", "price_usd_per_hour"), f"{_WHERE}.{where}", "key")
        kind = known.get("type")
        if not isinstance(kind, str) or not kind:
            raise SpecError(f"{_WHERE}.{where} needs a `type`, a name of your choice")
        its_price = _number(known.get("price_usd_per_hour", price), f"{where}.price_usd_per_hour")
        offers.append((kind, its_price))
    return offers


def _number(value: Any, name: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise SpecError(f"{_WHERE}.{name} must be a number from 0 up, not {value!r}")
    return float(value)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} must be a mapping, not {value!r}")
    return value
