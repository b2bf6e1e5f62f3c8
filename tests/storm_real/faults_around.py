"""Faults of the way, and of the laptop's files and clock; importing this adds them to `faults.FAULTS`."""

import contextlib
import os
import signal
import sqlite3

from tests.storm_real.faults import HERE, THERE, WAY, fault, send

# -- the way --------------------------------------------------------------------------------------


@fault(WAY, weight=2.0, providers=("ssh",), holds_s=(0, 0))
def connections_cut(world):
    send(world.connections(), signal.SIGKILL)
    yield


@fault(WAY, holds_s=(0, 0))
def connections_reset(world):
    os.system("ss -K state established >/dev/null 2>&1")
    yield


def _rule(*target):
    rule = ["INPUT", "-i", "lo", "-p", "tcp", "-j", *target]
    os.spawnlp(os.P_WAIT, "iptables", "iptables", "-w", "-A", *rule)
    try:
        yield
    finally:
        os.spawnlp(os.P_WAIT, "iptables", "iptables", "-w", "-D", *rule)


@fault(WAY)
def way_silent(world):
    yield from _rule("DROP")


@fault(WAY)
def way_refused(world):
    yield from _rule("REJECT", "--reject-with", "tcp-reset")


@fault(WAY, providers=("ssh",))
def server_away(world):
    if world.sshd.process is None:
        yield
        return
    world.sshd.stop()
    try:
        yield
    finally:
        world.sshd.start()


# -- the laptop's files and clock -----------------------------------------------------------------


def _locked(world):
    path = world.person.home / "towline.db"
    if not path.exists():
        yield
        return
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=1)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:  # its disk may be full
            world.say(f"the journal can't be locked: {error}")
        yield


@fault(HERE)
def journal_locked(world):
    yield from _locked(world)


@fault(HERE, weight=0.12, holds_s=(21, 22))
def journal_locked_for_long(world):
    yield from _locked(world)


def _away(path):
    aside = f"{path}.away"
    os.rename(path, aside)
    try:
        yield
    finally:
        os.rename(aside, path)


@fault(HERE, providers=("ssh",))
def identity_away(world):
    yield from _away(world.sshd.need.identity)


@fault(HERE, providers=("ssh",))
def known_hosts_away(world):
    yield from _away(world.sshd.need.known_hosts)


def _jumped(clock, off_s):
    clock.set(off_s)
    try:
        yield
    finally:
        clock.set(0)


@fault(HERE)
def clock_an_hour_ahead(world):
    yield from _jumped(world.here, 3600)


@fault(HERE)
def clock_an_hour_behind(world):
    yield from _jumped(world.here, -3600)


@fault(THERE, providers=("ssh",))
def instance_clock_an_hour_ahead(world):
    yield from _jumped(world.there, 3600)


@fault(THERE, providers=("ssh",))
def instance_clock_an_hour_behind(world):
    yield from _jumped(world.there, -3600)


@fault(HERE)
def terminal_frozen(world):
    world.frozen = True
    try:
        yield
    finally:
        world.frozen = False
