"""Choose the model among the files a training left: rules only, no I/O.

The order of search: the task's explicit path or glob, the output folder, the other known places;
within each, best-named files come first, then last/final ones, then the newest, then the largest.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SUFFIXES = [
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
    ".pkl",
    ".pickle",
    ".joblib",
    ".cbm",
    ".ubj",
    ".npz",
    ".model",
    ".bin",
]
_BEST = re.compile(r"(^|[^a-z])best", re.IGNORECASE)
_LAST = re.compile(r"(^|[^a-z])(last|final|model)([^a-z]|$)", re.IGNORECASE)
# state that a model needs only to train on
_NOT_A_MODEL = re.compile(
    r"(^|/)(optimizer|scheduler|rng_state|random_states|scaler|training_args)[^/]*$"
)
# a SavedModel's mark makes the folder around it one model; a Hugging Face config needs its weights
_SAVED_MODEL = "saved_model.pb"
_CONFIGS = ("config.json", "adapter_config.json")
_WEIGHTS = re.compile(r"(\w+_)?model([-.][^/]+)?\.(safetensors|bin|h5|msgpack)")
#: places beside the output folder, in order, relative to the command's working folder
_PLACES = (
    "runs/",
    "output/",
    "outputs/",
    "checkpoints/",
    "models/",
    "model/",
    "weights/",
    "results/",
    "lightning_logs/",
    "trainer_output/",
    "artifacts/",
    "saved_models/",
    "",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file on the instance; ``path`` is relative to the run's folder (`output/best.pt`)."""

    path: str
    size_bytes: int
    mode: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A candidate for the model: one file, or a folder that is one model."""

    path: str
    files: tuple[FoundFile, ...]
    why: str

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.size_bytes for file in self.files)

    def row(self) -> dict[str, Any]:
        """Its line in the receipt."""
        return {"path": self.path, "size_bytes": self.size_bytes, "why": self.why}


def rank_models(files: Sequence[FoundFile], explicit: str | None) -> list[Artifact]:
    """All candidates, the model first; empty when there is none.

    Args:
        files: What the training wrote; files that were uploaded must have been left out.
        explicit: The task's `artifacts.model`: a path or glob, relative to the run's folder or to
            the command's working folder. With it nothing else is considered.
    """
    if explicit is not None:
        return _explicit(files, explicit)
    candidates = _with_folders([file for file in files if _looks_like_model(file.path)], files)
    return sorted(candidates, key=_order)


def matches(path: str, pattern: str) -> bool:
    """Match a path under the run's folder; patterns may mean the run's folder or the code's."""
    pattern = pattern.removeprefix("./")
    tails = [path, path.removeprefix("code/")] if path.startswith("code/") else [path]
    return any(tail == pattern or _glob(tail, pattern) for tail in tails)


def _glob(path: str, pattern: str) -> bool:
    """Glob where ``**/`` spans any folders, none included, and ``*`` stays inside one."""
    parts = re.split(r"(\*\*/|/\*\*$|\*\*|\*|\?|\[[^\]/]+\])", pattern)
    words = {"**/": r"(?:[^/]+/)*", "/**": r"/.+", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    regex = "".join(
        words.get(part) or (_letters(part) if odd else re.escape(part))
        for odd, part in zip(itertools.cycle([False, True]), parts, strict=False)
    )
    try:
        return re.fullmatch(regex, path, re.DOTALL) is not None
    except re.error:
        return False  # a range that runs backwards holds no letter


def _letters(part: str) -> str:
    """A glob's `[abc]`, `[a-z]` or `[!abc]` as a regular expression; never matches a `/`."""
    inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[1:-1].removeprefix("!"))
    return f"[^/{inner}]" if part[1:2] == "!" else f"[{inner}]"


def _explicit(files: Sequence[FoundFile], explicit: str) -> list[Artifact]:
    wanted = explicit.rstrip("/")
    hits = [
        _single(file, f"artifacts.model: {explicit}")
        for file in files
        if matches(file.path, wanted)
    ]
    if hits:
        return sorted(hits, key=_order)
    folders: dict[str, list[FoundFile]] = {}
    for file in files:
        named = [folder for folder in _parents(file.path) if matches(folder, wanted)]
        if named:
            folders.setdefault(named[0], []).append(file)
    why = f"artifacts.model: folder {explicit}"
    found = [Artifact(path=path, files=tuple(own), why=why) for path, own in folders.items()]
    return sorted(found, key=_order)


def _parents(path: str) -> list[str]:
    """Folders that hold a file, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _looks_like_model(path: str) -> bool:
    lower = path.lower()
    return lower.endswith(tuple(_SUFFIXES)) and not _NOT_A_MODEL.search(lower)


def _with_folders(models: list[FoundFile], files: Sequence[FoundFile]) -> list[Artifact]:
    """Fold a SavedModel or a Hugging Face checkpoint into one candidate."""
    names: dict[str, list[str]] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        names.setdefault(folder, []).append(name)
    folders = {folder for folder, own in names.items() if folder != "code" and _is_one_model(own)}
    singles = [file for file in models if not any(file.path.startswith(f + "/") for f in folders)]
    whole = [
        Artifact(
            path=folder,
            why=_why(folder, place=_place(folder)),
            files=tuple(file for file in files if file.path.startswith(folder + "/")),
        )
        for folder in folders
    ]
    return [_single(file, _why(file.path, place=_place(file.path))) for file in singles] + whole


def _is_one_model(names: Sequence[str]) -> bool:
    """Say whether the files of a folder make it one model."""
    if _SAVED_MODEL in names:
        return True
    return any(c in names for c in _CONFIGS) and any(_WEIGHTS.fullmatch(name) for name in names)


def _single(file: FoundFile, why: str) -> Artifact:
    return Artifact(path=file.path, files=(file,), why=why)


def _name_class(path: str) -> int:
    name = path.rpartition("/")[2]
    if _BEST.search(name):
        return 0
    return 1 if _LAST.search(name) else 2


def _place(path: str) -> int:
    """0 for the output folder, then the other known places in order."""
    if (path + "/").startswith("output/"):
        return 0
    inner = path.removeprefix("code/") + "/"
    return 1 + next((n for n, place in enumerate(_PLACES) if inner.startswith(place)), len(_PLACES))


def _why(path: str, place: int) -> str:
    name = ("named best", "named last, final or model", "a model by its suffix")[_name_class(path)]
    return f"{name}, in {'the output folder' if place == 0 else 'the working folder'}"


def _order(artifact: Artifact) -> tuple[int, int, int, int, str]:
    newest = max((file.mtime_ns for file in artifact.files), default=0)
    return (
        _place(artifact.path),
        _name_class(artifact.path),
        -newest,
        -artifact.size_bytes,
        artifact.path,
    )


def places_text() -> str:
    """Say where a model is looked for."""
    return ", ".join(["$TOWLINE_OUTPUT", *(f"./{place}" for place in _PLACES if place)])


def is_output(path: str, patterns: Sequence[str]) -> bool:
    """Say whether a file is among the outputs to bring home."""
    return any(matches(path, pattern) for pattern in patterns)
