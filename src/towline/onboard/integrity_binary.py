"""Binary formats whose own lengths say how long the file must be. See `integrity`."""

import struct

HDF5 = b"\x89HDF\r\n\x1a\n"
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_MOST_ITEMS = 10000000
_DEPTH = 64
#: GGUF's plain values: type -> bytes
_GGUF_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_GGUF_TEXT, _GGUF_ARRAY = 8, 9
#: ggml's tensor types: type -> elements and bytes of a block
_GGML = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8),
    28: (1, 8), 29: (256, 56), 30: (1, 2),
}  # fmt: skip
#: UBJSON's plain values: mark -> bytes
_UBJ_BYTES = {b"Z": 0, b"N": 0, b"T": 0, b"F": 0, b"i": 1, b"U": 1, b"C": 1, b"I": 2, b"l": 4}
_UBJ_BYTES.update({b"d": 4, b"L": 8, b"D": 8})
_UBJ_INTEGERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}


class Damage(Exception):
    """The file is not whole; says why."""


def u32(data):
    """The little-endian number that the data begins with."""
    return _U32.unpack(data[:4])[0]


def _exactly(file, count):
    data = file.read(count) if 0 <= count <= 1 << 26 else b""
    if len(data) != count:
        raise Damage("it is cut off")
    return data


def _skip(file, count, size):
    """Go on behind so many bytes, which must be there."""
    at = file.tell() + count
    _require_end(size, at)
    file.seek(at)


def _require_end(size, end):
    if end > size:
        raise Damage("it is cut off: %d of %d bytes are there" % (size, end))


def hdf5(_file, size, head):
    """The superblock knows where the file ends."""
    version = head[8]
    if version <= 1:
        width, start = head[13], 24 + 4 * version
    else:
        width, start = head[9], 12
    if version > 3 or width not in (4, 8) or len(head) < start + 3 * width:
        raise Damage("its first block is damaged or cut off")
    base, _middle, end = (
        int.from_bytes(head[start + n * width : start + (n + 1) * width], "little")
        for n in range(3)
    )
    _require_end(size, base + end if end < 1 << 62 else size + 1)
    return "whole"


def catboost(_file, size, head):
    """Its magic, then the length of the core; what follows the core has no length of its own."""
    if len(head) < 8:
        raise Damage("it is cut off")
    _require_end(size, 8 + u32(head[4:]))
    return "plausible"


def tflite(_file, size, head):
    """A flatbuffer: the root table must lie in it."""
    if u32(head) + 4 > size:
        raise Damage("it is cut off")
    return "plausible"


def onnx(file, size, _head):
    """A graph, and the operators' version behind it."""
    if not _fields(file, size) >= {7, 8}:
        raise Damage("it is cut off: it has no graph, or no version of its operators")
    return "plausible"


def protobuf(file, size, _head):
    """Fields up to the last byte."""
    _fields(file, size)
    return "plausible"


def _fields(file, size):
    """Walk over fields: tag, then a length that must fit. Returns their numbers."""
    at = 0
    numbers = set()
    while at < size:
        tag, at = _varint(file, at)
        kind = tag & 7
        if tag >> 3 == 0 or kind not in (0, 1, 2, 5):
            raise Damage("it holds something that is no field of this format")
        numbers.add(tag >> 3)
        if kind in (0, 2):
            length, at = _varint(file, at)
            at += length if kind == 2 else 0
        else:
            at += 8 if kind == 1 else 4
        _require_end(size, at)
    return numbers


def _varint(file, at):
    """A number in the file, and the place after it."""
    file.seek(at)
    value = 0
    for shift, byte in enumerate(file.read(10)):
        value |= (byte & 0x7F) << (7 * shift)
        if not byte & 0x80:
            return value, at + shift + 1
    raise Damage("it is cut off")


# -- GGUF -----------------------------------------------------------------------------------------


def gguf(file, size, head):
    """Header, values, tensors: the last tensor must end in the file."""
    if len(head) < 24:
        raise Damage("it is cut off")
    version = u32(head[4:])
    if version not in (2, 3):
        return "plausible"
    tensors, values = struct.unpack("<QQ", head[8:24])
    file.seek(24)
    align = 32
    for _number in range(_few(values)):
        key = _text(file)
        value = _gguf_value(file, u32(_exactly(file, 4)), size)
        if key == b"general.alignment" and value:
            align = value
    end = 0
    for _number in range(_few(tensors)):
        end = max(end, _tensor_end(file))
    start = -(-file.tell() // align) * align
    _require_end(size, start + end)
    return "whole"


def _few(count):
    if count > _MOST_ITEMS:
        raise Damage("its header names %d things" % count)
    return count


def _text(file):
    return _exactly(file, _U64.unpack(_exactly(file, 8))[0])


def _gguf_value(file, kind, size):
    """Read over a value; a number of four bytes is returned."""
    if kind == _GGUF_TEXT:
        _text(file)
    elif kind == _GGUF_ARRAY:
        inner, count = struct.unpack("<IQ", _exactly(file, 12))
        if inner in _GGUF_BYTES:
            _skip(file, count * _GGUF_BYTES[inner], size)
        else:
            for _number in range(_few(count)):
                _gguf_value(file, inner, size)
    elif kind in _GGUF_BYTES:
        data = _exactly(file, _GGUF_BYTES[kind])
        return u32(data) if kind == 4 else None
    else:
        raise Damage("its header holds a value of no known kind")
    return None


def _tensor_end(file):
    """Where a tensor ends, from the start of the data."""
    _text(file)
    elements = 1
    for _dimension in range(min(u32(_exactly(file, 4)), 8)):
        elements *= _U64.unpack(_exactly(file, 8))[0]
    kind, offset = struct.unpack("<IQ", _exactly(file, 12))
    block, width = _GGML.get(kind, (1, 0))
    return offset + elements // block * width


# -- UBJSON ---------------------------------------------------------------------------------------


def ubjson(file, size, _head):
    """One object from the first byte to the last."""
    file.seek(0)
    _ubj_value(file, _exactly(file, 1), size, 0)
    if file.tell() != size:
        raise Damage("%d bytes follow its end" % (size - file.tell()))
    return "whole"


def _ubj_value(file, mark, size, depth):
    if mark in _UBJ_BYTES:
        _skip(file, _UBJ_BYTES[mark], size)
    elif mark in (b"S", b"H"):
        _skip(file, _ubj_length(file), size)
    elif mark in (b"[", b"{") and depth < _DEPTH:
        _ubj_items(file, mark, size, depth)
    else:
        raise Damage("it holds something that is no value of this format")
    _require_end(size, file.tell())


def _ubj_items(file, mark, size, depth):
    kind = count = None
    after = _exactly(file, 1)
    if after == b"$":
        kind, after = _exactly(file, 1), _exactly(file, 1)
    if after == b"#":
        count, after = _ubj_length(file), None
    if kind in _UBJ_BYTES and count is not None and mark == b"[":
        _skip(file, count * _UBJ_BYTES[kind], size)
        return
    end = b"]" if mark == b"[" else b"}"
    done = 0
    while done != count and (count is not None or after != end):
        if mark == b"{":
            _skip(file, _ubj_length(file, after), size)
            after = None
        _ubj_value(file, kind or after or _exactly(file, 1), size, depth + 1)
        after = None if count is not None else _exactly(file, 1)
        done += 1


def _ubj_length(file, mark=None):
    mark = mark or _exactly(file, 1)
    if mark not in _UBJ_INTEGERS:
        raise Damage("it holds a length that is no number")
    layout = struct.Struct(_UBJ_INTEGERS[mark])
    length = layout.unpack(_exactly(file, layout.size))[0]
    if length < 0:
        raise Damage("it holds a length below zero")
    return length
