"""Tell a whole model file from a damaged one, by its bytes alone: nothing is unpickled or executed.

Verdicts, from good to bad:
  whole      the format's own lengths agree with the file: nothing is cut off
  plausible  beginning and end are those of the format, which says no more of itself
  unknown    no format that is known here; nothing speaks against it
  damaged    empty, cut off, or not what its name says
Runs on the instance, and at home on what arrived. A file may be hostile: lengths are checked before
they are believed, and no more than a few MiB are held.
"""

import json
import os
import re
import struct
import zlib

from . import integrity_binary as binary
from . import integrity_packed as packed
from . import integrity_pickle as pickles
from .integrity_binary import Damage

WHOLE, PLAUSIBLE, UNKNOWN, DAMAGED = "whole", "plausible", "unknown", "damaged"
#: formats that a `.json` or `.txt` may be a model in
BOOSTERS = ("booster JSON", "LightGBM")
#: what a garbled file may bring about; anything else is a bug
_ODD = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_HEAD = 4096
_JSON_BYTES = 64 << 20
_HEADER_BYTES = 100 << 20  # of safetensors, by its own rule
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
        kind = ""
        try:
            kind, examine = _kind(size, head, name)
            return [examine(file, size, head) if examine else UNKNOWN, kind, ""]
        except Damage as damage:
            return [DAMAGED, kind, str(damage)]
        except _ODD as odd:
            why = str(odd)[:120] or type(odd).__name__
            return [DAMAGED, kind, "it can't be read: %s" % why]


def _kind(size, head, name):
    """The format by name and beginning, and how it is examined; "" and None when it is unknown."""
    if size < 2:
        raise Damage("it is empty" if size == 0 else "it is one byte long")
    if not head.strip(b"\0"):
        raise Damage("it begins with %d zero bytes" % len(head))
    suffix = os.path.splitext(name)[1]
    expected = _MUST_BE.get(suffix)
    for kind, fits, examine in _KINDS:
        if fits(head, name):
            if expected is not None and expected != kind:
                raise Damage("it is named %s and holds %s" % (suffix, kind))
            return kind, examine
    if expected is not None:
        raise Damage("its name says %s, and it does not begin like one" % expected)
    return "", None


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
    ("zip", _begins(b"PK"), packed.archive_zip),
    ("HDF5", _begins(binary.HDF5), binary.hdf5),
    ("GGUF", _begins(b"GGUF"), binary.gguf),
    ("CatBoost", _begins(b"CBM1"), binary.catboost),
    ("TFLite", _begins(b"TFL3", at=4), binary.tflite),
    ("PyTorch (old)", _begins(pickles.LEGACY_TORCH), pickles.legacy_torch),
    ("pickle", pickles.is_pickle, pickles.pickle),
    ("gzip", _begins(b"\x1f\x8b"), packed.packed(31)),
    ("xz", _begins(b"\xfd7zXZ\0"), packed.xz),
    ("bzip2", _begins(b"BZh"), packed.bzip2),
    ("zlib", _begins(b"\x78", ".joblib"), packed.packed(15)),
    ("UBJSON", _begins(b"{", ".ubj"), binary.ubjson),
    ("booster JSON", _is_booster_json, _json),
    ("LightGBM", _is_lightgbm, _lightgbm),
    ("JSON", _is_config, _json),
    ("ONNX", _begins(b"", ".onnx"), binary.onnx),
    ("protobuf", _begins(b"", (".pb", ".mlmodel")), binary.protobuf),
    ("TensorFlow index", _begins(b"", ".index"), _table),
)
