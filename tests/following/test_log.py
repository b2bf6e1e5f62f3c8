"""Promises 1 and 5: the log comes home whole however fast it is, and a cut-off one is gone on with."""

import zlib
from types import SimpleNamespace

import pytest

from towline.core.redact import Redactor
from towline.following.log import LogKeeper
from towline.following.reports import Reports
from towline.onboard import blocks

SECRET = "hunter2-long-secret-value"


def block(raw):
    return blocks.wrap(raw, "zlib")


class Keeping:
    """One driver's keeper after another, on one journal and one local log."""

    def __init__(self, driver, folder):
        self.driver = driver
        self.journal = None
        self.files = SimpleNamespace(log=folder / "log", log_times=folder / "times")

    def keeper(self):
        if self.journal is not None:
            self.journal.release_lease()
        ctx = self.driver.context()
        self.journal = ctx.journal
        ctx.redactor = Redactor([SECRET])
        ctx.files = self.files
        self.commits = 0
        advance = ctx.journal.advance

        def counted(*args):
            self.commits += 1
            advance(*args)

        ctx.journal.advance = counted
        return LogKeeper(ctx, Reports(ctx))

    def fact(self):
        return self.driver.store.facts(self.driver.run.id)["log"]


@pytest.fixture
def keeping(driver, tmp_path):
    return Keeping(driver, tmp_path)


def test_a_fast_log_makes_few_commits_and_its_end_one(keeping):
    with keeping.keeper() as log:
        for n in range(200):
            log.feed(block(b"epoch %d/300 loss=0.5\n" % (n + 1)))
        assert keeping.commits == 1  # the first; then it is no 0.2 s by the clock
        log.record()
        assert keeping.commits == 2
        log.record()
        assert keeping.commits == 2
        log.end()
    assert [one["epoch"] for one in keeping.driver.reports()] == list(range(1, 201))
    assert keeping.fact()["offset"] == keeping.files.log.stat().st_size


def test_what_was_not_recorded_is_read_again_and_not_doubled(keeping):
    with keeping.keeper() as log:
        log.feed(block(b"epoch 1/9\n"))
        log.feed(block(b"epoch 2/9\n"))  # written, and never recorded: the driver dies
    with keeping.keeper() as log:
        assert log.wish()["offset"] == 10
        log.feed(block(b"epoch 2/9\nepoch 3/9\n"))
        log.end()
    assert keeping.files.log.read_bytes() == b"epoch 1/9\nepoch 2/9\nepoch 3/9\n"
    assert [one["epoch"] for one in keeping.driver.reports()] == [1, 2, 3]


def test_the_next_driver_knows_the_log_again_by_its_last_bytes(keeping):
    with keeping.keeper() as log:
        log.feed(block(b"x" * 3000 + b"\nthe end\n"))
    mark = keeping.fact()["mark"]
    assert mark == [1024, zlib.crc32((b"x" * 3000 + b"\nthe end\n")[-1024:])]
    with keeping.keeper() as log:
        assert log.wish()["mark"] == mark


def test_a_mark_is_never_made_of_what_is_secret(keeping):
    """A check sum of a masked value would let it be guessed and tried."""
    with keeping.keeper() as log:
        log.feed(block(b"password is " + SECRET.encode() + b"\n"))
        assert keeping.fact()["mark"] == [0, 0]
        keeping.driver.clock.advance(1)
        log.feed(block(b"0123456789abcdef, and more that is no secret\n"))
        count, mark = keeping.fact()["mark"]
        assert mark == zlib.crc32(b"0123456789abcdef, and more that is no secret\n"[-count:])


def test_a_log_that_begins_anew_is_appended_to_what_is_here(keeping):
    with keeping.keeper() as log:
        log.feed(block(b"epoch 1/9 loss=1\nhalf a li"))
        log.hear({"anew": 26})
        assert keeping.fact()["offset"] == 0
        assert keeping.fact()["size_bytes"] == len(b"epoch 1/9 loss=1\nhalf a li")
        log.feed(block(b"epoch 2/9 loss=2\n"))
        log.record()
        assert keeping.fact()["offset"] == 17
    with keeping.keeper() as log:
        assert log.wish()["offset"] == 17
        log.end()
    assert keeping.files.log.read_bytes() == b"epoch 1/9 loss=1\nhalf a liepoch 2/9 loss=2\n"
    assert [one["epoch"] for one in keeping.driver.reports()] == [1, 2]


def test_a_log_that_is_ahead_of_its_reader_for_long_is_read_in_a_hurry_and_whole(keeping):
    piece = b"".join(b"epoch 1/9 step %d loss=0.5\n" % n for n in range(500))
    with keeping.keeper() as log:
        hurried = []
        feed = log._stream.feed
        log._stream.feed = lambda raw, *, hurried: (
            seen.append(hurried),
            feed(raw, hurried=hurried),
        )[1]
        seen = hurried
        log.feed(block(piece), more_waits=True)
        keeping.driver.clock.advance(0.6)
        log.feed(block(piece), more_waits=True)
        log.feed(block(piece))  # caught up for a moment
        keeping.driver.clock.advance(6)
        log.feed(block(piece))
        log.end()
    assert seen == [False, True, True, False]
    assert keeping.files.log.read_bytes() == piece * 4
