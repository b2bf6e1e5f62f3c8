"""Tell a whole model file from a damaged one, by its bytes alone: nothing is unpickled or executed.

Verdicts, from good to bad:
  whole      the format's own lengths agree with the file: nothing is cut off
  plausible  beginning and end are those of the format, which says no more of itself
  unknown    no format that is known here; nothing speaks against it
  damaged    empty, cut off, or not what its name says
Runs on the instance, and at home on what arrived. A file may be hostile: lengths are checked before
they are believed, and no more than a few MiB are held.
"""

import io
import json
import os
import pickletools
import re
import struct
import zipfile
import zlib

from . import integrity_binary as binary
from .integrity_binary import Damage

WHOLE, PLAUSIBLE, UNKNOWN, DAMAGED = "whole", "plausible", "unknown", "damaged"
#: formats that a `.json` or `.txt` may be a model in
BOOSTERS = ("booster JSON", "LightGBM")
_HEAD = 4096
_WALK_BYTES = 8 << 20  # of a pickle that is walked opcode by opcode
_JSON_BYTES = 64 << 20
_CRC_BYTES = 64 << 20  # of an archive's contents that are read through
_HEADER_BYTES = 100 << 20  # of safetensors, by its own rule
_PACKED_BYTES = 256 << 20
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_TABLE_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # of TensorFlow's checkpoint index
_SHARDS = re.compile(r"\.(safetensors|bin)\.index\.json$")
_CONFIGS = ("config.json", "adapter_config.json", "model_index.json", "modules.json")
#: suffixes that stand for one format only
_MUST_BE = {
    ".keras": "zip",
    ".npz": "zip",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".gguf": "GGUF",
    ".cbm": "CatBoost",
    ".tflite": "TFLite",
    ".ubj": "UBJSON",
}


def check(path):
    """Look at one file.

    Returns:
        [verdict, name of the format or "", why it is damaged or ""].

    Raises:
        OSError: It can't be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD)
        name = os.path.basename(os.fsdecode(path)).lower()
        try:
            verdict, kind = _look(file, size, head, name)
        except Damage as damage:
            return [DAMAGED, "", str(damage)]
        except (ValueError, struct.error, zlib.error, RecursionError, MemoryError, EOFError) as odd:
            return [DAMAGED, "", "it can't be read: %s" % (str(odd)[:120] or type(odd).__name__)]
    return [verdict, kind, ""]


def _look(file, size, head, name):
    if size == 0:
        raise Damage("it is empty")
    if not head.strip(b"\0"):
        raise Damage("it begins with %d zero bytes" % len(head))
    expected = _MUST_BE.get(os.path.splitext(name)[1])
    for kind, fits, examine in _KINDS:
        if fits(head, name):
            if expected is not None and expected != kind:
                raise Damage("it is named %s and holds %s" % (os.path.splitext(name)[1], kind))
            return examine(file, size, head), kind
    if expected is not None:
        raise Damage("its name says %s, and it does not begin like one" % expected)
    return UNKNOWN, ""


# -- archives -------------------------------------------------------------------------------------


def _zip(file, size, _head):
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
        return PLAUSIBLE  # encrypted, or packed in a way that Python does not know
    return WHOLE


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


def _packed(wbits):
    """A gzip or zlib stream: it has an end of its own, with a checksum."""

    def examine(file, size, _head):
        if size > _PACKED_BYTES:
            return PLAUSIBLE
        file.seek(0)
        stream = zlib.decompressobj(wbits)
        for block in iter(lambda: file.read(1 << 16), b""):
            rest = block
            while rest and not stream.eof:
                stream.decompress(rest, 1 << 20)
                rest = stream.unconsumed_tail
            if stream.eof:
                return WHOLE
        raise Damage("the compressed data is cut off")

    return examine


# -- pickles --------------------------------------------------------------------------------------


def _is_pickle(head, _name):
    return head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")


def _pickle(file, size, _head):
    """Walk its opcodes, which runs none of them, where it is small; else look at its end."""
    file.seek(size - 1)
    ends = file.read(1) == b"."
    if size <= _WALK_BYTES:
        file.seek(0)
        data = file.read()
        try:
            end = _pickle_end(data, 0)
        except (ValueError, EOFError, struct.error, IndexError, UnicodeDecodeError, OverflowError):
            end = None  # joblib puts arrays in between, which are no opcodes
        if end is not None and (end == size or data[end : end + 1] == b"\x80"):
            return WHOLE
    if not ends:
        raise Damage("it is cut off: a pickle ends in a dot")
    return PLAUSIBLE


def _pickle_end(data, at):
    stream = io.BytesIO(data)
    stream.seek(at)
    for _opcode in pickletools.genops(stream):
        pass
    return stream.tell()


def _legacy_torch(file, size, _head):
    """Five pickles, then each storage behind its count of elements."""
    file.seek(0)
    data = file.read(_WALK_BYTES)
    at = 0
    try:
        for _part in range(5):
            at = _pickle_end(data, at)
    except (ValueError, EOFError, struct.error, IndexError, UnicodeDecodeError) as error:
        if size > len(data):
            return PLAUSIBLE
        raise Damage("it is cut off (%s)" % error)
    keys = sum(1 for _ in _strings(data, at))
    return _storages(file, size, at, keys)


def _strings(data, end):
    """The keys of the storages: the strings of the last pickle that ends at ``end``."""
    at = data.rfind(b"\x80\x02", 0, end - 1)
    for opcode, argument, _at in pickletools.genops(data[at:end]):
        if opcode.name in ("BINUNICODE", "SHORT_BINUNICODE", "UNICODE") and argument:
            yield argument


def _storages(file, size, at, keys):
    """Each takes at least a byte an element."""
    need = 0
    file.seek(at)
    count = file.read(8)
    if keys and len(count) == 8:
        need = 8 * keys + struct.unpack("<q", count)[0]
    if keys and (len(count) < 8 or at + need > size):
        raise Damage("its tensors are cut off")
    return PLAUSIBLE


# -- tensors --------------------------------------------------------------------------------------


def _safetensors(file, size, head):
    length = struct.unpack("<Q", head[:8])[0] if len(head) > 8 else size
    if length > min(size - 8, _HEADER_BYTES):
        raise Damage("its header is cut off")
    file.seek(8)
    header = json.loads(file.read(length).decode("utf-8"))
    ends = [0]
    for name, tensor in header.items():
        if name != "__metadata__":
            ends.append(int(tensor["data_offsets"][1]))
    missing = 8 + length + max(ends) - size
    if missing:
        how = "%d bytes are missing" % missing if missing > 0 else "%d bytes too many" % -missing
        raise Damage("its tensors are not whole: " + how)
    return WHOLE


# -- text -----------------------------------------------------------------------------------------


def _json(file, size, _head):
    if size > _JSON_BYTES:
        file.seek(size - 16)
        if not file.read().rstrip().endswith(b"}"):
            raise Damage("it is cut off")
        return PLAUSIBLE
    file.seek(0)
    try:
        json.loads(file.read().decode("utf-8"))
    except ValueError as error:
        raise Damage("it is no JSON: %s" % error)
    return WHOLE


def _is_booster_json(head, name):
    begins = re.sub(rb"\s", b"", head[:400])
    known = begins.startswith((b'{"learner"', b'{"version":[', b'{"Config":', b'{"config":{"dev'))
    return name.endswith(".json") and (known or b'"features_info"' in begins)


def _lightgbm(file, size, _head):
    file.seek(max(0, size - (1 << 20)))
    tail = file.read()
    if b"\npandas_categorical:" not in tail or not tail.endswith(b"\n"):
        raise Damage("it is cut off")
    return WHOLE


def _is_lightgbm(head, _name):
    return head.startswith(b"tree\n") and b"version=" in head[:40]


def _is_config(_head, name):
    return name in _CONFIGS or _SHARDS.search(name) is not None


def _table(file, size, _head):
    file.seek(max(0, size - 8))
    if file.read() != _TABLE_END:
        raise Damage("it is cut off")
    return PLAUSIBLE


def _begins(mark, suffix="", at=0):
    """Whether a file has these bytes at this place, and this suffix."""
    return lambda head, name: head[at : at + len(mark)] == mark and name.endswith(suffix)


#: format, whether a file (its beginning, its name) is of it, and how it is examined; first wins
_KINDS = (
    ("safetensors", _begins(b"", ".safetensors"), _safetensors),
    ("zip", _begins(b"PK"), _zip),
    ("HDF5", _begins(binary.HDF5), binary.hdf5),
    ("GGUF", _begins(b"GGUF"), binary.gguf),
    ("CatBoost", _begins(b"CBM1"), binary.catboost),
    ("TFLite", _begins(b"TFL3", at=4), binary.tflite),
    ("PyTorch (old)", _begins(_LEGACY_TORCH), _legacy_torch),
    ("pickle", _is_pickle, _pickle),
    ("gzip", _begins(b"\x1f\x8b"), _packed(31)),
    ("zlib", _begins(b"\x78", ".joblib"), _packed(15)),
    ("UBJSON", _begins(b"{", ".ubj"), binary.ubjson),
    ("booster JSON", _is_booster_json, _json),
    ("LightGBM", _is_lightgbm, _lightgbm),
    ("JSON", _is_config, _json),
    ("protobuf", _begins(b"", (".onnx", ".pb", ".mlmodel")), binary.protobuf),
    ("TensorFlow index", _begins(b"", ".index"), _table),
)
