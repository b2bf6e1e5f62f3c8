"""Promise 1: the instance obeys the newest driver only; and every verb answers, whatever fails."""

import errno
import os
import subprocess

import pytest

from tests.onboard.machine import Machine, Refused, together
from towline.onboard import wire
from towline.onboard.main import _os_error
from towline.onboard.verbs import MUTATING, VERBS

LOOKING = {
    "attest",
    "inspect",
    "state",
    "follow",
    "survey",
    "look",
    "read",
    "examine",
    "preflight",
    "rearm",
    "digest",
    "send",
}


@pytest.fixture(scope="module")
def fenced():
    """A machine whose newest driver has epoch 7; module-wide, for nothing changes it."""
    machine = Machine()
    machine.ask("halt", epoch=7, grace_s=0)
    yield machine
    machine.close()


def test_every_verb_is_either_fenced_or_only_looks():
    assert set(VERBS) - LOOKING == MUTATING


def test_an_older_driver_is_refused_by_every_verb_that_acts(fenced):
    def refused(verb):
        with pytest.raises(Refused) as caught:
            fenced.ask(verb, epoch=6)
        return caught.value.body

    for body in together([lambda verb=verb: refused(verb) for verb in sorted(MUTATING)]):
        assert (body["kind"], body["epoch"]) == ("fenced", 7)
        assert "newer driver" in body["message"]


def test_an_older_driver_may_still_look(fenced):
    assert fenced.ask("state", epoch=1)["phase"] == "none"


def test_the_same_driver_goes_on(fenced):
    assert fenced.ask("halt", epoch=7, grace_s=0)["phase"] == "none"
    assert (fenced.control / "epoch").read_text() == "7"


def test_a_refused_start_starts_nothing(machine):
    machine.ask("halt", epoch=3, grace_s=0)
    with pytest.raises(Refused, match="newer driver"):
        machine.start("echo started > $TOWLINE_OUTPUT/starts", epoch=2)
    assert machine.state()["phase"] == "none"
    assert machine.marker("start") is None


def test_the_highest_of_many_drivers_rules(here):
    def ask(epoch):
        try:
            here.ask("halt", epoch=epoch, grace_s=0)
        except Refused as refused:
            return refused.body["kind"]
        return "done"

    answers = together([lambda epoch=epoch: ask(epoch) for epoch in (3, 12, 7, 101, 99, 12)])
    assert answers[3] == "done"
    assert set(answers) <= {"done", "fenced"}
    assert (here.control / "epoch").read_text() == "101"
    assert ask(100) == "fenced"


def talk(machine, verb, sent):
    """What a verb answers to these bytes."""
    argv = [machine.python, "-IS", machine.layout.onboard, verb]
    done = subprocess.run(argv, env=machine.env, input=sent, capture_output=True, check=False)
    assert done.stdout.startswith(wire.MAGIC), done.stderr
    frame = done.stdout[len(wire.MAGIC) :]
    kind, length = wire.unpack_header(frame[: wire.HEADER.size])
    assert len(frame) == wire.HEADER.size + length
    return kind, wire.json.loads(frame[wire.HEADER.size :]), done.returncode


@pytest.mark.parametrize("sent", [b"", b"J\0\0", wire.pack(wire.JSON, b'{"root": 1}')[:-3]])
def test_a_request_cut_off_is_told_apart(here, sent):
    kind, body, code = talk(here, "state", sent)
    assert (kind, body["kind"], code) == (wire.ERROR, "eof", 1)


@pytest.mark.parametrize(
    "sent",
    [
        wire.pack(wire.JSON, b"{}"),
        wire.pack(wire.JSON, b"no json"),
        wire.pack(wire.JSON, b"\xff"),
        wire.HEADER.pack(wire.JSON, 2**31),
    ],
)
@pytest.mark.parametrize("verb", ["state", "start", "no-such-verb"])
def test_a_request_nobody_understands_is_answered_all_the_same(here, verb, sent):
    kind, body, code = talk(here, verb, sent)
    assert (kind, code) == (wire.ERROR, 1)
    assert body["message"]


def test_a_failure_of_the_system_carries_its_reason(here):
    with pytest.raises(Refused) as caught:
        here.ask("halt", root="/proc/no-such-folder", grace_s=0)
    assert caught.value.body["kind"] == "os_error"
    assert "/proc" in caught.value.body["message"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_apart(number):
    body = _os_error(OSError(number, os.strerror(number), "/data"))
    assert body["kind"] == "disk_full"
    assert "/data" in body["message"]


def test_the_control_folder_is_closed_to_others(machine):
    machine.start("true", cwd=machine.layout.code)
    machine.to_the_end()
    for path in (machine.control, machine.root / "code", machine.root / "output"):
        assert path.stat().st_mode & 0o077 == 0
    for path in machine.control.iterdir():
        if path.name != "onboard.pyz" and not path.is_dir():
            assert path.stat().st_mode & 0o077 == 0
