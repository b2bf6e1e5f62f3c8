"""Step connect: a host key that is not the pinned one, and one that is only not there yet."""

import asyncio
from types import SimpleNamespace

import pytest
from clock import FakeClock
from doubles import FakeProvider

from towline import errors
from towline.core.task import Limits
from towline.ports import Banner
from towline.steps import connect

OTHER = errors.HostKeyMismatch("another key")


class Sshd:
    """A line to an SSH server that shows another host key the first `others` times."""

    address = "u@h:22"

    def __init__(self, others):
        self.others, self.dials = others, 0

    async def probe(self, _address, _timeout_s):
        return Banner(accepts=True, text="SSH-2.0-x", detail="")

    async def dial_once(self, _timeout_s):
        self.dials += 1
        if self.dials <= self.others:
            raise OTHER


def waited(sshd, **features):
    """Wait for that server; what the status line said meanwhile."""
    clock, said = FakeClock(), []

    async def board(_line):
        return {"boarded": True}

    async def alive():
        """It lives."""

    ctx = SimpleNamespace(
        clock=clock, provider=FakeProvider(clock, **features), dialer=sshd, board=board,
        status=said.append, require_alive=alive, task=SimpleNamespace(limits=Limits()),
    )  # fmt: skip
    assert asyncio.run(connect._wait(ctx, sshd)) == {"boarded": True}
    return said


def test_another_host_key_ends_it_at_once():
    sshd = Sshd(others=1)
    with pytest.raises(errors.HostKeyMismatch):
        waited(sshd)
    assert sshd.dials == 1


def test_a_host_key_that_is_installed_late_is_waited_for():
    sshd = Sshd(others=3)
    said = waited(sshd, host_key_late=True)
    assert sshd.dials == 4
    assert all("not yet with the host key" in line for line in said)


def test_a_late_host_key_that_never_comes_ends_within_the_limit():
    sshd = Sshd(others=10**6)
    with pytest.raises(errors.NotReady, match="not yet with the host key"):
        waited(sshd, host_key_late=True)
