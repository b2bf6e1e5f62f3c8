"""TensorBoard's event files: their scalars, without TensorBoard.

A file is records of length, check sum, protocol buffer, check sum. Only what holds a scalar is
read: `Event.wall_time` (1), `.step` (2) and `.summary` (5), of that `value` (1) with `tag` (1) and
`simple_value` (2) or `tensor` (8).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

from towline.core.progress import Progress

_HEAD = struct.Struct("<QI")
_TAIL = 4
_LARGEST = 64 * 1024  # a longer record holds an image or a graph
_GARBAGE = 1 << 34
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MOST_SHIFT = 63


class EventReader:
    """Scalars of one event file."""

    whole = False

    def __init__(self, path: str, state: dict[str, Any]) -> None:
        self._rest = bytes.fromhex(str(state.get("rest", "")))
        self._skip = int(state.get("skip", 0))
        self._broken = bool(state.get("broken"))
        self._is_validation = "/validation/" in f"/{path}"

    def state(self) -> dict[str, Any]:
        """What a fresh reader needs to go on."""
        return {"rest": self._rest.hex(), "skip": self._skip, "broken": self._broken}

    def feed(self, data: bytes) -> list[Progress]:
        """Take what was appended."""
        found: list[Progress] = []
        data = self._rest + data
        at = 0
        while not self._broken:
            skipped = min(self._skip, len(data) - at)
            self._skip -= skipped
            at += skipped
            if self._skip or len(data) - at < _HEAD.size:
                break
            size, _check = _HEAD.unpack_from(data, at)
            if size > _LARGEST:
                self._skip = _HEAD.size + size + _TAIL
                self._broken = size > _GARBAGE  # no such file: nothing of it can be trusted
                continue
            end = at + _HEAD.size + size + _TAIL
            if end > len(data):
                break
            found += self._event(data[at + _HEAD.size : end - _TAIL])
            at = end
        self._rest = b"" if self._broken else data[at:]
        return found

    def _event(self, record: bytes) -> list[Progress]:
        try:
            fields = dict(_fields(record))  # the last of a kind counts
            summary = fields.get(5)
            if not isinstance(summary, bytes):
                return []
            (at,) = struct.unpack("<d", fields.get(1, bytes(8)))
            step = int(fields.get(2, 0))
            values = [_scalar(value) for number, value in _fields(summary) if number == 1]
        except (ValueError, IndexError, TypeError, struct.error):
            return []
        made = [self._progress(tag, number, step, at) for tag, number in filter(None, values)]
        return [one for one in made if one is not None]

    def _progress(self, tag: str, value: float, step: int, at: float) -> Progress | None:
        if not 0 <= step < _GARBAGE:
            return None
        epoch = None
        if tag == "epoch":  # Lightning: which epoch this step is of
            known = math.isfinite(value) and 0 <= value < _GARBAGE
            return (
                Progress(epoch=int(value) + 1, step=step, source="tensorboard") if known else None
            )
        if tag.startswith("epoch_"):  # Keras: the step is the epoch
            tag, epoch = tag.removeprefix("epoch_"), step + 1
            tag = f"val_{tag}" if self._is_validation else tag
        return Progress(
            epoch=epoch,
            step=None if epoch else step,
            metrics={tag: value if math.isfinite(value) else None},
            at=at if math.isfinite(at) and at > 0 else None,
            source="tensorboard",
        )


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int, or bytes.

    Raises:
        ValueError: It is no message; IndexError likewise.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise ValueError(kind)
        if at + size > len(message):
            raise ValueError(size)
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the bit that says "more comes"
            return value, at
        if shift > _MOST_SHIFT:
            raise ValueError(shift)


def _scalar(message: Any) -> tuple[str, float] | None:
    """Tag and number of a summary's value; None when it is no scalar."""
    fields = dict(_fields(message))
    tag = fields.get(1)
    if not isinstance(tag, bytes) or not tag:
        return None
    name = tag.decode("utf-8", "replace")
    if isinstance(simple := fields.get(2), bytes):
        return name, struct.unpack("<f", simple)[0]
    number = _tensor(fields[8]) if isinstance(fields.get(8), bytes) else None
    return None if number is None else (name, number)


def _tensor(message: bytes) -> float | None:
    """The number of a tensor that holds one: `dtype` (1), content (4), float (5), double (6)."""
    fields = dict(_fields(message))
    form, size = {1: ("<f", 4), 2: ("<d", 8)}.get(int(fields.get(1, 0)), ("", 0))
    for place in (4, 5, 6):
        content = fields.get(place)
        if form and isinstance(content, bytes) and len(content) == size:
            return float(struct.unpack(form, content)[0])
    return None
