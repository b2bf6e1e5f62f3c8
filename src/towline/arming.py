"""The guard's orders: the task's limits as ages of the instance, and how the instance ends itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from towline.core.instance import Features
from towline.core.task import Limits
from towline.line import Line
from towline.ports import Clock

if TYPE_CHECKING:
    from towline.store.journal import LedgerRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What a driver knows of the time since the instance was asked for; in seconds.

    ``known_s``: measured by this very process, None in another. ``wall_s``: by this machine's
    wall clock, which somebody may have set meanwhile; so it counts only as far as the instance
    bears it out. ``boot_s``: how long of it the instance may have taken to come up.
    """

    known_s: float | None
    wall_s: float
    boot_s: float


def lived(known_s: float | None, wall_s: float, limits: Limits, was_connected: bool) -> Lived:  # noqa: FBT001
    """What is known of the time; see the class."""
    if known_s is not None:
        return Lived(known_s=known_s, wall_s=wall_s, boot_s=0.0)
    # one that was connected knows its age, unless an old towline has armed it: then all counts
    boot_s = wall_s if was_connected else limits.boot_timeout + limits.ssh_timeout
    return Lived(known_s=None, wall_s=wall_s, boot_s=boot_s)


class Age:
    """How old the instance is, on a clock that nobody sets: since the create, then by its own word."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    def note(self, age_s: float) -> None:
        """It is so old now."""
        self._since = self._clock.monotonic() - age_s

    def seconds(self) -> float | None:
        """How old it is; None while that is not known."""
        return None if self._since is None else self._clock.monotonic() - self._since


def is_all_ours(features: Features) -> bool:
    """Whether the instance is a machine of the run's own, booted for nobody else."""
    return features.rented and not features.shares_host


async def arm(
    line: Line, limits: Limits, features: Features, price_usd_per_h: float, told: Lived
) -> dict[str, Any]:
    """Arm the guard, or give the one that is there its orders; may be repeated at will.

    Returns:
        "age_s", the instance's age by its own word, and by "reboot" how the guard comes back after
        a reboot of the instance ("cron", "systemd"), None if it does not.

    Raises:
        RemoteError: As Line.call.
    """
    own_boot = is_all_ours(features)
    orders = {
        "limits": limit_orders(limits, price_usd_per_h),
        "end_argv": list(features.end_self_argv) if features.end_self_argv else None,
        "age": asdict(told) | {"own_boot": own_boot},
        "reboot": own_boot,  # nothing of ours is set up on a machine that is others' too
    }
    return await line.call("guard", orders)


def limit_orders(limits: Limits, price_usd_per_h: float) -> dict[str, Any]:
    """The limits as the guard reads them."""
    training_s, why = limits.training_end(price_usd_per_h) or (None, None)
    return {
        "training_s": training_s,
        "why": why,
        "lifetime_s": limits.lifetime_s(price_usd_per_h),
        "grace_s": float(limits.gather_grace),
        "stop_grace_s": float(limits.on_stop_grace),
    }


def time_is_up(limits: Limits, row: LedgerRow, now: float) -> str:
    """Why an instance may have ended itself, in words; "" when its time was not up yet."""
    lifetime_s = limits.lifetime_s(row.price_usd_per_h)
    end = limits.training_end(row.price_usd_per_h)
    if lifetime_s is None or end is None or now - row.intent_at < lifetime_s:
        return ""
    return f" (its time was up: {end[1]})"


def reboot_text(comes_back: str | None) -> str:
    """How the guard is armed, given what brings it back after a reboot of the instance."""
    if comes_back is None:
        return (
            "armed, but not after a reboot of the instance,"
            " until a towline command follows the run again"
        )
    return f"armed, also after a reboot of the instance (by {comes_back})"
