"""Which files are models, and which of them are one model together: by name alone.

A SavedModel, a Hugging Face checkpoint, the shards of one, a TensorFlow checkpoint's index and data
each count as one artifact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: a file with one of these is a model
_MODEL_SUFFIXES = (
    ".pt",
    ".pth",
    ".pth.tar",
    ".ckpt",
    ".safetensors",
    ".keras",
    ".h5",
    ".hdf5",
    ".onnx",
    ".engine",
    ".tflite",
    ".torchscript",
    ".gguf",
    ".cbm",
    ".ubj",
    ".mlmodel",
    ".nemo",
    ".skops",
)
#: with one of these it may be anything: taken when it is named like a model, else for want of better
_LOOSE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".npz", ".bin", ".model", ".msgpack", ".pb")
#: a booster's; taken for want of better, and only when its content is a booster's
_TEXT_SUFFIXES = (".json", ".txt")
_ALL_SUFFIXES = _MODEL_SUFFIXES + _LOOSE_SUFFIXES + _TEXT_SUFFIXES
# state that a model needs only to train on
_NOT_A_MODEL = re.compile(
    r"(^|/)(optimizer|optim_|scheduler|rng_state|random_states|scaler|training_args|keras_metadata"
    r"|fingerprint\.pb)[^/]*$|_optim_states\.pt$|(^|/)events\.out\.tfevents"
)
_MODEL_WORD = re.compile(
    r"best|final|model|clf|classif|regress|estimator|pipeline|boost|learner|weights|forest|export"
    r"|ckpt|checkpoint|xgb|lgb|graph"
)
_OTHER_TEXT = (
    "arg args argument arguments cache class classes config data dataset embedding embeddings encoder"
    " eval event events feature features hparams history importance importances index info label"
    " labels license log logs loss losses meta metadata metric metrics names note notes opt output"
    " outputs param params pred prediction predictions preds prob probs readme record records report"
    " requirements result results run scaler score scores settings sentencepiece spiece split splits stats state status"
    " summary test time times tokenizer train trainer val valid validation vocab x y"
)
_OTHER_WORDS = frozenset(_OTHER_TEXT.split())
# even behind a model's name: `model_metrics.pkl` is none, `model_test.pkl` may be one
_LAST_WORDS = _OTHER_WORDS - {"x", "y", "run", "test", "train", "val", "encoder"}
# a folder around these is one model, whatever else is in it
_FOLDER_MARKS = {
    "saved_model.pb": "SavedModel",
    "model_index.json": "diffusers pipeline",
    "modules.json": "Sentence Transformers model",
    "MLmodel": "MLflow model",
    ".metadata": "distributed checkpoint",
    "_CHECKPOINT_METADATA": "Orbax checkpoint",
    "zero_to_fp32.py": "DeepSpeed checkpoint",
}
_FOLDER_SUFFIXES = {".ckpt": "sharded checkpoint", ".mlpackage": "Core ML package"}
# these own no models in folders below them
_LOOSE_KINDS = ("Hugging Face checkpoint", "adapter")
# a config needs its weights to be one
_CONFIGS = ("config.json", "adapter_config.json")
_WEIGHTS = re.compile(r"(\w+_)?model([-.][^/]+)?\.(safetensors|bin|h5|msgpack)")
_STEP_FOLDER = re.compile(r"checkpoint[-_]\d+")
# files that are one together: the first group is their name
_SHARD = re.compile(r"(.+?)[-.]\d{5}-of-(\d{5})\.(safetensors|bin|gguf|pt|pth)")
_SHARD_INDEX = re.compile(r"(.+?)\.(safetensors|bin)\.index\.json")
_TF_PART = re.compile(r"(.+)\.(index|data-\d{5}-of-\d{5})")
_ONNX_DATA = re.compile(r"(.+\.onnx)[._]data")
_PARTS = (_SHARD, _SHARD_INDEX, _TF_PART, _ONNX_DATA)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file on the instance; ``path`` is relative to the run's folder (`output/best.pt`).

    ``moving``: it may still be written to. ``says``: what a trainer's own file names as the best.
    """

    path: str
    size_bytes: int
    mode: int
    mtime_ns: int
    moving: bool = False
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A candidate for the model: one file, or several that are one model.

    ``base`` is None for one file, else the folder that its files are relative to. ``run`` is the
    trainer's own folder around it, where its plots and settings lie.
    """

    path: str
    files: tuple[FoundFile, ...]
    why: str
    base: str | None = None
    run: str | None = None
    order: tuple[Any, ...] = field(default=(), compare=False)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def mtime_ns(self) -> int:
        """When the last of its files was written."""
        return max((file.mtime_ns for file in self.files), default=0)

    @property
    def moving(self) -> bool:
        """Whether one of its files may still be written to."""
        return any(file.moving for file in self.files)

    def row(self) -> dict[str, Any]:
        """Its line in the receipt."""
        return {"path": self.path, "size_bytes": self.size_bytes, "why": self.why}


def looseness(path: str) -> int | None:
    """How sure a file's name makes it a model: 0 sure, 1 and 2 for want of better; None: it is none."""
    lower = path.lower()
    if not lower.endswith(_ALL_SUFFIXES):
        return None
    name = lower.rpartition("/")[2]
    if _NOT_A_MODEL.search(lower):
        return None
    if lower.endswith(_MODEL_SUFFIXES):
        return 0
    stem = name.rpartition(".")[0]
    words = [word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", stem)]
    other = [word in _OTHER_WORDS for word in words]
    named = _MODEL_WORD.search(stem) is not None
    if lower.endswith(_LOOSE_SUFFIXES):
        if (
            (any(other) and not named)
            or words[-1] in _LAST_WORDS
            or (name.endswith(".pb") and not named)
        ):
            return None
        return 0 if named else 1
    return 2 if lower.endswith(_TEXT_SUFFIXES) and not any(other) else None


def artifacts(files: Sequence[FoundFile]) -> list[Artifact]:
    """All that may be a model, each once; ``why`` says its form, "" for a plain file."""
    folders = _folders(files)
    found = [
        Artifact(path=folder, why=kind, files=tuple(own), base=folder)
        for folder, (kind, own) in folders.items()
    ]
    inside = {file.path for one in found for file in one.files}
    rest = [file for file in files if file.path not in inside]
    groups = group(rest)
    grouped = {file.path for one in groups for file in one.files}
    singles = [
        Artifact(path=file.path, files=(file,), why="")
        for file in rest
        if file.path not in grouped and looseness(file.path) is not None
    ]
    return found + groups + singles


def group(files: Iterable[FoundFile]) -> list[Artifact]:
    """Files that are one model without a folder of their own; named by what their names share."""
    found: dict[tuple[str, str], list[FoundFile]] = {}
    by_path = {file.path: file for file in files}
    for file in by_path.values():
        if (key := _group_key(file.path, by_path)) is not None:
            found.setdefault(key, []).append(file)
    return [
        Artifact(path=path, why=kind, files=tuple(own), base=path.rpartition("/")[0])
        for (path, kind), own in found.items()
        if len(own) > 1 or any(_SHARD.fullmatch(file.path.rpartition("/")[2]) for file in own)
    ]


def is_part(path: str) -> bool:
    """Whether a file's name makes it one of several that may be one model."""
    name = path.rpartition("/")[2]
    return name.endswith(".onnx") or any(one.fullmatch(name) is not None for one in _PARTS)


def _group_key(path: str, paths: dict[str, FoundFile]) -> tuple[str, str] | None:
    folder, slash, name = path.rpartition("/")
    for pattern, kind in (
        (_SHARD, "shards"),
        (_SHARD_INDEX, "shards"),
        (_TF_PART, "TF checkpoint"),
    ):
        if match := pattern.fullmatch(name):
            return folder + slash + match[1], kind
    if match := _ONNX_DATA.fullmatch(path):
        return (match[1].removesuffix(".onnx"), "ONNX with its data") if match[1] in paths else None
    if path.endswith(".onnx") and (f"{path}.data" in paths or f"{path}_data" in paths):
        return path.removesuffix(".onnx"), "ONNX with its data"
    return None


def missing_shards(artifact: Artifact) -> int:
    """How many of an artifact's numbered shards are not there."""
    wanted: dict[tuple[str, str, str], int] = {}
    for file in artifact.files:
        if match := _SHARD.fullmatch(file.path.rpartition("/")[2]):
            key = (match[1], match[2], match[3])
            wanted[key] = wanted.get(key, int(match[2])) - 1
    return sum(max(0, count) for count in wanted.values())


def marks_folder(path: str) -> bool:
    """Whether a file can make a model of the folder that it lies in, or of one above."""
    name = path.rpartition("/")[2]
    if name in _FOLDER_MARKS or name in _CONFIGS or _WEIGHTS.fullmatch(name) is not None:
        return True
    return any(f"{suffix}/" in path for suffix in _FOLDER_SUFFIXES)


def model_folders(marks: Sequence[FoundFile]) -> set[str]:
    """Folders that are one model each, by the files that `marks_folder`."""
    return set(_folders(marks))


def _folders(files: Sequence[FoundFile]) -> dict[str, tuple[str, list[FoundFile]]]:
    """Folders that are one model: what each is, and its files."""
    names: dict[str, set[str]] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        names.setdefault(folder, set()).add(name)
    kinds = {folder: kind for folder, own in names.items() if (kind := _folder_kind(own))}
    for file in files:
        for folder in parents(file.path):
            if kind := _FOLDER_SUFFIXES.get("." + folder.rpartition(".")[2]):
                kinds.setdefault(folder, kind)
    kinds = {folder: kind for folder, kind in kinds.items() if folder not in ("", "code")}
    kept = {
        folder: (kind, list[FoundFile]())
        for folder, kind in kinds.items()
        if _STEP_FOLDER.fullmatch(folder.rpartition("/")[2])
        or not any(
            kinds.get(above, _LOOSE_KINDS[0]) not in _LOOSE_KINDS for above in parents(folder)
        )
    }
    for file in files:
        for folder in reversed(parents(file.path)):
            if folder in kept:
                kept[folder][1].append(file)
                break
    return {folder: (kind, own) for folder, (kind, own) in kept.items() if own}


def _folder_kind(names: set[str]) -> str | None:
    """What the files right in a folder make of it; None: nothing."""
    for mark, kind in _FOLDER_MARKS.items():
        if mark in names:
            return kind
    weights = [name for name in names if _WEIGHTS.fullmatch(name)]
    if weights and any(config in names for config in _CONFIGS):
        return _LOOSE_KINDS["config.json" not in names]
    return None


def parents(path: str) -> list[str]:
    """Folders that hold a file, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]
