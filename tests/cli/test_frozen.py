"""Nobody reads what a driver shows (Ctrl-S, a stalled ssh, a full pipe): the drive goes on."""

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from towline.cli import spool
from towline.cli.text import Out

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX pipes and terminals")


class Reader:
    """The far end of a pipe or terminal that is full, until `read` lets it through."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
        fcntl.fcntl(theirs, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        self.filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                self.filled += os.write(theirs, b"#" * 256)
        fcntl.fcntl(theirs, fcntl.F_SETFL, flags)

    def give(self):
        """Close this process's copy of the end that another one writes to."""
        os.close(self.theirs)

    def read(self):
        """All that was written, to the end, without what filled it."""
        found = b""
        with contextlib.suppress(OSError):  # what Linux says of a terminal without another side
            while part := os.read(self.ours, 65536):
                found += part
        return found[self.filled :].decode()


@pytest.fixture(params=["pipe", "terminal"])
def full(request):
    reader = Reader(*(os.pipe() if request.param == "pipe" else pty.openpty()))
    yield reader
    os.close(reader.ours)


@pytest.fixture
def full_pipe():
    reader = Reader(*os.pipe())
    yield reader
    os.close(reader.ours)


def started(laptop, reader, *arguments):
    """`towline` with all its output to this reader, once its training is under way."""
    laptop.be_patient()
    env = laptop.env | {"TERM": "xterm-256color"}
    ends = {"stdout": reader.theirs, "stderr": reader.theirs}
    process = laptop.popen(*arguments, env=env, **ends)
    reader.give()
    laptop.wait_for_epoch()
    return process


def lease(laptop):
    return laptop.rows("SELECT lease_expires_at FROM runs")[0][0]


def test_a_terminal_that_takes_nothing_does_not_hold_up_the_run(laptop, full):
    process = started(laptop, full, "train", "-y")
    before = lease(laptop)
    laptop.wait_until(lambda: lease(laptop) > before)
    laptop.go.touch()
    assert process.wait(timeout=30) == 0
    assert (laptop.project / "runs" / "noop" / "model.pt").read_bytes() == b"model" * 100
    assert laptop.rows("SELECT state FROM runs") == [("succeeded",)]
    log = laptop.home / "runs" / laptop.json("status")["id"] / "training.log"
    assert "epoch 2/2" in log.read_text()
    assert laptop.is_clean()


def test_ctrl_c_on_a_frozen_terminal_detaches(laptop, full):
    process = started(laptop, full, "train", "-y")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    laptop.wait_until(lambda: "process" in laptop("status").stdout)
    laptop.go.touch()
    assert "Model: runs/noop/model.pt" in laptop("wait").stdout


def test_a_reader_that_comes_late_gets_every_event(laptop, full_pipe):
    laptop.be_patient()
    process = laptop.popen(
        "train", "-y", "--json", stdout=full_pipe.theirs, stderr=subprocess.DEVNULL
    )
    full_pipe.give()
    laptop.wait_for_epoch()
    laptop.go.touch()
    laptop.wait_until(
        lambda: laptop.rows("SELECT 1 FROM attempts WHERE step = 'follow' AND outcome = 'done'")
    )
    shown = [json.loads(line) for line in full_pipe.read().splitlines()]
    assert process.wait(timeout=20) == 0
    assert shown[:-1] == [
        json.loads(line) for line in laptop("events", "--json").stdout.splitlines()
    ]
    assert shown[-1]["state"] == "succeeded"


BROKEN = """
import sys
from towline.cli import main, render
def event(self, event):
    raise RuntimeError("a bug of the view")
render.PlainView.event = event
sys.exit(main.run_command(["train", "-y"]))
"""


def test_a_bug_of_the_view_does_not_change_how_the_run_went(laptop):
    argv = [sys.executable, "-c", BROKEN]
    done = subprocess.run(
        argv, cwd=laptop.project, env=laptop.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "a bug of the view" in done.stderr
    assert "Model: runs/noop/model.pt" in done.stdout


# -- the spool itself -----------------------------------------------------------------------------


@pytest.fixture
def impatient(full_pipe, monkeypatch):
    """Makes an `Out` whose standard output is a full pipe, with little patience."""
    monkeypatch.setattr(spool, "PATIENCE_S", 0.2)
    monkeypatch.setattr(Out.settle, "__defaults__", (0.2,))
    with os.fdopen(full_pipe.theirs, "w", encoding="utf-8") as stream:

        def make():  # in the test: pytest sets standard output anew before it
            monkeypatch.setattr(sys, "stdout", stream)
            return Out()

        yield make


def test_what_nobody_takes_is_given_up_at_the_end(impatient):
    out = impatient()
    began = time.monotonic()
    with out.unblocked():
        out.line("one")
        assert out.is_behind
        assert not out.is_stuck
    assert 0.1 < time.monotonic() - began < 2
    assert out.is_closed
    out.line("goes nowhere, and does not block")


def test_what_is_taken_slowly_is_waited_for(impatient, full_pipe):
    out = impatient()
    got = []

    def slow_reader():
        while len(b"".join(got)) < full_pipe.filled + 20_000:
            got.append(os.read(full_pipe.ours, 4096))
            time.sleep(0.02)

    reader = threading.Thread(target=slow_reader)
    with out.unblocked():
        out.line("x" * 19_999)
        reader.start()
    reader.join()
    assert not out.is_closed
    assert b"".join(got).endswith(b"x" * 100 + b"\n")


def test_lines_beyond_the_limit_are_skipped_and_that_is_said(impatient, full_pipe, monkeypatch):
    out = impatient()
    monkeypatch.setattr(spool, "_ROOM_BYTES", 10)
    with out.unblocked():
        for number in range(5):
            out.line(f"line {number}")
        got = b""
        while not got.endswith(b"line 1\n"):
            got += os.read(full_pipe.ours, 65536)
        out.settle()
        out.line("after")
        while not got.endswith(b"after\n"):
            got += os.read(full_pipe.ours, 65536)
    assert got[full_pipe.filled :] == b"line 0\nline 1\n... 3 lines skipped\nafter\n"


def test_a_reader_that_leaves_ends_nothing(impatient, full_pipe):
    out = impatient()
    with out.unblocked():
        os.dup2(os.open(os.devnull, os.O_RDONLY), full_pipe.ours)  # the pipe has no reader now
        out.line("one")
        out.settle()
        out.line("two")
    assert out.is_closed
