"""`towline doctor`: check this machine, one line and one fix each."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from towline import errors
from towline.cli.common import json_option
from towline.cli.text import Out
from towline.clock import RealClock
from towline.core.units import count_text, size_text
from towline.home import Home, load_config
from towline.store.journal import Store

if TYPE_CHECKING:
    from towline.api import Towline

_OLDEST_PYTHON = (3, 11)
_FREE_BYTES = 1_000_000_000
_ANSWER_S = 15.0
_FAILED = 2


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found; ``fix`` is None when all is well."""

    name: str
    message: str
    fix: str | None = None


@click.command()
@json_option
@click.pass_obj
def doctor(out: Out) -> int:
    """Check this machine; one line and one fix each."""
    checks = []
    for check in _checks(out):
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
        return Check(name, error.message, error.hint or "see docs/troubleshooting.md")
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


def _providers(out: Out) -> Iterator[Check]:
    """Ask each provider in use for its list: key, network and settings in one question."""
    from towline.api import Towline  # noqa: PLC0415

    try:
        towline = Towline()
    except errors.TowlineError:
        return  # said above
    try:
        out.redactor = towline.redactor
        for name in towline.providers_in_use():
            yield _tried(f"provider {name}", partial(_provider, towline, name))
    finally:
        towline.close()


def _provider(towline: Towline, name: str) -> Check:
    provider = towline.provider(name)

    async def count() -> int:
        async with asyncio.timeout(_ANSWER_S):
            return len(await provider.list_tagged())

    try:
        found = asyncio.run(count())
    except TimeoutError:
        message = f"no answer within {_ANSWER_S:.0f} s"
        return Check(f"provider {name}", message, "check the network, then try again")
    grade = provider.features.host_key_grade
    return Check(
        f"provider {name}", f"answers, {count_text(found, 'instance')}, host keys of grade {grade}"
    )
