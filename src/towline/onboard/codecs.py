"""Compression: zlib and zstd under one face, wherever this Python finds them.

zstd is in the standard library from Python 3.14 on. Before that the laptop's side has a backport,
and the instance's side nearly always the system's own libzstd, which dpkg, rpm and systemd need.
"""

import functools
import importlib

_ZSTD_MODULES = ("compression.zstd", "backports.zstd")
_LIBZSTD = "libzstd.so.1"  # the one-shot functions of its first version have never changed


@functools.lru_cache(maxsize=None)
def find(codec):
    """The object that speaks a codec, with `compress(raw, level)` and `decompress(data, length)`.

    None where it is missing. What `decompress` returns is at most ``length`` bytes long; it raises
    ValueError for anything that is not one whole piece of that length or less.
    """
    if codec == "zlib":
        module = _imported("zlib")
        return None if module is None else _Zlib(module)
    if codec == "zstd":
        for name in _ZSTD_MODULES:
            module = _imported(name)
            if module is not None:
                return _Zstd(module)
        return _system_zstd()
    return None


def available():
    """Names of the codecs that are here, the best first."""
    return [codec for codec in ("zstd", "zlib") if find(codec) is not None]


def _imported(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None  # not in this Python


def _system_zstd():
    ctypes = _imported("ctypes")
    if ctypes is None:
        return None
    try:
        return _LibZstd(ctypes, ctypes.CDLL(_LIBZSTD))
    except (OSError, AttributeError):
        return None  # this system has none


class _Zlib:
    def __init__(self, module):
        self._module = module

    def compress(self, raw, level):
        return self._module.compress(raw, level)

    def decompress(self, data, length):
        return _decompressed(self._module.decompressobj(), data, length, self._module.error)


class _Zstd:
    def __init__(self, module):
        self._module = module

    def compress(self, raw, level):
        return self._module.compress(raw, level)

    def decompress(self, data, length):
        return _decompressed(self._module.ZstdDecompressor(), data, length, self._module.ZstdError)


def _decompressed(one, data, length, kind):
    try:
        raw = one.decompress(data, length + 1)  # one more than promised, so that a longer one shows
    except kind as error:
        raise ValueError("broken block: %s" % error) from error
    if not one.eof or len(raw) > length:
        raise ValueError("cut or oversized block")
    return raw


class _LibZstd:
    """The system's library. Its functions release Python's lock while they work."""

    def __init__(self, ctypes, lib):
        self._ctypes, self._lib = ctypes, lib
        size, data = ctypes.c_size_t, ctypes.c_char_p
        for name, result, arguments in (
            ("ZSTD_compressBound", size, [size]),
            ("ZSTD_compress", size, [data, size, data, size, ctypes.c_int]),
            ("ZSTD_decompress", size, [data, size, data, size]),
            ("ZSTD_isError", ctypes.c_uint, [size]),
        ):
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments

    def compress(self, raw, level):
        room = self._lib.ZSTD_compressBound(len(raw))
        to = self._ctypes.create_string_buffer(room)
        return bytes(self._used(to, self._lib.ZSTD_compress(to, room, raw, len(raw), level)))

    def decompress(self, data, length):
        data = bytes(data)
        if not data:
            raise ValueError("cut block")  # the library takes nothing for a whole piece of nothing
        to = self._ctypes.create_string_buffer(max(1, length))
        return self._used(to, self._lib.ZSTD_decompress(to, length, data, len(data)))

    def _used(self, to, count):
        if self._lib.ZSTD_isError(count):
            raise ValueError("broken, cut or oversized block")
        return memoryview(to)[:count].cast("B")
