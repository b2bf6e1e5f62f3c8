"""Promise 1 for the log: from any byte on, every byte, and the end at once."""

import os
import random
import time
import zlib

import pytest

from tests.onboard.machine import Refused, kill, wait_for
from towline.onboard import blocks, wire

CONTENT = random.Random(3).randbytes(700_000) + b"\0\r\n\0 and no newline at the end\0"


@pytest.fixture
def written(machine):
    """A training that printed every kind of byte and ended."""
    (machine.home / "content").write_bytes(CONTENT)
    machine.start("cat ~/content; exit 2")
    machine.to_the_end()
    return machine


def test_any_offset_gives_exactly_the_rest(written):
    for offset in (0, 1, 12_345, 256 * 1024, 300_001, len(CONTENT) - 1, len(CONTENT)):
        log, ended = written.follow(offset)
        assert log == CONTENT[offset:]
        assert ended["offset"] == len(CONTENT)
        assert (ended["phase"], ended["exit"]["code"]) == ("ended", 2)


def test_an_offset_past_the_end_gives_the_log_from_its_beginning_and_says_so(here):
    here.start("echo hi")
    here.to_the_end()
    frames, ended = here.answer(here.open("follow", log=here.layout.log, offset=50))
    assert said(frames) == [{"anew": 50}]
    assert bytes(blocks.unwrap(frames[-1][1])) == b"hi\n"
    assert (ended["offset"], ended["phase"]) == (3, "ended")


def said(frames):
    """What is told of the log beside it; not how old the instance is, or how silent."""
    told = [wire.json.loads(data) for kind, data in frames if kind == wire.JSON]
    return [one for one in told if not {"age_s", "idle_s"} & set(one)]


def test_a_log_that_is_cut_off_and_has_grown_beyond_is_read_from_its_beginning(machine):
    """What stands before the offset tells: the size alone does not."""
    machine.start("seq 1000 1999; : > ~/towline/*/training.log; seq 3000 5999")
    machine.to_the_end()
    before = "".join(f"{n}\n" for n in range(1000, 2000)).encode()
    mark = [1000, zlib.crc32(before[-1000:])]
    request = {"log": machine.layout.log, "offset": len(before), "mark": mark}
    frames, ended = machine.answer(machine.open("follow", **request))
    assert said(frames)[0] == {"anew": 5000}
    got = b"".join(blocks.unwrap(data) for kind, data in frames if kind == wire.DATA)
    assert got == machine.log() == "".join(f"{n}\n" for n in range(3000, 6000)).encode()
    same = machine.log()[:500]
    request |= {"offset": 500, "mark": [500, zlib.crc32(same)]}
    frames, ended = machine.answer(machine.open("follow", **request))
    assert not said(frames)
    assert ended["offset"] == 15_000


def test_a_log_that_is_cut_off_or_replaced_while_it_is_followed_loses_nothing_after(here):
    until = "while [ ! -e {} ]; do sleep 0.02; done; "
    here.start("echo one; " + until.format("a") + ": > ~/towline/*/training.log; echo second; "
               + until.format("c"))  # fmt: skip
    follower = Follower(here)
    try:
        assert follower.until(b"one") == b"one\n"
        (here.root / "code" / "a").touch()
        assert follower.until(b"second") == b"second\n"
        (here.home / "log").write_bytes(b"second\nthird\n")
        (here.home / "log").replace(here.layout.log)
        assert follower.until(b"third") == b"second\nthird\n"
        assert [remark for remark in follower.said if "anew" in remark] == [
            {"anew": 4},
            {"anew": 7},
        ]
        (here.root / "code" / "c").touch()
    finally:
        follower.close()


def test_the_end_is_told_before_the_rest_of_a_long_log(here):
    here.start("head -c 3000000 /dev/zero; exit 4")
    here.to_the_end()
    frames, ended = here.answer(here.open("follow", log=here.layout.log, offset=0))
    first = said(frames[:2])[0]
    assert first["left_bytes"] == 3_000_000
    assert first["ended"]["exit"]["code"] == 4
    assert ended["offset"] == 3_000_000


def test_no_more_is_under_way_than_was_asked_for_and_the_end_is_told_meanwhile(machine):
    machine.start("head -c 3000000 /dev/zero; while [ ! -e end ]; do sleep 0.02; done")
    process = machine.open("follow", log=machine.layout.log, offset=0, window=2)
    assert process.stdout.read(len(wire.MAGIC)) == wire.MAGIC
    pipe = wire.Pipe(process.stdout, process.stdin)
    try:
        assert [pipe.read()[0] for _ in range(3)] == [wire.JSON, wire.DATA, wire.DATA]
        (machine.root / "code" / "end").touch()
        kind, payload = pipe.read()  # nothing of the log, for nothing of it was taken
        assert kind == wire.JSON
        assert wire.json.loads(payload)["left_bytes"] == 3_000_000 - 2 * 256 * 1024
        got = 0
        while got < 3_000_000 - 2 * 256 * 1024:
            pipe.send(wire.END)
            kind, payload = pipe.read()
            assert kind == wire.DATA
            got += len(blocks.unwrap(payload))
        pipe.send(wire.END)
        time.sleep(0.2)
        pipe.send(wire.END)  # the result waits for the last word, which would meet nobody else
        assert pipe.read()[0] == wire.RESULT
    finally:
        process.kill()
        process.communicate()


def test_a_log_that_has_been_sent_whole_says_so_at_once(here):
    here.start("echo hi; sleep 30")
    follower = Follower(here)
    try:
        follower.until(b"hi")
        began = time.monotonic()
        payload = follower.pipe.read()[1]
        assert wire.json.loads(payload)["idle_s"] < 1
        assert time.monotonic() - began < 1
    finally:
        follower.close()


def test_without_a_training_the_answer_is_none(here):
    log, ended = here.follow()
    assert (log, ended["phase"]) == (b"", "none")


class Follower:
    """Reads a follow verb's frames while the training runs."""

    def __init__(self, machine, offset=0):
        self.process = machine.open("follow", log=machine.layout.log, offset=offset)
        assert self.process.stdout.read(len(wire.MAGIC)) == wire.MAGIC
        self.pipe = wire.Pipe(self.process.stdout, None)
        self.said = []

    def until(self, text):
        """Bytes up to and including those that hold this text."""
        got = b""
        while text not in got:
            kind, payload = self.pipe.read()
            assert kind in {wire.DATA, wire.JSON}
            if kind == wire.JSON:
                self.said.append(wire.json.loads(payload))
            got += blocks.unwrap(payload) if kind == wire.DATA else b""
        return got

    def close(self):
        self.process.kill()
        self.process.communicate()


def test_a_training_that_prints_slowly_is_shown_as_it_prints(here):
    here.start("echo one; while [ ! -e two ]; do sleep 0.02; done; printf two; sleep 30")
    follower = Follower(here)
    try:
        assert follower.until(b"one") == b"one\n"
        (here.root / "code" / "two").touch()
        began = time.monotonic()
        assert follower.until(b"two") == b"two"
        assert time.monotonic() - began < 1.0
    finally:
        follower.close()


def test_the_end_is_noticed_within_a_second_with_the_last_bytes(machine):
    machine.start("while [ ! -e end ]; do sleep 0.02; done; printf last; exit 9")
    process = machine.open("follow", log=machine.layout.log, offset=0)
    time.sleep(0.3)
    (machine.root / "code" / "end").touch()
    began = time.monotonic()
    frames, ended = machine.answer(process)
    assert time.monotonic() - began < 1.0
    assert ended["exit"]["code"] == 9
    assert [bytes(blocks.unwrap(data)) for kind, data in frames if kind == wire.DATA] == [b"last"]


def test_followers_cut_off_at_any_moment_lose_and_double_nothing(here):
    here.start("for i in $(seq 300); do echo line $i of the log; sleep 0.002; done")
    expected = "".join(f"line {n} of the log\n" for n in range(1, 301)).encode()
    got = b""
    rng = random.Random(5)
    while len(got) < len(expected) // 2:
        follower = Follower(here, len(got))
        for _ in range(rng.randint(1, 6)):
            kind, payload = follower.pipe.read()
            if kind == wire.DATA:
                got += blocks.unwrap(payload)
        follower.close()
    rest, ended = here.follow(len(got))
    assert got + rest == expected
    assert ended["phase"] == "ended"


def test_a_silent_training_says_how_long_it_has_been_silent(here):
    here.start("echo hi; sleep 30")
    follower = Follower(here)
    try:
        follower.until(b"hi")
        follower.pipe.read()  # that all has been sent
        kind, payload = follower.pipe.read()
        assert kind == wire.JSON
        assert 1.5 < wire.json.loads(payload)["idle_s"] < 4
    finally:
        follower.close()


def test_a_follower_is_a_sign_of_life_for_the_guard(here):
    contact = here.control / "contact"
    contact.touch()
    os.utime(contact, (1, 1))
    here.follow()
    assert time.time() - contact.stat().st_mtime < 10


def test_a_training_interrupted_while_followed_ends_the_following(here):
    here.start("echo hi; sleep 30")
    process = here.open("follow", log=here.layout.log, offset=0)
    supervisor, job = here.supervisor(), here.marker("job")["pid"]
    wait_for(lambda: here.log() == b"hi\n")
    kill(supervisor)
    kill(job)
    _frames, ended = here.answer(process)
    assert (ended["phase"], ended["exit"], ended["offset"]) == ("interrupted", None, 3)


def test_a_log_that_cannot_be_read_is_an_error_that_names_it(here):
    with pytest.raises(Refused, match="directory"):
        here.ask("follow", log=str(here.home), offset=0)
