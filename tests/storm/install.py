"""Where the real code meets the simulation: what is put in place of time, chance, ports and processes.

Everything is put in place for the length of one life, and only in this process.
"""

import asyncio
import contextlib
import dataclasses
import functools
import gc
import importlib
import logging
import os
import secrets
import shutil
import sqlite3
import sys
import time
from pathlib import Path

import towline.api
import towline.cli.background
import towline.cli.common
import towline.cli.drive
import towline.credentials
import towline.following.log
import towline.providers
import towline.runner
import towline.ssh.client
import towline.store.journal
from tests.storm.loop import CURRENT
from tests.storm.ports import Killed, SimDialer, SimProvider
from towline import errors
from towline.cli.render import PlainView
from towline.cli.spool import PATIENCE_S
from towline.cli.tell import tell_end
from towline.cli.text import Out
from towline.core.instance import Features
from towline.core.redact import Redactor
from towline.core.task import Artifacts, Keep, Limits, Resources, TaskSpec
from towline.core.units import Duration
from towline.home import Home
from towline.providers.ssh import SshProvider

MOST_COMMITS = 600  # of one process in a minute: more is a loop without pauses
LIFE = None  # the life that is lived now

SHM = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else os.environ.get("TMPDIR", "/tmp"))


def root():
    """Where this process's lives lie on the disk; its parent cleans up behind it."""
    return SHM / f"towline-storm-{os.getppid()}-{os.getpid()}"


def project():
    return root() / "project"


@functools.cache
def features():
    """What each real driver says of its provider."""
    local = Features(
        host_key_grade="A", sole_owner=True, free=True, shares_host=True, leftovers=(),
        end_self_argv=("towline-end",), settle_s=0.0, containers=True,
    )  # fmt: skip
    found = {"local": local}
    for name, entry in towline.providers.CLOUDS.items():
        module, _colon, driver = entry.driver.partition(":")
        try:
            loaded = importlib.import_module(f"towline.providers.{module}")
        except ModuleNotFoundError:
            continue  # the extra is not installed
        said = getattr(loaded, driver).FEATURES
        if name in ("runpod", "vast"):  # said when the driver is made
            said = dataclasses.replace(said, end_self_argv=("sh", "-c", "end"))
        found[name] = said
    return found


# -- processes --------------------------------------------------------------------------------------


class Child:
    """What `in_background` returns."""

    def __init__(self, process):
        self._process = process
        self.pid = process.number
        self.returncode = None

    def poll(self):
        return None if self._process.alive else 1


class SimOut(Out):
    """A terminal that may be blocked: whoever writes to it himself stands still until it is not."""

    def __init__(self, life, process):
        super().__init__()
        self._life = life
        self._process = process
        self._has_spool = False

    @property
    def is_terminal(self):
        return False

    @contextlib.contextmanager
    def unblocked(self):
        """What is written waits in a thread of its own."""
        before, self._has_spool = self._has_spool, True
        try:
            yield
        finally:
            self.settle()
            self._has_spool = before

    def settle(self, patience_s=PATIENCE_S):
        if self._has_spool and self._blocked_s() > 0:
            self._life.loop.pass_time(min(self._blocked_s(), patience_s))

    @property
    def is_behind(self):
        return self._has_spool and self._blocked_s() > 0

    @property
    def is_stuck(self):
        return self.is_behind

    def _blocked_s(self):
        return self._life.terminal_blocked_until - self._life.world.now

    def _write(self, _stream, text, end="\n"):
        del text, end
        if self._blocked_s() > 0 and not self._has_spool:
            self._life.loop.pass_time(self._blocked_s())

    def take_logs(self):
        pass

    def bug(self, error):
        self._life.bugs.append((self._process.name, error))
        super().bug(error)


def opened(life, process):
    """`Towline` as a process opens it."""
    made = towline.api.Towline(Home(life.home), config={})
    process.towline = made
    return made


def retry_releases(out, opened_home):
    towline.cli.common._retry_releases(out, opened_home)


async def sweep(opened_home):
    await opened_home.accounts.sweep_in_passing()


async def driven(life, process, out, opened_home, run):
    """As `drive_here`, in this loop."""
    process.driver = True
    foreground = process.foreground = towline.cli.drive.Foreground(out, opened_home)
    views = {run.id: lambda: PlainView(out)}
    return (await foreground.drive(views))[0]


async def drive_unseen(life, process, out, run_id):
    """As the hidden command `drive`, in this loop."""
    process.driver = True
    opened_home = opened(life, process)
    run = opened_home.store.run(run_id)
    ended = await towline.cli.drive._drive_unseen(out, opened_home, run)
    return tell_end(out, opened_home, ended)


async def _show_quietly(is_over):
    while not is_over():
        await asyncio.sleep(1.0)


_really_show = towline.cli.drive.show_run


async def _show(out, opened_home, run_id, view, is_over, *, after=0):
    """Few lives need all that is shown ten times a second."""
    if LIFE.plan.get("view"):
        await _really_show(out, opened_home, run_id, view, is_over, after=after)
    else:
        await _show_quietly(is_over)


# -- the journal's file -----------------------------------------------------------------------------


class SimConnection(sqlite3.Connection):
    """The journal's real file, with another program in the way at times, or a failing disk."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self._process = CURRENT.get()
        self._timeout_s = more.get("timeout", 5.0)
        if self._process is not None:
            self._process.databases.append(self)

    def execute(self, sql, args=()):
        if self._process is not None and not self._process.alive:
            raise Killed
        if LIFE is None or self._process is None:
            return super().execute(sql, args)
        if LIFE.world.now < LIFE.io_error_until:
            raise _sqlite_error("disk I/O error", sqlite3.SQLITE_IOERR)
        if sql == "BEGIN IMMEDIATE" and (wait_s := LIFE.locked_until - LIFE.world.now) > 0:
            LIFE.loop.pass_time(min(wait_s, self._timeout_s))
            if wait_s > self._timeout_s:
                raise _sqlite_error("database is locked", sqlite3.SQLITE_BUSY)
        if sql.startswith("PRAGMA synchronous"):
            sql = "PRAGMA synchronous = OFF"
        done = super().execute(sql, args)
        if sql == "COMMIT":
            self._committed()
        return done

    def _committed(self):
        world = LIFE.world
        world.hits["commit"] += 1
        minute = (self._process.number, int(LIFE.loop.time() // 60))
        world.minutes[minute] += 1
        if world.minutes[minute] > MOST_COMMITS:
            world.breaks("no livelock", f"{MOST_COMMITS} commits in a minute")
            raise LIFE.hopeless()
        for fault in world._planned.get(("commit", world.hits["commit"]), ()):
            LIFE.act(fault | {"t": world.now})
        if not self._process.alive:
            raise Killed


def _sqlite_error(text, code):
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


_really_connect = sqlite3.connect


def _connect(path, *args, **more):
    if str(path).endswith("towline.db") and CURRENT.get() is not None:
        more["factory"] = SimConnection
    return _really_connect(path, *args, **more)


def _this_process():
    process = CURRENT.get()
    return {"machine": "A", "host": "laptop", "pid": process.number, "started": 0.0}


def _is_alive(holder):
    return LIFE.processes[holder["pid"] - 1].alive


class _LogFile:
    """The local log: writing to it fails while the disk is full."""

    def __init__(self, file):
        self._file = file

    def write(self, data):
        if LIFE is not None and LIFE.world.now < LIFE.home_full_until:
            raise OSError(28, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._file.close()


def _faulty(opening):
    @functools.wraps(opening)
    def open_it(*args, **more):
        if LIFE is not None and LIFE.world.now < LIFE.home_full_until:
            raise OSError(28, "No space left on device")
        file = opening(*args, **more)
        return _LogFile(file)

    return open_it


# -- ports ------------------------------------------------------------------------------------------


def _make(name, *, home, settings, keys=None, dialer, clock):
    process = CURRENT.get()
    if name == "ssh":
        return SshProvider(home, settings, dialer, clock)
    if name == "local":
        return SimProvider(LIFE, process, LIFE.account(name, "own"))
    if not keys:
        message = f"the account at {name} has no key here"
        raise errors.CredentialsError(message, hint=f"`towline login {name}`")
    return SimProvider(LIFE, process, LIFE.account(name, next(iter(keys.values()))))


def _find(_self, name, fields):
    keys = CURRENT.get().keys
    return {} if keys == "none" or not fields else dict.fromkeys(fields, f"{keys}")


def _complete(_self, accounts):
    keys = CURRENT.get().keys
    name = LIFE.plan["provider"]
    return [name] if keys != "none" and name in accounts else []


def _dialer():
    return SimDialer(LIFE, CURRENT.get())


def _new_key_pair(comment):
    return LIFE.new_key_pair(comment)


def _wall():
    return LIFE.wall()


def _monotonic():
    return LIFE.monotonic()


def task_of(life):
    """The task of a plan."""
    spec = life.plan["task"]
    given = {key: Duration(value) for key, value in spec["limits"].items() if key != "max_cost"}
    limits = Limits(max_cost=spec["limits"].get("max_cost"), **given)
    keep = spec.get("keep")
    name = life.plan["provider"]
    if name == "ssh":
        resources = Resources(provider="ssh", host="me@mybox", identity=str(life.identity))
    else:
        resources = Resources(provider=name, gpu="H100:1" if spec.get("gpu") else None)
    every = spec.get("checkpoint_every")
    return TaskSpec(
        name="job", dataset="data", code="code", command="python train.py", resources=resources,
        limits=limits, on_success=Keep(keep=Duration(keep)) if keep else "terminate",
        artifacts=Artifacts(
            model=spec.get("model"), checkpoint_every=None if every is None else Duration(every)
        ),
        requirements=["torch"] if spec.get("requirements") else None,
    )  # fmt: skip


# -- one life at a time -----------------------------------------------------------------------------


def prepare(life):
    """Folders, a fresh journal, the project: once for all lives of this process."""
    if not project().exists():
        (project() / "data").mkdir(parents=True)
        (project() / "code").mkdir()
        (project() / "data" / "a.txt").write_text("a\n" * 20)
        (project() / "data" / "b.txt").write_text("b\n" * 20)
        (project() / "code" / "train.py").write_text("print('hello')\n")
    template = root() / "towline.db"
    if not template.exists():
        made = towline.store.journal.Store(template, Redactor(), None)
        made._db._db.execute("PRAGMA journal_mode = DELETE")  # one file, to be copied
        made.close()
    shutil.rmtree(life.folder, ignore_errors=True)
    life.home.mkdir(parents=True, mode=0o700)
    life.results.mkdir()
    shutil.copyfile(template, life.home / "towline.db")
    if life.plan["provider"] == "ssh":
        life.own_box()


_PLACES = (
    (sqlite3, "connect", _connect),
    (towline.store.journal, "this_process", _this_process),
    (towline.store.journal, "is_alive", _is_alive),
    (towline.ssh.client, "SshDialer", _dialer),
    (towline.ssh.client, "new_key_pair", _new_key_pair),
    (towline.providers, "make", _make),
    (towline.credentials.Credentials, "find", _find),
    (towline.credentials.Credentials, "complete", _complete),
    (towline.cli.background, "in_background", lambda _home, run: LIFE.background(run)),
    (towline.cli.drive, "in_background", lambda _home, run: LIFE.background(run)),
    (towline.cli.drive, "show_run", _show),
    (towline.runner, "_WATCH_EVERY_S", 1.0),  # most turns of a life would be these looks
    (towline.cli.drive, "_handlers", lambda _catch: contextlib.nullcontext()),
    (towline.following.log, "_open_log", _faulty(towline.following.log._open_log)),
    (towline.following.log, "open_private", _faulty(towline.following.log.open_private)),
    (time, "time", _wall),
    (time, "monotonic", _monotonic),
    (secrets, "token_hex", lambda n=32: LIFE.rng.randbytes(n).hex()),
    (secrets, "token_bytes", lambda n=32: LIFE.rng.randbytes(n)),
    (os, "_exit", lambda _code: LIFE.exit_now()),
    (os, "sync", lambda: None),
    (os, "fsync", lambda _fd: None),
    (sys, "unraisablehook", lambda _what: None),
)


@contextlib.contextmanager
def active(life):
    """Put everything in place; afterwards all is as it was."""
    global LIFE  # noqa: PLW0603 - one life is lived at a time
    before = [(owner, name, getattr(owner, name)) for owner, name, _new in _PLACES]
    LIFE = life
    gc.disable()
    logging.disable()
    for owner, name, new in _PLACES:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)
        LIFE = None
        logging.disable(logging.NOTSET)
        gc.enable()


def clean():
    """Remove what this process's lives left on the disk, and those of its workers."""
    shutil.rmtree(root(), ignore_errors=True)
    for folder in SHM.glob(f"towline-storm-{os.getpid()}-*"):
        shutil.rmtree(folder, ignore_errors=True)
