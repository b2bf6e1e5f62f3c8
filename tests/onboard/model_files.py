"""Small real model files, each made by what usually makes it, or by its format's own rules."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "models"
TREES = {"trees": [{"feature": n, "threshold": n / 7, "name": f"f.{n}"} for n in range(40)]}


def torch_like(content=b"x" * 700):
    """A torch.save: a zip of stored entries with one folder at its top."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("best/data.pkl", pickle.dumps(TREES, 2))
        archive.writestr("best/data/0", content)
        archive.writestr("best/version", "3\n")
    return made.getvalue()


def safetensors(numbers=25):
    header = {
        "__metadata__": {"format": "pt"},
        "weight": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]},
        "bias": {"dtype": "F32", "shape": [1], "data_offsets": [4 * numbers, 4 * numbers + 4]},
    }
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(range(1, 5)) * (numbers + 1)


def npz():
    import numpy as np

    made = io.BytesIO()
    np.savez(made, weights=np.arange(30.0), bias=np.ones(3))
    return made.getvalue()


def gguf():
    def text(value):
        return struct.pack("<Q", len(value)) + value

    values = text(b"general.name") + struct.pack("<I", 8) + text(b"tiny")
    values += text(b"general.alignment") + struct.pack("<II", 4, 64)
    values += text(b"tokens") + struct.pack("<IIQ", 9, 8, 3) + text(b"a") + text(b"b") + text(b"")
    values += text(b"scores") + struct.pack("<IIQ3f", 9, 6, 3, 0.0, 1.0, 2.0)
    tensors = text(b"w") + struct.pack("<IQQIQ", 2, 32, 4, 8, 0)  # Q8_0: 34 bytes a 32
    tensors += text(b"b") + struct.pack("<IQIQ", 1, 5, 0, 192)
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 4) + values + tensors
    return head.ljust(-(-len(head) // 64) * 64, b"\0") + bytes(192) + b"\1" * 20


def ubjson():
    """What XGBoost's save_raw makes: typed arrays, counted and open containers."""

    def key(name):
        return b"L" + struct.pack(">q", len(name)) + name

    typed = b"[$d#L" + struct.pack(">q", 6) + struct.pack(">6f", *range(6))
    mixed = b"[" + b"i\x05" + b"SL" + struct.pack(">q", 3) + b"abc" + b"T" + b"{}" + b"]"
    counted = b"{#i\x01" + key(b"n") + b"D" + struct.pack(">d", 2.5)
    inner = b"{" + key(b"trees") + typed + key(b"misc") + mixed + key(b"c") + counted + b"}"
    return b"{" + key(b"learner") + inner + b"}"


def onnx():
    """A ModelProto: varints and length-delimited fields."""

    def field(number, body):
        return bytes([number << 3 | 2, 0x80 | len(body) & 0x7F, len(body) >> 7]) + body

    return b"\x08\x08" + field(2, b"pytorch") + field(7, b"\x0a\x03abc" * 40) + b"\x42\x02\x10\x11"


def tf_index():
    return b"\0\0\0\0\1\2\3" * 9 + bytes.fromhex("57fb808b247547db")


LIGHTGBM = (
    b"tree\nversion=v4\nnum_class=1\n\nTree=0\nleaf_value=0.1 -0.2\n\nend of trees\n\nparameters:\n"
    b"end of parameters\n\npandas_categorical:null\n"
)
XGBOOST_JSON = json.dumps({"learner": TREES, "version": [3, 2, 0]}).encode()

#: name -> content, verdict, format; made here
MADE = {
    "best.pt": (torch_like(), "whole", "zip"),
    "model.keras": (torch_like(b"h5" * 300), "whole", "zip"),
    "weights.npz": (npz(), "whole", "zip"),
    "model.safetensors": (safetensors(), "whole", "safetensors"),
    "empty.safetensors": (struct.pack("<Q", 2) + b"{}", "whole", "safetensors"),
    "tiny.gguf": (gguf(), "whole", "GGUF"),
    "model.ubj": (ubjson(), "whole", "UBJSON"),
    "model.onnx": (onnx(), "plausible", "ONNX"),
    "saved_model.pb": (onnx(), "plausible", "protobuf"),
    "protocol2.pkl": (pickle.dumps(TREES, 2), "whole", "pickle"),
    "protocol5.pkl": (pickle.dumps(TREES, 5), "whole", "pickle"),
    "several.pkl": (pickle.dumps(TREES, 4) + pickle.dumps(1, 4), "whole", "pickle"),
    "model.joblib.gz": (gzip.compress(pickle.dumps(TREES)), "whole", "gzip"),
    "packed.joblib": (zlib.compress(pickle.dumps(TREES)), "whole", "zlib"),
    "packed.pkl.bz2": (bz2.compress(pickle.dumps(TREES)), "whole", "bzip2"),
    "packed.pkl.xz": (lzma.compress(pickle.dumps(TREES)), "plausible", "xz"),
    "model.txt": (LIGHTGBM, "whole", "LightGBM"),
    "model.json": (XGBOOST_JSON, "whole", "booster JSON"),
    "config.json": (b'{"model_type": "bert"}', "whole", "JSON"),
    "ckpt-1.index": (tf_index(), "plausible", "TensorFlow index"),
    "model.cbm": (b"CBM1" + struct.pack("<I", 40) + bytes(40), "plausible", "CatBoost"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(60), "plausible", "TFLite"),
}
#: formats whose every truncation is found out
EXACT = [name for name, (_content, verdict, _kind) in MADE.items() if verdict == "whole"]
