"""`towline doctor`: check this machine and the accounts, one line and one fix each."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from towline import errors
from towline.cli.accounts import own_hint, require_provider, safety_words
from towline.cli.common import json_option, opened
from towline.cli.text import Out
from towline.clock import RealClock
from towline.core.units import count_text, size_text
from towline.home import Home, load_config
from towline.providers import keys_of
from towline.store.journal import Store

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.ports import Provider

_OLDEST_PYTHON = (3, 11)
_FREE_BYTES = 1_000_000_000
_ANSWER_S = 15.0
_FAILED = 2
_USUAL_FIX = "see docs/troubleshooting.md"


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found; ``fix`` is None when all is well."""

    name: str
    message: str
    fix: str | None = None


@click.command()
@click.argument("provider", required=False, metavar="[PROVIDER]")
@json_option
@click.pass_obj
def doctor(out: Out, provider: str | None) -> int:
    """Check this machine and the accounts; one line and one fix each.

    With PROVIDER only that one is looked at.
    """
    checks = []
    for check in _checks(out) if provider is None else _one(out, provider):
        checks.append(check)
        if not out.as_json:
            out.line(f"{'ok ' if check.fix is None else 'BAD'}  {check.name}: {check.message}")
            if check.fix is not None:
                out.line(f"     fix: {check.fix}")
    is_well = all(check.fix is None for check in checks)
    if out.as_json:
        rows = [asdict(check) | {"ok": check.fix is None} for check in checks]
        out.document({"ok": is_well, "checks": rows})
    return 0 if is_well else _FAILED


def _one(out: Out, name: str) -> Iterator[Check]:
    require_provider(name)
    with opened(out) as towline:
        yield from _looked_at(towline, [name])


def _checks(out: Out) -> Iterator[Check]:
    home = Home.default()
    yield _python()
    yield _tried("home", lambda: _home(home))
    yield _tried("journal", lambda: _journal(out, home))
    yield _tried("disk", lambda: _disk(home))
    yield _tried("settings", _settings)
    yield _ssh_client()
    yield from _providers(out)


def _tried(name: str, check: Callable[[], Check]) -> Check:
    """Run a check; its error is a finding too."""
    try:
        return check()
    except errors.TowlineError as error:
        return _bad(name, error)
    except OSError as error:
        return Check(name, str(error), "check that folder's permissions, or set TOWLINE_HOME")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    fix = None if sys.version_info[:2] >= _OLDEST_PYTHON else "use Python 3.11 or later"
    return Check("python", f"Python {version}", fix)


def _home(home: Home) -> Check:
    home.prepare()
    probe = home.path / ".writable"
    probe.touch(mode=0o600)
    probe.unlink()
    mode = stat.S_IMODE(home.path.stat().st_mode)
    is_open = os.name == "posix" and mode & 0o077
    fix = f"chmod 700 {home.path}" if is_open else None
    return Check("home", f"{home.path} is writable, mode {mode:o}", fix)


def _journal(out: Out, home: Home) -> Check:
    store = Store(home.database, out.redactor, RealClock())
    try:
        count = len(store.runs())
    finally:
        store.close()
    runs = count_text(count, "run")
    return Check("journal", f"{home.database} opens, {runs}, SQLite {sqlite3.sqlite_version}")


def _disk(home: Home) -> Check:
    free = shutil.disk_usage(home.path).free
    fix = None if free >= _FREE_BYTES else "make room: models and logs come home to this disk"
    return Check("disk", f"{size_text(free)} free", fix)


def _settings() -> Check:
    providers = load_config().get("providers") or {}
    names = ", ".join(sorted(providers))
    return Check("settings", f"read, for {names}" if names else "none, so the defaults hold")


def _ssh_client() -> Check:
    path = shutil.which("ssh")
    if path is None:
        fix = "install OpenSSH's client; only `towline ssh` without a command needs it"
        return Check("ssh client", "not found", fix)
    return Check("ssh client", path)


# -- accounts and other providers -----------------------------------------------------------------


def _providers(out: Out) -> Iterator[Check]:
    """Look at each provider in use and each account."""
    from towline.api import Towline  # noqa: PLC0415

    try:
        towline = Towline()
    except errors.TowlineError:
        return  # said above
    try:
        out.redactor = towline.redactor
        names = set(towline.accounts.in_use())
        try:
            names |= set(towline.accounts.names())
        except errors.CredentialsError as error:
            yield _bad("keys", error)
        yield from _looked_at(towline, sorted(names))
    finally:
        towline.close()


def _looked_at(towline: Towline, names: list[str]) -> Iterator[Check]:
    """Ask all of them at once, each within its time."""
    providers, wrong = towline.accounts.providers(names)
    for name, error in wrong.items():
        yield _bad(f"provider {name}", error)

    async def ask() -> list[list[Check]]:
        asked = (_ask(towline, name, provider) for name, provider in providers.items())
        return await asyncio.gather(*asked)

    for found in asyncio.run(ask()):
        yield from found


async def _ask(towline: Towline, name: str, provider: Provider) -> list[Check]:
    """First the list of what is there: key, network and settings in one question."""
    source = towline.accounts.credentials.where(name, keys_of(name))
    try:
        async with asyncio.timeout(_ANSWER_S):
            count = len(await provider.list_tagged())
    except TimeoutError:
        return [_silent(f"provider {name}")]
    except errors.ProviderAuthError as error:
        fix = own_hint(error) or _new_key_fix(name, source)
        return [Check(f"provider {name}", f"{error.message}{_from(source)}", fix)]
    except errors.TowlineError as error:
        return [_bad(f"provider {name}", error)]
    answers = f"answers, {count_text(count, 'instance')}"
    if not keys_of(name):
        grade = provider.features.host_key_grade
        return [Check(f"provider {name}", f"{answers}, host keys of grade {grade}")]
    return [
        Check(f"provider {name}", f"{answers}{_from(source)}"),
        *await _account(name, provider),
        Check(f"{name} safety", ", ".join(safety_words(provider.features))),
    ]


async def _account(name: str, provider: Provider) -> list[Check]:
    """What the provider's own look at the account found: project, network, payment, stock."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            findings = await provider.check()
    except TimeoutError:
        return [_silent(f"{name} account")]
    except errors.TowlineError as error:
        return [_bad(f"{name} account", error)]
    return [Check(f"{name} {one.name}", one.message, one.fix) for one in findings]


def _from(source: dict[str, str]) -> str:
    """Where each key was found."""
    return "".join(f", {field.replace('_', ' ')} from {one}" for field, one in source.items())


def _new_key_fix(name: str, source: dict[str, str]) -> str:
    """Where the key that was refused can be replaced."""
    variables = [one for one in source.values() if one in keys_of(name).values()]
    if variables:
        return f"export {' and '.join(variables)} with a valid key, or unset it"
    return f"make a new key in {name}'s console, then `towline login {name}`"


def _silent(what: str) -> Check:
    message = f"no answer within {_ANSWER_S:.0f} s"
    return Check(what, message, "check the network, then try again")


def _bad(what: str, error: errors.TowlineError) -> Check:
    return Check(what, error.message, error.hint or _USUAL_FIX)
