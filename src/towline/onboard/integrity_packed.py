"""Archives and compressed streams: each has an end of its own. See `integrity`."""

import struct
import zipfile
import zlib

from .integrity_binary import Damage, u32

_CRC_BYTES = 64 << 20  # of an archive's contents that are read through
_PACKED_BYTES = 256 << 20
_UNPACKED_BYTES = 2 << 30  # more is not read: a bomb would never end


def archive_zip(file, size, _head):
    """Every entry of the directory has its local header; small contents have their CRC."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if not entries:
                raise Damage("the archive is empty")
            if getattr(archive, "start_dir", 0) > size:
                raise Damage("its directory lies outside of it")
            for entry in entries:
                _local_header(file, entry, archive.start_dir)
            _contents(archive, entries)
    except zipfile.BadZipFile as error:
        raise Damage("it is cut off, or its end is damaged (%s)" % error)
    except (NotImplementedError, RuntimeError):
        return "plausible"  # encrypted, or packed in a way that Python does not know
    return "whole"


def _local_header(file, entry, end):
    file.seek(entry.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise Damage("%s inside it is overwritten" % ascii(entry.filename[:80]))
    name, extra = struct.unpack("<HH", header[26:30])
    if entry.header_offset + 30 + name + extra + entry.compress_size > end:
        raise Damage("%s inside it is cut off" % ascii(entry.filename[:80]))


def _contents(archive, entries):
    left = _CRC_BYTES
    for entry in entries:
        # torch may be told to write no CRC; it then stands as 0
        if entry.CRC and entry.file_size <= left:
            left -= entry.file_size
            with archive.open(entry) as content:
                for _block in iter(lambda: content.read(1 << 20), b""):
                    pass


def packed(wbits):
    """A gzip or zlib stream: it has an end of its own, with a checksum."""

    def examine(file, size, _head):
        if size > _PACKED_BYTES:
            return "plausible"
        file.seek(0)
        stream = zlib.decompressobj(wbits)
        unpacked = 0
        for block in iter(lambda: file.read(1 << 16), b""):
            rest = block
            while rest and not stream.eof and unpacked < _UNPACKED_BYTES:
                unpacked += len(stream.decompress(rest, 1 << 20))
                rest = stream.unconsumed_tail
            if unpacked >= _UNPACKED_BYTES:
                return "plausible"
            if stream.eof:
                return "whole"
        raise Damage("the compressed data is cut off")

    return examine


def xz(file, size, _head):
    """Its last twelve bytes carry a checksum of their own."""
    file.seek(max(0, size - 12))
    end = file.read()
    if len(end) < 12 or end[10:] != b"YZ" or zlib.crc32(end[4:10]) != u32(end):
        raise Damage("the compressed data is cut off")
    return "plausible"


def bzip2(file, size, _head):
    """Unpack to the end; each block has a checksum."""
    try:
        import bz2
    except ImportError:  # not every Python has it
        return "plausible"
    if size > _PACKED_BYTES:
        return "plausible"
    file.seek(0)
    stream = bz2.BZ2Decompressor()
    unpacked = 0
    while not stream.eof and unpacked < _UNPACKED_BYTES:
        rest = file.read(1 << 16) if stream.needs_input else b""
        if stream.needs_input and not rest:
            raise Damage("the compressed data is cut off")
        try:
            unpacked += len(stream.decompress(rest, 1 << 20))
        except OSError as error:  # what it says of data that makes no sense
            raise Damage("the compressed data is damaged (%s)" % error)
    return "whole" if stream.eof else "plausible"
