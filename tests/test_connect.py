"""Step connect: no host but the one that was rented, and no GPU but the one that is paid for."""

import asyncio
from types import SimpleNamespace

import pytest
from clock import FakeClock
from doubles import FakeProvider

from towline import errors
from towline.core.attest import proof
from towline.core.instance import Address
from towline.core.task import Limits
from towline.home import RunFiles
from towline.ports import Banner
from towline.steps import connect

OTHER = errors.HostKeyMismatch("another key")


class Sshd:
    """A line to an SSH server that shows another host key the first `others` times."""

    address = Address(host="h", port=22, user="u", host_key="ssh-ed25519 AAAA")

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
        open_line=lambda _address: sshd,
    )  # fmt: skip
    assert asyncio.run(connect._wait(ctx, Sshd.address)) == (sshd, {"boarded": True})
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


class Attested:
    """A line to a machine that was given this comment with our key, and shows this host key."""

    address = Sshd.address

    def __init__(self, comment, shows=Sshd.address.host_key):
        self.comment, self.shows = comment, shows

    async def call(self, verb, args):
        assert verb == "attest"
        assert args["host_key"] == Sshd.address.host_key
        mac = self.comment and proof(self.comment, args["nonce"], self.shows)
        return {"mac": mac}


def attested(tmp_path, line, grade="B"):
    """Let a machine prove itself; (facts, notes)."""
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAAkey towline-x:secret\n")
    facts, notes = {}, []
    ctx = SimpleNamespace(
        provider=FakeProvider(FakeClock(), host_key_grade=grade), note=notes.append,
        files=RunFiles(tmp_path),
        journal=SimpleNamespace(fact=facts.__setitem__),
    )  # fmt: skip
    asyncio.run(connect._attest(ctx, line))
    return facts, notes


def test_a_machine_that_knows_our_keys_comment_is_proven_and_its_host_key_pinned(tmp_path):
    facts, notes = attested(tmp_path, Attested("towline-x:secret"))
    assert facts == {"host_key": Sshd.address.host_key}
    assert "grade B" in notes[0]


@pytest.mark.parametrize(
    "line", [Attested("towline-x:guess"), Attested("towline-x:secret", shows="ssh-ed25519 BBBB")]
)
def test_a_wrong_proof_ends_it(tmp_path, line):
    with pytest.raises(errors.HostKeyMismatch):
        attested(tmp_path, line)


def test_a_host_that_proves_nothing_is_refused_unless_the_settings_take_it(tmp_path):
    with pytest.raises(errors.HostKeyUnknown, match="can't prove"):
        attested(tmp_path, Attested(None))
    _facts, notes = attested(tmp_path, Attested(None), grade="C")
    assert "not proven (grade C)" in notes[0]


H100 = {"name": "NVIDIA H100 80GB HBM3", "memory_mib": "81559", "driver": "580"}


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        ([], "no GPU"),
        ([{**H100, "name": "NVIDIA A10"}], "NVIDIA A10"),
        ([H100, H100], "2 x NVIDIA H100"),
        ([{"error": "no devices were found"}], "no devices were found"),
    ],
)
def test_another_gpu_than_offered_is_noticed(gpus, said):
    with pytest.raises(errors.WrongMachine, match="the offer said 1 x H100") as caught:
        connect._require_offered({"gpu": "H100", "gpus": 1}, None, gpus)
    assert said in caught.value.message


def test_the_gpu_that_was_offered_is_taken():
    connect._require_offered({"gpu": "H100", "gpus": 1}, None, [H100])
    connect._require_offered({"gpu": "H100", "gpus": 1, "vram_gb": 79.6}, "H100-80GB:1", [H100])
    connect._require_offered({"gpu": None, "gpus": 0}, None, [])


def test_an_own_machine_has_what_it_has():
    connect._require_offered({"gpu": None, "gpus": 0}, "H100:8", [])


MIG = {"name": "NVIDIA A100-SXM4-40GB", "memory_mib": "40960", "driver": "580", "mig": "Enabled"}
SLICE = {"name": "NVIDIA H100 80GB HBM3", "memory_mib": "9984", "driver": "580", "mig": ""}
SHARE = {"name": "NVIDIA H100-1-10C", "memory_mib": "10240", "driver": "580", "mig": "[N/A]"}
SILENT = {"name": "NVIDIA H100 80GB HBM3", "memory_mib": "[N/A]", "driver": "580", "mig": "[N/A]"}


@pytest.mark.parametrize(
    ("offer", "asked", "gpus", "said"),
    [
        ({"gpu": "A100", "gpus": 1}, "A100:1", [MIG], "divided"),
        ({"gpu": "H100", "gpus": 1}, "H100:1", [SLICE], "10 GB"),
        ({"gpu": "H100", "gpus": 1}, "H100:1", [SHARE], "a part of one"),
        ({"gpu": "H100", "gpus": 2}, "H100:2", [H100], "has 1 GPUs"),
        ({"gpu": "H100", "gpus": 2}, "H100:2", [H100, SLICE], "10 GB"),
        (
            {"gpu": "A100", "gpus": 1, "vram_gb": 80.0}, "A100:1",
            [{**MIG, "mig": "Disabled"}], "43 GB",
        ),
        ({"gpu": "A100", "gpus": 1}, "A100-80GB:1", [{**MIG, "mig": "Disabled"}], "asked for"),
        (
            {"gpu": "RTX4090", "gpus": 1}, "RTX4090:1",
            [{**H100, "name": "NVIDIA GeForce RTX 4090 D"}], "is another",
        ),
        ({"gpu": "H100", "gpus": 1}, "H100:2", [H100], "asked for were 2 x H100"),
    ],
)  # fmt: skip
def test_a_part_of_a_gpu_or_a_smaller_one_is_not_what_was_asked_for(offer, asked, gpus, said):
    with pytest.raises(errors.WrongMachine, match=said) as caught:
        connect._require_offered(offer, asked, gpus)
    assert caught.value.exit_code == 4


def test_memory_that_the_driver_does_not_tell_is_not_held_against_the_machine():
    connect._require_offered({"gpu": "H100", "gpus": 1, "vram_gb": 80.0}, "H100:1", [SILENT])
