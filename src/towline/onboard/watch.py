"""Beside the log: side files and samples of the machine, gathered in a thread of their own.

The log never waits for them. Frames queue up here until the verb `follow` sends them.
"""

import queue
import threading
import time

from .machine import Machine
from .sides import Sides

_LOOK_EVERY_S = 0.5
_LAST_LOOK_S = 10.0


class Watch:
    """Frames about a training under way; each is a JSON value.

    Args:
        root: The run's folder.
        wish: {"roots", "names", "known", "sample_s"} of the request, see `Sides`.
        since: UTC seconds of the training's start.
        pid: Of the training, for the limits that hold for it.
    """

    def __init__(self, root, wish, since, pid):
        self._machine = Machine(root, pid)
        self._sides = Sides(root, wish["roots"], wish["names"], since, wish["known"])
        self._sample_s = wish["sample_s"]
        self._frames = queue.Queue(16)
        self._ending = threading.Event()
        self._over = False
        thread = threading.Thread(target=self._run)
        thread.daemon = True
        thread.start()

    def waiting(self):
        """Yield the frames that are there now."""
        while True:
            try:
                frame = self._frames.get_nowait()
            except queue.Empty:
                return
            if frame is None:
                self._over = True
                return
            yield frame

    def last(self):
        """Yield what is left to say once the training has ended."""
        self._ending.set()
        deadline = time.monotonic() + _LAST_LOOK_S
        while not self._over:
            try:
                frame = self._frames.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return  # a disk that hangs does not keep the end from being told
            if frame is None:
                return
            yield frame

    def _run(self):
        try:
            self._look_until_the_end()
        except Exception as error:  # noqa: BLE001 - the log goes on without
            self._frames.put({"watch_error": "%s: %s" % (type(error).__name__, error)})
        self._frames.put(None)

    def _look_until_the_end(self):
        sample_at = time.monotonic()
        asked = False
        while not self._ending.is_set():
            if not asked and time.monotonic() >= sample_at:
                asked, sample_at = True, time.monotonic() + self._sample_s
                self._machine.ask()
            if asked and self._machine.answered():
                asked = False
                self._frames.put({"machine": self._machine.sample()})
            for frame in self._sides.changes():
                self._frames.put(frame)
            self._ending.wait(_LOOK_EVERY_S)
        self._machine.close()
        for frame in self._sides.changes(final=True):
            self._frames.put(frame)
        self._frames.put({"machine": self._machine.sample()})
