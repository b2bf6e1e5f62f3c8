"""Side files come home beside the log: every byte once, of the right files only."""

import base64
import json
import os
import random
import time
from pathlib import Path

import pytest

from tests.onboard.machine import wait_for
from towline.onboard import wire

NAMES = [["results.csv", False], ["*.jsonl", False], ["state.json", True]]


@pytest.fixture
def waiting(here):
    """A training that goes on until the file `end` is there."""
    here.start("while [ ! -e end ]; do sleep 0.02; done")
    return here


class Following:
    """One `follow` that watches; `frames` are its remarks so far."""

    def __init__(self, machine, known=None, names=NAMES):
        roots = [machine.layout.output, machine.layout.code]
        watch = {"roots": roots, "names": names, "known": known or {}, "sample_s": 5}
        self.process = machine.open("follow", log=machine.layout.log, offset=0, watch=watch)
        assert self.process.stdout.read(len(wire.MAGIC)) == wire.MAGIC
        self.pipe = wire.Pipe(self.process.stdout, None)
        self.frames = []
        self.result = None

    def until(self, fact, within_s=15):
        """Read frames until a fact holds of them."""
        deadline = time.monotonic() + within_s
        while not fact(self.frames):
            assert time.monotonic() < deadline
            assert self.step()

    def to_the_end(self):
        while self.step():
            pass
        return self.frames

    def step(self):
        kind, payload = self.pipe.read()
        if kind == wire.JSON:
            self.frames.append(json.loads(payload))
        if kind == wire.RESULT:
            self.result = json.loads(payload)
        return kind != wire.RESULT

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def follow():
    made = []

    def make(*args, **options):
        made.append(Following(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def pieces(frames, path):
    return [one for one in frames if one.get("side") == path]


def content(frames, path):
    """A file as its frames tell it; one that begins at 0 again begins anew."""
    data = b""
    for one in pieces(frames, path):
        data = data[: one["offset"]] + base64.b64decode(one["data"])
    return data


def end(machine):
    (machine.root / "code" / "end").touch()


def known(frames):
    return {
        one["side"]: {"offset": one["end"], "mark": one["mark"]} for one in frames if "side" in one
    }


def test_a_file_that_grows_comes_home_as_it_grows(waiting, follow):
    following = follow(waiting)
    path = waiting.root / "output" / "results.csv"
    path.write_bytes(b"epoch,loss\n1,0.5\n")
    following.until(lambda frames: content(frames, "output/results.csv").endswith(b"0.5\n"))
    with path.open("ab") as file:
        file.write(b"2,0.25\n")
    following.until(lambda frames: content(frames, "output/results.csv").endswith(b"0.25\n"))
    with path.open("ab") as file:
        file.write(b"3,0.125\n")
    end(waiting)  # what is written last comes too
    frames = following.to_the_end()
    assert content(frames, "output/results.csv") == path.read_bytes()
    assert sum(len(base64.b64decode(one["data"])) for one in frames if "side" in one) == len(
        path.read_bytes()
    )


def test_what_one_follower_read_the_next_does_not_read_again(waiting, follow):
    path = waiting.root / "code" / "runs" / "train" / "results.csv"
    path.parent.mkdir(parents=True)
    written = random.Random(2).randbytes(600_000)
    path.write_bytes(written[:400_000])
    first = follow(waiting)
    name = "code/runs/train/results.csv"
    first.until(lambda frames: len(content(frames, name)) == 400_000)
    first.close()
    with path.open("ab") as file:
        file.write(written[400_000:])
    end(waiting)
    second = follow(waiting, known(first.frames))
    frames = second.to_the_end()
    assert pieces(frames, name)[0]["offset"] == 400_000
    assert content(first.frames + frames, name) == written


@pytest.mark.parametrize("again", [b"epoch,loss,acc\n1,0.5,0.1\n2,0.25,0.2\n", b"epoch,l\n", b""])
def test_a_file_that_is_written_anew_is_read_anew(waiting, follow, again):
    path = waiting.root / "output" / "results.csv"
    path.write_bytes(b"epoch,loss\n1,0.5\n")
    following = follow(waiting)
    following.until(lambda frames: content(frames, "output/results.csv"))
    path.write_bytes(again)
    end(waiting)
    assert content(following.to_the_end(), "output/results.csv") == again


def test_a_file_that_is_replaced_is_read_anew(waiting, follow):
    path = waiting.root / "output" / "results.csv"
    path.write_bytes(b"epoch,loss\n1,0.5\n")
    following = follow(waiting)
    following.until(lambda frames: content(frames, "output/results.csv"))
    other = path.with_name("other")
    other.write_bytes(b"epoch,loss\n1,0.7\n2,0.6\n")
    other.replace(path)
    end(waiting)
    assert content(following.to_the_end(), "output/results.csv") == path.read_bytes()


def test_a_whole_file_comes_whole_and_only_when_it_changed(waiting, follow):
    path = waiting.root / "output" / "checkpoint-5" / "state.json"
    path.parent.mkdir()
    path.write_text('{"step": 5}')
    name = "output/checkpoint-5/state.json"
    first = follow(waiting)
    first.until(lambda frames: content(frames, name) == b'{"step": 5}')
    first.close()
    second = follow(waiting, known(first.frames))
    second.until(lambda frames: any("machine" in one for one in frames))
    path.write_text('{"step": 6}')
    second.until(lambda frames: pieces(frames, name))
    end(waiting)
    frames = second.to_the_end()
    assert [base64.b64decode(one["data"]) for one in pieces(frames, name)] == [b'{"step": 6}']


def test_old_foreign_and_odd_files_are_left_alone(waiting, follow):
    root = waiting.root / "output"
    old = root / "old" / "results.csv"
    hidden = root / ".cache" / "results.csv"
    library = root / "site-packages" / "x" / "results.csv"
    other = root / "notes.csv"
    for path in (old, hidden, library, other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("epoch,loss\n1,2\n")
    os.utime(old, (1, 1))
    (root / "a").mkdir()
    (root / "a" / "results.csv").symlink_to(other)
    (root / "loop").symlink_to(root)
    (root / "b").mkdir()
    os.mkfifo(root / "b" / "results.csv")
    (root / "c" / "results.csv").mkdir(parents=True)
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff")) / "x").mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(root) + b"/\xff/results.csv")).write_text("epoch\n1\n")
    right = root / "d" / "results.csv"
    right.parent.mkdir()
    right.write_text("epoch,loss\n1,2\n")
    end(waiting)
    frames = follow(waiting).to_the_end()
    assert {one["side"] for one in frames if "side" in one} == {"output/d/results.csv"}


def test_a_file_that_is_too_large_is_named_and_left(waiting, follow):
    path = waiting.root / "output" / "state.json"
    with path.open("wb") as file:
        file.truncate(9 * 1024 * 1024)
    end(waiting)
    frames = follow(waiting).to_the_end()
    assert [one for one in frames if "side_left" in one] == [
        {
            "side_left": "output/state.json",
            "size_bytes": path.stat().st_size,
            "at": frames[-2]["at"],
        }
    ]
    assert not pieces(frames, "output/state.json")


def test_it_runs_under_an_old_python_too(machine, follow):
    machine.start("echo hi; echo epoch > $TOWLINE_OUTPUT/results.csv")
    machine.to_the_end()
    frames = follow(machine).to_the_end()
    assert content(frames, "output/results.csv") == b"epoch\n"
    assert not [one for one in frames if "watch_error" in one]


def test_the_log_does_not_wait_for_the_watch(waiting, follow):
    following = follow(waiting)
    wait_for(following.step)
    began = time.monotonic()
    end(waiting)
    following.to_the_end()
    assert time.monotonic() - began < 2.0
    assert following.result["phase"] == "ended"
