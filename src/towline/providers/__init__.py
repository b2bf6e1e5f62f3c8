"""The companies and machines that towline can run on: one module each, joined by a table.

A provider is added by writing its module and one line in the table, or, from another package, by
an entry point of the group `towline.providers` that names its class. A module is imported only
when a run names it, so that nobody pays for libraries of a provider they do not use.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towline.errors import SpecError
from towline.ports import Clock, Dialer, Provider

_GROUP = "towline.providers"


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a cloud's driver is, and what its account's keys are called."""

    driver: str  # "module:class"
    keys: Mapping[str, str]  # field -> environment variable
    extra: str | None = None  # of this package: `pip install 'towline[<extra>]'`
    keyless: bool = False  # its library finds credentials by itself


#: in the order in which `doctor` and `offers` show them
CLOUDS: dict[str, Entry] = {
    "canopywave": Entry("canopywave:CanopyWave", {"api_key": "CANOPYWAVE_API_KEY"}),
    "lambda": Entry("lambda_cloud:LambdaCloud", {"api_key": "LAMBDA_API_KEY"}),
    "shadeform": Entry("shadeform:Shadeform", {"api_key": "SHADEFORM_API_KEY"}),
    "runpod": Entry("runpod:RunPod", {"api_key": "RUNPOD_API_KEY"}),
    "vast": Entry("vast:Vast", {"api_key": "VAST_API_KEY"}),
    "digitalocean": Entry("digitalocean:DigitalOcean", {"api_key": "DIGITALOCEAN_TOKEN"}),
    "hyperstack": Entry("hyperstack:Hyperstack", {"api_key": "HYPERSTACK_API_KEY"}),
    "verda": Entry(
        "verda:Verda",
        {"client_id": "VERDA_CLIENT_ID", "client_secret": "VERDA_CLIENT_SECRET"},
    ),
    "ec2": Entry(
        "ec2:Ec2",
        {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"},
        extra="ec2",
        keyless=True,
    ),
    "openstack": Entry(
        "openstack:OpenStack",
        {
            "application_credential_id": "OS_APPLICATION_CREDENTIAL_ID",
            "application_credential_secret": "OS_APPLICATION_CREDENTIAL_SECRET",
        },
        extra="openstack",
        keyless=True,
    ),
}
_OWN = ("local", "ssh")  # machines that need no account


def make(
    name: str,
    *,
    home: Path,
    settings: Mapping[str, Any],
    keys: Mapping[str, str] | None = None,
    dialer: Dialer,
    clock: Clock,
) -> Provider:
    """Make the provider of that name.

    Args:
        name: As in `resources: {provider: ...}`.
        home: TOWLINE_HOME, for the providers that keep state of their own.
        settings: The mapping `providers.<name>` of config.yaml.
        keys: The account's keys by field, see `keys_of`.
        dialer: For a provider that must itself talk to an instance.
        clock: Its only source of time.

    Raises:
        SpecError: No such provider, or it does not understand the settings.
        CredentialsError: A key is missing.
    """
    if name == "local":
        from towline.providers.local import LocalProvider  # noqa: PLC0415 - see the docstring

        return LocalProvider(home, settings, clock)
    if name == "ssh":
        from towline.providers.ssh import SshProvider  # noqa: PLC0415 - see the docstring

        return SshProvider(home, settings, dialer, clock)
    from towline.providers.account import Account  # noqa: PLC0415 - see the docstring

    account = Account(name=name, settings=settings, keys=keys or {}, clock=clock)
    made: Provider = _driver(name)(account)
    return made


def keys_of(name: str) -> Mapping[str, str]:
    """Fields of an account's keys, and the environment variables that they may come from.

    A provider from another package has one field, `api_key`, in `<NAME>_API_KEY`.
    """
    if name in _OWN:
        return {}
    if name in CLOUDS:
        return CLOUDS[name].keys
    return {"api_key": f"{name.upper().replace('-', '_')}_API_KEY"}


def names() -> list[str]:
    """Names of all providers, those of other packages last."""
    return [*_OWN, *CLOUDS, *(name for name in _foreign() if name not in CLOUDS)]


def _driver(name: str) -> Any:
    entry = CLOUDS.get(name)
    if entry is None:
        foreign = _foreign()
        if name not in foreign:
            known = ", ".join([*_OWN, *CLOUDS, *foreign])
            raise SpecError(f"there is no provider {name!r}", hint=f"the known ones are: {known}")
        return foreign[name].load()
    module, _colon, driver = entry.driver.partition(":")
    try:
        return getattr(importlib.import_module(f"towline.providers.{module}"), driver)
    except ModuleNotFoundError as error:
        if entry.extra is None or (error.name or "").startswith("towline"):
            raise
        message = f"provider {name} needs the library {error.name}, which is not installed"
        hint = f"pip install 'towline[{entry.extra}]'"
        raise SpecError(message, hint=hint) from error


@functools.cache
def _foreign() -> dict[str, Any]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - 20 ms

    return {found.name: found for found in entry_points(group=_GROUP)}
