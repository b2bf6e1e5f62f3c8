"""Pickles and what is made of them, walked without running any of it. See `integrity`."""

import io
import pickletools
import struct

from .integrity_binary import Damage

_HEAD = 4096
_WALK_BYTES = 8 << 20  # of a pickle that is walked opcode by opcode
_ODD_PICKLE = (ValueError, EOFError, struct.error, IndexError, OverflowError)
_LAST_OPCODES = b"bueatsR)]}N\x81\x85\x86\x87\x88\x89\x93\x94"
_MOST_WAYS = 200000  # through the tensors of an old torch file
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def is_pickle(head, _name):
    """Whether a file begins as a pickle of protocol 2 or later."""
    return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")


def pickle(file, size, _head):
    """Walk its opcodes, which runs none of them, where it is small; else look at its end."""
    if size <= _WALK_BYTES:
        file.seek(0)
        data = file.read()
        try:
            if _walk(data) == size:
                return "whole"
        except _ODD_PICKLE as error:
            if b"joblib" not in data[:_HEAD]:  # which puts arrays in between, that are no opcodes
                raise Damage("it is cut off (%s)" % error)
    if not _ends_like_pickle(file, size):
        raise Damage("it is cut off: it does not end as a pickle does")
    return "plausible"


def _ends_like_pickle(file, size):
    """A dot, behind an opcode that may be the last but one of an object's."""
    file.seek(max(0, size - 7))
    tail = file.read().rjust(7, b"\0")
    known = tail[-2] in _LAST_OPCODES or tail[-3] in b"hq" or tail[-6] in b"jr"
    return tail.endswith(b".") and known


def _walk(data):
    """Where the last of the pickles ends, one behind the other."""
    at = _pickle_end(data, 0)
    while data[at : at + 1] == b"\x80":
        at = _pickle_end(data, at)
    return at


def _pickle_end(data, at):
    stream = io.BytesIO(data)
    stream.seek(at)
    for _opcode in pickletools.genops(stream):
        pass
    return stream.tell()


def legacy_torch(file, size, _head):
    """Five pickles, then each storage behind its count of elements."""
    file.seek(0)
    data = file.read(_WALK_BYTES)
    at = 0
    try:
        for _part in range(5):
            at = _pickle_end(data, at)
    except _ODD_PICKLE as error:
        if size > len(data):
            return "plausible"
        raise Damage("it is cut off (%s)" % error)
    keys = sum(1 for _ in _strings(data, at))
    return _storages(file, size, at, keys)


def _strings(data, end):
    """The keys of the storages: the strings of the last pickle that ends at ``end``."""
    at = data.rfind(b"\x80\x02", 0, end - 1)
    for opcode, argument, _at in pickletools.genops(data[at:end]):
        if opcode.name in ("BINUNICODE", "SHORT_BINUNICODE", "UNICODE") and argument:
            yield argument


def _storages(file, size, at, count):
    """Follow them from count to count, whatever their elements' width, to the last byte."""
    ways, seen = [(at, 0)], set()
    while ways and len(seen) < _MOST_WAYS:
        at, number = ways.pop()
        if number == count and at == size:
            return "plausible"  # another width may fit a file that is cut
        file.seek(at)
        head = file.read(8)
        if number == count or len(head) < 8:
            continue
        elements = struct.unpack("<q", head)[0]
        for width in (16, 1, 2, 8, 4):
            way = (at + 8 + elements * width, number + 1)
            if elements >= 0 and way[0] <= size and way not in seen:
                seen.add(way)
                ways.append(way)
    if ways:
        return "plausible"
    raise Damage("its tensors are not whole")
