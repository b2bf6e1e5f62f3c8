"""What the commands on accounts share: known names, and the safety of a provider in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from towline.core.instance import Features
    from towline.errors import TowlineError

provider_argument = click.argument("provider", metavar="PROVIDER")
_HOST_KEYS = {
    "A": "known when it is made",
    "B": "attested by the instance",
    "C": "the first one pinned",
    "U": "your known_hosts",
}
_POWERED_OFF = {
    True: "bills when powered off",
    False: "no bill when powered off",
    None: "billing when powered off not known",
}


def require_provider(name: str) -> None:
    """Let the name of a provider pass.

    Raises:
        SpecError: There is none of that name; says which there are.
    """
    from towline.providers import names  # noqa: PLC0415 - `--help` needs none of it
    from towline.providers.settings import require_known  # noqa: PLC0415

    require_known(name, names(), "PROVIDER", "provider")


def own_hint(error: TowlineError) -> str | None:
    """What the raiser advises; None when it knows no more than all errors of its kind."""
    return error.hint if error.hint != error.usual_hint else None


def safety_words(features: Features) -> list[str]:
    """The safety a provider offers, each thing in a few words."""
    grade = features.host_key_grade
    words = [f"host key {grade} ({_HOST_KEYS[grade]})"]
    if not features.rented:
        return [*words, "nothing is rented"]
    return [
        *words,
        "user-data" if features.user_data else "no user-data",
        "tags" if features.tags else "no tags (the name carries ours)",
        "idempotency key" if features.idempotency_key else "no idempotency key",
        "server-side time-to-live" if features.server_ttl else "no server-side time-to-live",
        "ends itself" if features.end_self_argv else "can't end itself",
        _POWERED_OFF[features.powered_off_bills],
        "spot" if features.spot else "no spot",
    ]


def safety_short(features: Features) -> str:
    """The host key's grade, and who ends an instance that nobody comes back for."""
    if features.server_ttl:
        return f"{features.host_key_grade}, time limit"
    return f"{features.host_key_grade}, {'ends itself' if features.end_self_argv else 'gc only'}"
