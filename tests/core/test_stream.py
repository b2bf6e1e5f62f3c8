"""Promise 1 for the log: cut anywhere, killed anywhere, taken up anywhere, it ends the same."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.core.redact import Redactor
from towline.core.stream import LogStream

SECRET = "hunter2-long-secret-value"
KEY = (
    b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
    b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
    b"QyNTUxOQAAACDepoch1AAAA\nepoch 9/9 inside\n"
    b"-----END OPENSSH PRIVATE KEY-----\n"
)
LOG = (
    b"starting\r\nepoch 1/4 loss=0.5\n\n  password=hunter2hunter2 token\n"
    b" 10%|#  | epoch 2/4\r 50%|## | epoch 2/4\r100%|###|\n"
    b"secret is "
    + SECRET.encode()
    + b" and more\nepoch 3/4 acc=1\n"
    + KEY
    + b"\xff\xfe\x00binary\x00\n"
    b'{"type":"progress","data":{"epoch":4,"total_epochs":4,"metrics":{"loss":0.1}}}\n'
    b"Authorization: Bearer abcdefghijklmnopqrstuvwxyz0123456789\n"
    b"epoch 4/4 done, no newline at the end"
)


def redactor():
    found = Redactor()
    found.add(SECRET)
    return found


class Home:
    """What survives a driver: the local file and the journal's record, written in that order."""

    def __init__(self):
        self.file = bytearray()
        self.log = {"offset": 0, "size_bytes": 0}
        self.parser = None
        self.events = []
        self.ended = False

    def drive(self, log, pieces, dies_at=None):
        """One driver's life: it follows `log` in pieces of these sizes until it dies.

        Each piece has three moments to die at: before its write, in it, and between it and the
        record of it.
        """
        moment = itertools.count()
        del self.file[self.log["size_bytes"] :]
        stream = LogStream(redactor(), self.log["offset"], self.log["size_bytes"], self.parser)
        at = self.log["offset"]
        for size in itertools.chain(pieces, itertools.repeat(len(log) + 1)):
            block = log[at : at + size]
            at += len(block)
            last = at >= len(log) and not block
            part = stream.end() if last else stream.feed(block)
            if next(moment) == dies_at:
                return
            if next(moment) == dies_at:
                self.file += part.clean[: len(part.clean) // 2]
                return
            self.file += part.clean
            if next(moment) == dies_at:
                return
            assert part.offset >= self.log["offset"]
            assert part.size_bytes <= len(self.file)
            self.log = {"offset": part.offset, "size_bytes": part.size_bytes}
            self.parser = json.loads(json.dumps(part.parser_state))
            self.events += [progress.data() for progress in part.progress]
            if last:
                self.ended = True
                return


def undisturbed(log):
    home = Home()
    home.drive(log, [len(log) + 1])
    assert home.ended
    return bytes(home.file), home.events


CLEAN, EVENTS = undisturbed(LOG)


def test_the_undisturbed_reading_is_clean_and_complete():
    assert SECRET.encode() not in CLEAN
    assert b"b3BlbnNzaC1rZXkt" not in CLEAN
    assert [event["epoch"] for event in EVENTS] == [1, 2, 3, 4]
    assert CLEAN.startswith(b"starting\r\nepoch 1/4")
    assert CLEAN.endswith(b"no newline at the end")


def test_the_end_accounts_for_every_raw_byte():
    home = Home()
    home.drive(LOG, [7] * 30)
    assert home.log == {"offset": len(LOG), "size_bytes": len(CLEAN)}


def test_a_log_without_secrets_comes_home_byte_for_byte():
    plain = bytes(range(256)) * 3 + b"\nlines\n\n\r\rof\x00any\xc3kind"
    assert undisturbed(plain)[0] == plain
    assert undisturbed(b"") == (b"", [])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 333])
def test_pieces_of_any_size_give_the_same_end(size):
    home = Home()
    home.drive(LOG, [size] * (len(LOG) // size + 1))
    assert (bytes(home.file), home.events) == (CLEAN, EVENTS)


def test_one_cut_at_any_byte_gives_the_same_end():
    for at in range(len(LOG) + 1):
        home = Home()
        home.drive(LOG, [at])
        assert (bytes(home.file), home.events) == (CLEAN, EVENTS)


@pytest.mark.parametrize("size", [1, 5, 64, 400])
def test_a_driver_that_dies_at_any_moment_loses_and_doubles_nothing(size):
    pieces = [size] * (len(LOG) // size + 1)
    step = max(1, len(pieces) * 3 // 90)
    for dies_at in range(0, len(pieces) * 3 + 3, step):
        home = Home()
        home.drive(LOG, pieces, dies_at)
        while not home.ended:
            home.drive(LOG, [size + 1] * 3)
        assert (bytes(home.file), home.events) == (CLEAN, EVENTS)


MID_LINE = [b"epoch 1/2 " + KEY, b"epoch 1/2\nx" + KEY + b"epoch 2/2\n", b"a\b\bepoch 2/2\bb\n"]


@pytest.mark.parametrize("log", MID_LINE)
def test_a_driver_that_dies_inside_a_line_loses_and_doubles_nothing(log):
    for at in range(len(log)):
        home = Home()
        home.drive(log, [at], dies_at=3)
        if not home.ended:
            home.drive(log, [])
        assert (bytes(home.file), home.events) == undisturbed(log)


def test_progress_is_told_with_the_offset_that_covers_it():
    log = b"epoch 1/2\n" * 50 + b"x" * 300_000 + b"\nepoch 2/2\n"
    stream, covered, told = LogStream(redactor(), 0, 0), 0, 0
    for at in range(0, len(log), 9_999):
        part = stream.feed(log[at : at + 9_999])
        covered, told = part.offset, told + len(part.progress)
        assert told == len(undisturbed(log[:covered])[1])


sizes = st.lists(st.integers(1, 120), max_size=30)
lines = st.lists(
    st.sampled_from([
        b"epoch 1/2 loss=1\n",
        b"epoch 2/2\r",
        b"\n",
        b"\r",
        b"\x00\xff",
        b"x" * 40,
        b"epoch 1",
        b"/2",
        SECRET.encode(),
        SECRET.encode()[:9],
        b"password=" + b"Pa55w0rd!" * 2 + b" ",
        b"Bearer abcdefghijklmnopqrstuv0123456789",
        KEY,
        KEY[36:90],
        "ä€😀".encode(),
    ]),
    max_size=14,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(lines, st.lists(st.tuples(sizes, st.integers(0, 60)), max_size=4), sizes)
def test_any_log_any_pieces_any_deaths_give_the_same_end(log, lives, last):
    clean, events = undisturbed(log)
    home = Home()
    for pieces, dies_at in lives:
        if not home.ended:
            home.drive(log, pieces, dies_at)
    if not home.ended:
        home.drive(log, last)
    assert bytes(home.file) == clean
    assert home.events == events
    assert home.log == {"offset": len(log), "size_bytes": len(clean)}


@settings(max_examples=100, deadline=None)
@given(lines, sizes)
def test_a_growing_log_is_followed_as_if_it_had_been_whole(log, pieces):
    """The far end sends what there is, and the driver dies between any two pieces."""
    clean, events = undisturbed(log)
    home = Home()
    there = 0
    for size in pieces:
        there = min(len(log), there + size)
        home.drive(log[:there] + b"", [size], dies_at=3)
        home.ended = False
    home.drive(log, [])
    assert (bytes(home.file), home.events) == (clean, events)
