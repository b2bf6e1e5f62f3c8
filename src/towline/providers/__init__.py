"""The companies and machines that towline can run on: one module each, joined by a table.

A provider is added by writing its module and one line in the table. A module is imported only
when a run names it, so that nobody pays for libraries of a provider they do not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from towline.errors import SpecError
from towline.ports import Clock, Dialer, Provider

_Factory: TypeAlias = Callable[[Path, Mapping[str, Any], Dialer, Clock], Provider]


def make(
    name: str, *, home: Path, settings: Mapping[str, Any], dialer: Dialer, clock: Clock
) -> Provider:
    """Make the provider of that name.

    Args:
        name: As in `resources: {provider: ...}`.
        home: TOWLINE_HOME, for the providers that keep state of their own.
        settings: The mapping `providers.<name>` of config.yaml.
        dialer: For a provider that must itself talk to an instance.
        clock: Its only source of time.

    Raises:
        SpecError: No such provider, or it does not understand the settings.
    """
    factory = _FACTORIES.get(name)
    if factory is None:
        known = ", ".join(_FACTORIES)
        raise SpecError(f"there is no provider {name!r}", hint=f"the known ones are: {known}")
    return factory(home, settings, dialer, clock)


def names() -> list[str]:
    """Names of all providers."""
    return list(_FACTORIES)


def _local(home: Path, settings: Mapping[str, Any], _dialer: Dialer, clock: Clock) -> Provider:
    from towline.providers.local import LocalProvider  # noqa: PLC0415 - see the module docstring

    return LocalProvider(home, settings, clock)


def _ssh(home: Path, settings: Mapping[str, Any], dialer: Dialer, clock: Clock) -> Provider:
    from towline.providers.ssh import SshProvider  # noqa: PLC0415 - see the module docstring

    return SshProvider(home, settings, dialer, clock)


_FACTORIES: dict[str, _Factory] = {"local": _local, "ssh": _ssh}
