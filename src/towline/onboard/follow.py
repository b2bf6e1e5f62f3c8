"""Stream the training's log from a byte offset until the training has ended."""

import os
import select
import time
import zlib

from . import age, blocks, codecs, daemon, start, wire
from .fence import control_folder
from .watch import Watch

_POLL_S = 0.05
_ALIVE_EVERY_S = 2.0
_BLOCK = 256 * 1024
_MARK = 1024
_FAST = 1  # level of compression: a log must not wait for it


def follow(request, pipe):
    """Send the log's bytes from ``offset`` on; the result is `state` at the end.

    Each DATA frame is a block (see `blocks`). Between them come JSON remarks: first {"age_s"}, the
    instance's age, and "running", whether the training still runs; when all has been sent, and every two seconds, so that a silent training and a
    dead line can be told apart, {"idle_s"}, the seconds since the log last grew, with "detached" as
    in `state`, and "guarded", whether the guard lives; {"anew": bytes} when the training
    has cut its log off or replaced it after so many: what follows is from its new beginning;
    {"ended": `state`, "left_bytes"} when the training has ended and much of its log is still to
    come. With "watch" in the request, more come: see `watch`.

    Args:
        request: "log", "offset"; optional: "mark", [n, check sum] of the n bytes before the offset;
            "codecs" that the other side can unpack; "window": so many blocks may be under way, and
            for each that was taken an END frame comes back. Without it, what is told beside a log
            that is faster than its reader would wait behind all of it.
        pipe: Gets the frames.
    """
    touch_contact(request)
    known = age.read(control_folder(request), request["run"])
    running = start.state(request, None)["phase"] == "running"
    pipe.send_json(wire.JSON, {"age_s": known and known.seconds(), "running": running})
    telling = _Telling(request, pipe)
    while True:
        state = start.state(request, None)  # before the read: an end seen now has its log written
        telling.beside(state)
        if telling.is_full():
            continue
        if telling.more():
            telling.alive(state)
            continue
        if state["phase"] != "running":
            telling.last()
            return dict(state, offset=telling.log.offset)
        telling.idle(state)
        time.sleep(_POLL_S)


class _Telling:
    """What is told of one training, and when."""

    def __init__(self, request, pipe):
        self.log = Log(request["log"], request["offset"], request.get("mark"))
        self._request, self._pipe = request, pipe
        wanted = request.get("codecs", ())
        self._codec = next((one for one in codecs.available() if one in wanted), "stored")
        self._said = self._grew = time.monotonic()
        self._caught_up = self._told_end = False
        self._window = self._room = request.get("window", 0) * wire.HEADER.size
        self._watch = None

    def beside(self, state):
        """Send what there is to say beside the log."""
        self._watch = self._watch or _watch(self._request, state)
        for remark in self._watch.waiting() if self._watch else ():
            self._pipe.send_json(wire.JSON, remark)
        if state["phase"] != "running" and not self._told_end:
            self._told_end = True
            left = self.log.left()
            if left > _BLOCK:
                self._pipe.send_json(wire.JSON, {"ended": state, "left_bytes": left})

    def is_full(self):
        """Whether too many blocks are under way; waits a moment for one to be taken."""
        if not self._window:
            return False
        self._hear(_POLL_S if self._room <= 0 else 0)
        return self._room <= 0

    def _hear(self, wait_s):
        """Hear which blocks were taken; waits at most so long for the first word."""
        fd = self._pipe.reader.fileno()
        while select.select([fd], [], [], wait_s)[0]:
            came = len(os.read(fd, 4096))
            if not came:
                raise EOFError
            self._room += came
            wait_s = 0

    def more(self):
        """Send what is new of the log; says whether there was anything."""
        before = self.log.offset
        block = self.log.read()
        if block is None:
            self._pipe.send_json(wire.JSON, {"anew": before})
            return True
        if block:
            self._pipe.send(wire.DATA, blocks.wrap(block, self._codec, _FAST))
            self._room -= wire.HEADER.size
            self._grew, self._caught_up = time.monotonic(), False
        return bool(block)

    def idle(self, state):
        """Say that all has been sent, once, and then every so often."""
        if not self._caught_up:
            self._said, self._caught_up = 0.0, True
        self.alive(state)

    def alive(self, state):
        """Say every so often how things stand."""
        now = time.monotonic()
        if self._said and now - self._said < _ALIVE_EVERY_S:
            return
        self._said = now
        remark = {"idle_s": now - self._grew, "detached": state["detached"]}
        guard = os.path.join(control_folder(self._request), "guard.lock")
        self._pipe.send_json(wire.JSON, dict(remark, guarded=daemon.is_locked(guard)))
        touch_contact(self._request)

    def last(self):
        """Send what is left to say beside the log once the training has ended."""
        for remark in self._watch.last() if self._watch else ():
            self._pipe.send_json(wire.JSON, remark)
        while self._window and self._room < self._window:
            self._hear(_POLL_S)  # nobody is to speak to a process that has ended


class Log:
    """The log as it grows; a job may cut it off, or put another file in its place.

    ``mark`` is [n, check sum] of the n bytes before ``offset``, None when they are not known.
    """

    def __init__(self, path, offset, mark):
        self.offset = offset
        self._path = path
        self._mark = mark or [0, 0]
        self._file = None
        self._look = None

    def read(self):
        """The next bytes, b"" when there are none yet; None: it has begun anew, from its start."""
        if self._file is None:
            if not os.path.exists(self._path):
                return b""
            self._file = open(self._path, "rb", 0)  # noqa: SIM115 - open as long as we follow
        fd = self._file.fileno()
        found = os.fstat(fd)
        look = (found.st_size, found.st_mtime_ns)
        if look == self._look and found.st_size == self.offset:
            return None if self._is_replaced(found) else b""
        self._look = look
        block = os.pread(fd, _BLOCK, self.offset)
        # looked at behind the read: what was read is what follows what was read before
        if os.fstat(fd).st_size < self.offset or not self._fits(fd):
            self._begin()
            return None
        self.offset += len(block)
        if block:
            end = block[-_MARK:]
            self._mark = [len(end), zlib.crc32(end) & 0xFFFFFFFF]
        return block

    def left(self):
        """How many bytes of it have not been read."""
        path = self._path if self._file is None else self._file.fileno()
        return max(0, os.stat(path).st_size - self.offset) if os.path.exists(self._path) else 0

    def _fits(self, fd):
        count, mark = self._mark
        return zlib.crc32(os.pread(fd, count, self.offset - count)) & 0xFFFFFFFF == mark

    def _is_replaced(self, found):
        """Whether another file has its name, now that this one has been read to its end."""
        try:
            named = os.stat(self._path)
        except OSError:
            return False  # its name is gone: what is written still comes to the file at hand
        if (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino):
            return False
        self._begin()
        return True

    def _begin(self):
        self._file.close()
        self._file = self._look = None
        self.offset, self._mark = 0, [0, 0]


def _watch(request, state):
    """Begin to watch a training that has started, if it was asked for."""
    if "watch" not in request or state["start"] is None:
        return None
    job = daemon.read_json(os.path.join(control_folder(request), "job.json")) or {}
    return Watch(request["root"], request["watch"], state["start"]["at"], job.get("pid"))


def touch_contact(request):
    """Note that a driver is here; the guard reads the file's time."""
    path = os.path.join(control_folder(request), "contact")
    with open(path, "a"):
        os.utime(path, None)
