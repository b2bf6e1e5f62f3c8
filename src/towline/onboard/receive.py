"""Receive an upload: manifest and blocks in, what is missing out, everything verified.

Owns the talk of the verb. Where the bytes go is the staging area's business. More connections may
bring blocks at the same time, by the verb `take`.
"""

import json

from . import blocks, receive_build, receive_lock, wire
from .receive_staging import Staging, incoming
from .receive_verify import Verifier
from .receive_write import Writer
from .rows import Rows
from .safe_files import Pulse
from .wire import Refusal


def receive(request, pipe):
    """Take the upload ``name``, of ``total_bytes`` in ``entries``.

    Out, first: {"token", "delivered", "rows", "rows_sha256"}: what to name in `take`; the digest
    of what stands under the final name, or null; how many lines of a manifest came before, and
    their hash. In: {"same", "keep"}: whether ``delivered`` is what would be sent, and how many of
    the lines are right; before it JSON {} for signs of life. Unless the answer is {"complete":
    true}, there follow in any order: ROWS frames, each a block of the manifest's lines; DATA
    frames, each a block of records, of files whose lines came before; JSON {"follow": [[number,
    bytes]]}, large files of which so much has arrived from the beginning, over whatever
    connection; JSON {} for a sign of life; at last END with {"rows", "manifest_sha256"}. Out meanwhile, for "keep" and for each ROWS: {"rows", "want",
    "partial"}, see `_answer`; {"written"}, how many DATA frames of this connection are done.

    Returns:
        {"files", "bytes", "manifest_sha256"} of the whole upload, now under its final name.

    Raises:
        Refusal: "disk_full"; "disk_filled" later on; "checksum" when something arrived damaged:
            the damaged files were dropped, ask again; "refused" for a manifest not to be trusted;
            "garbled".
    """
    staging = Staging(request, Pulse(pipe))
    delivered = staging.delivered()
    staging.open(request["total_bytes"], request["entries"])
    rows = staging.rows
    hello = {"token": staging.token, "delivered": delivered, "rows": len(rows)}
    pipe.send_json(wire.JSON, dict(hello, rows_sha256=rows.digest()))
    choice = pipe.read_json()
    while "keep" not in choice:  # a sign of life: the laptop is reading its files
        pipe.send_json(wire.JSON, {"written": 0})
        choice = pipe.read_json()
    if choice["same"] and staging.stands(delivered):
        staging.clear()
        pipe.send_json(wire.JSON, {"complete": True})
        return summary(staging, delivered)
    rows.keep(choice["keep"])
    digest = _Receiver(pipe, staging).run()
    receive_build.build(staging, digest)
    return summary(staging, digest)


def summary(staging, digest):
    """What stands under the final name."""
    return {"files": staging.files, "bytes": staging.bytes, "manifest_sha256": digest}


class _Receiver:
    """The talk, up to its END."""

    def __init__(self, pipe, staging):
        self._pipe = pipe
        self._staging = staging
        self._verifier = Verifier()
        self._writer = Writer(staging.rows, staging.folder)

    def run(self):
        """Take frames until END and wait for the hashes; returns the manifest's digest."""
        self._staging.files = self._staging.bytes = 0
        self._answer(enumerate(self._staging.rows))
        try:
            payload = take_blocks(self._pipe, self._writer, self._other)
        finally:
            self._writer.close()
            bad = self._verifier.finish(self._staging.pulse)
        receive_build.drop_bad(self._staging, bad)
        end = json.loads(payload.decode("ascii"))
        rows = self._staging.rows
        if end != {"rows": len(rows), "manifest_sha256": rows.digest()}:
            raise Refusal("checksum", "the upload's end does not fit what came")
        return end["manifest_sha256"]

    def _other(self, kind, payload):
        if kind == wire.ROWS:
            try:
                lines = blocks.unwrap(payload)
            except ValueError as error:
                raise Refusal("checksum", "the manifest arrived damaged: %s" % error) from error
            self._answer(self._staging.rows.add(lines))
        elif kind == wire.JSON:
            for number, upto in json.loads(payload.decode("ascii")).get("follow", []):
                row = self._staging.rows[number]
                self._verifier.follow(self._staging.object(row.sha256), row, upto)
        else:
            raise Refusal("garbled", "a frame of kind %r is not expected here" % kind)

    def _answer(self, rows):
        """Say what of these entries is missing.

        ``want`` holds runs of entry numbers, [first, count], that are wanted whole; ``partial``
        [number, [[start, end], ...]]; ``rows`` says for how many entries that was the answer.
        """
        want, partial = [], []
        for number, row in rows:
            gaps = self._staging.missing(number, row, self._verifier.whole)
            if gaps == [[0, row.size]]:
                if want and sum(want[-1]) == number:
                    want[-1][1] += 1
                else:
                    want.append([number, 1])
            elif gaps:
                partial.append([number, gaps])
            self._staging.pulse(looking=True)
        said = {"rows": len(self._staging.rows), "want": want, "partial": partial}
        self._pipe.send_json(wire.JSON, said)


def take(request, pipe):
    """Take blocks for the upload ``name``, over one more connection, by the ``token`` of its talk.

    In: DATA frames, JSON {} for a sign of life, then END with {"blocks"}, their number. Out
    meanwhile: {"written"}.

    Returns:
        {"written"}: how many blocks were written.

    Raises:
        Refusal: "busy": that talk is over; else as `receive`.
    """
    base = incoming(request)
    receive_lock.join(base, request["token"])
    folder = base.encode("utf-8", "surrogateescape")
    writer = Writer(Rows(folder + b"/rows"), folder)
    try:
        end = json.loads(take_blocks(pipe, writer, _alive).decode("ascii"))
    finally:
        writer.close()
    if end["blocks"] != writer.blocks:
        raise Refusal("checksum", "the end does not fit what came")
    return {"written": writer.blocks}


def _alive(kind, _payload):
    if kind != wire.JSON:
        raise Refusal("garbled", "a frame of kind %r is not expected here" % kind)


def take_blocks(pipe, writer, other):
    """Write DATA frames until END, whose payload is returned; other frames go to ``other``."""
    while True:
        kind, payload = pipe.read()
        if kind == wire.END:
            return payload
        if kind == wire.DATA:
            writer.take(payload)
        else:
            other(kind, payload)
        pipe.send_json(wire.JSON, {"written": writer.blocks})
