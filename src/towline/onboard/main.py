"""Entry: read the request, fence it, run the verb, answer."""

import errno
import os
import signal
import sys
import time

from . import fence, verbs, wire

_NOTE_EVERY_S = 1.0


class _NotedPipe(wire.Pipe):
    """A pipe whose traffic counts as a driver's presence: an upload may outlast the guard's grace."""

    contact = None
    _noted = 0.0

    def read(self):
        frame = wire.Pipe.read(self)
        self._note()
        return frame

    def send(self, kind, payload=b""):
        wire.Pipe.send(self, kind, payload)
        self._note()

    def send_json(self, kind, value):
        wire.Pipe.send_json(self, kind, value)
        self._note()

    def _note(self):
        """Touch the file that the guard reads, once it is there."""
        now = time.monotonic()
        if self.contact is None or now - self._noted < _NOTE_EVERY_S:
            return
        self._noted = now
        try:
            os.utime(self.contact, None)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise


def main(argv=None):
    """Run one verb: argv[1] is its name, stdin holds the request frame.

    Exits 0 after a RESULT frame and 1 after an ERROR frame.
    """
    verb = (argv or sys.argv)[1]
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the line was cut: end at once, quietly
    pipe = _NotedPipe(sys.stdin.buffer, sys.stdout.buffer)
    sys.stdout.buffer.write(wire.MAGIC)
    sys.stdout.buffer.flush()  # the caller waits for it before it sends more
    try:
        request = pipe.read_json()
        if "root" in request:
            pipe.contact = os.path.join(request["root"], ".towline", "contact")
        if verb in verbs.MUTATING:
            fence.check(request)
        pipe.send_json(wire.RESULT, verbs.find(verb)(request, pipe))
    except wire.Refusal as refusal:
        pipe.send_json(wire.ERROR, refusal.body)
    except OSError as error:
        pipe.send_json(wire.ERROR, _os_error(error))
    except EOFError:
        pipe.send_json(wire.ERROR, {"kind": "eof", "message": "the request was cut off"})
    except Exception as error:  # noqa: BLE001 - a silent end would look like a broken line
        message = "%s: %s (a bug of towline's)" % (type(error).__name__, error)
        pipe.send_json(wire.ERROR, {"kind": "bug", "message": message})
    else:
        return 0
    return 1


def _os_error(error):
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return {"kind": "disk_full" if full else "os_error", "message": str(error)}
