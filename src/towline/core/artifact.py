"""Choose the model among the files a training left: rules only, no I/O.

The order of search: the task's explicit path or glob; what a trainer wrote by its own rules; the output
folder; the other known places. Within a place, best-named files come first, then last/final ones,
then the newest, then the largest. What came with the upload or was downloaded is left out, and said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from towline.core.formats import Artifact, FoundFile, artifacts, group, looseness, parents
from towline.core.frameworks import OTHER, own_artifacts
from towline.core.globs import is_output, matches

__all__ = [
    "Artifact",
    "FoundFile",
    "Search",
    "is_output",
    "matches",
    "places_text",
    "rank_models",
    "search",
]

_BEST = re.compile(r"(^|[^a-z])best", re.IGNORECASE)
_LAST = re.compile(r"(^|[^a-z])(last|final|model)([^a-z]|$)", re.IGNORECASE)
_WORDS = ("named best", "named last, final or model", "a model by its suffix")  # by name class
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
    "work_dirs/",
    "out/",
    "",
)
# names under which trainers download weights into the working folder, or hubs publish them
_PRETRAINED = re.compile(
    r"yolo(v|e-v?|_nas_|-nas-)?\d{0,2}-?[nsmlxbtce]6?(-tiny|-spp)?u?"
    r"(-(seg|cls|pose|obb|sem|pf|world|worldv2|oiv7))*\.(pt|pth)"
    r"|yolov3(-tiny|-spp)?u?\.pt|rtdetr-[lx]\.pt|sam_[hlb]\.pt|sam2(\.1)?_[tsbl]\.pt|mobile_sam\.pt"
    r"|fastsam-[sx]\.pt|mobileclip[\w-]*\.(pt|ts)|vit-[blh]-?\d+([-@]\d+(px)?)?\.pt|rn\d+(x\d+)?\.pt"
    r"|rf-detr-(nano|small|medium|base|large)[\w.-]*\.pth"
    r"|(wide_)?(res|resnext|dense|mobile|efficient|reg|shuffle|squeeze|mnas|alex|google|convnext|inception"
    r"|vgg|vit|swin|maxvit|mvit|deit|dino|detr|fasterrcnn|maskrcnn|keypointrcnn|retina|fcos|ssd|deeplab"
    r"|fcn|lraspp|r3d|mc3|r2plus1d|s3d|raft|yolox|rtmdet|faster_rcnn|mask_rcnn|cascade)[\w.-]*"
    r"[-_][0-9a-f]{8}\.(pth|pt)"
    r"|[\w-]+_weights_tf_dimordering_tf_kernels(_notop)?\.h5|[\w-]+_notop\.h5",
    re.IGNORECASE,
)
_CACHES = re.compile(
    r"(^|/)(\.cache|\.torch|\.keras|hub/checkpoints|huggingface/hub|(models|datasets)--[^/]+"
    r"|site-packages|node_modules|\.venv|venv|nltk_data)/"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What was found: candidates, the best first, and what looks like a model and is none."""

    ranked: list[Artifact]
    left_out: list[Artifact]  # each with the reason in ``why``

    def without(self, reasons: dict[str, str]) -> Search:
        """The same, with some of the candidates left out; by path, the reason."""
        out = [replace(one, why=reasons[one.path]) for one in self.ranked if one.path in reasons]
        kept = [one for one in self.ranked if one.path not in reasons]
        return Search(ranked=kept, left_out=self.left_out + out)

    def dropping(self, paths: Collection[str]) -> Search:
        """The same, with some candidates forgotten: they never looked much like a model."""
        kept = [one for one in self.ranked if one.path not in paths]
        return Search(ranked=kept, left_out=self.left_out)

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """Lines of the receipt: the ranked with their rank, then the others."""
        ranked = [one.row() | {"rank": n} for n, one in enumerate(self.ranked, 1)]
        return (ranked + [one.row() | {"rank": None} for one in self.left_out])[:limit]


def rank_models(files: Sequence[FoundFile], explicit: str | None) -> list[Artifact]:
    """All candidates, the model first; empty when there is none. See `search`."""
    return search(files, explicit).ranked


def search(
    files: Sequence[FoundFile],
    explicit: str | None,
    *,
    since_ns: int = 0,
    uploaded: Collection[str] = (),
) -> Search:
    """Find and rank all candidates.

    Args:
        files: What lies in the output folder and in the working folder.
        explicit: The task's `artifacts.model`: a path or glob, relative to the run's folder or to
            the command's working folder. With it nothing else is considered.
        since_ns: The instance's own time of the start: what is older was not made by the training.
        uploaded: Paths of files whose content came with the upload.
    """
    came = set(uploaded)
    if explicit is not None:
        found = _explicit(files, explicit)
        left = {one.path: "it came with the upload" for one in found if _all_in(one, came)}
        return Search(ranked=found, left_out=[]).without(left)
    every = artifacts(files)
    reasons = {one.path: why for one in every if (why := _reason(one, since_ns, came)) is not None}
    candidates = [one for one in every if one.path not in reasons]
    own = own_artifacts(candidates, files)
    taken = {one.path for one in own}
    rest = sorted(
        (replace(one, why=_why(one)) for one in candidates if one.path not in taken), key=order
    )
    out = [replace(one, why=reasons[one.path]) for one in every if one.path in reasons]
    return Search(ranked=_merged(own, rest), left_out=sorted(out, key=order))


def _merged(own: list[Artifact], rest: list[Artifact]) -> list[Artifact]:
    """A trainer's best and last first; what a script saved after mere checkpoints before those."""
    sure = [one for one in own if one.order[0] != OTHER]
    newest = max((one.mtime_ns for one in own), default=0)
    after = [
        one
        for one in ([] if sure else rest)
        if one.mtime_ns >= newest and _place(one.path) == 0 and _is_named(one)
    ]
    first = {one.path for one in sure + after}
    return sure + after + [one for one in own + rest if one.path not in first]


def _is_named(one: Artifact) -> bool:
    """Whether its name says best, last, final or model, and it surely is a model."""
    return _name_class(one.path) < len(_WORDS) - 1 and not _looseness(one)


def _all_in(one: Artifact, paths: set[str]) -> bool:
    return all(file.path in paths for file in one.files)


def _reason(one: Artifact, since_ns: int, uploaded: set[str]) -> str | None:
    """Why an artifact is not this training's model; None when it may be."""
    weights = [file for file in one.files if looseness(file.path) is not None] or list(one.files)
    if all(file.path in uploaded for file in weights):
        return "it came with the upload"
    if _CACHES.search(one.path):
        return "it lies in a cache of downloads"
    if one.base is None and _PRETRAINED.fullmatch(one.path.rpartition("/")[2]):
        return "it has the name of a pre-trained download"
    if one.mtime_ns < since_ns:
        return "it is older than the training"
    return None


def _explicit(files: Sequence[FoundFile], explicit: str) -> list[Artifact]:
    wanted = explicit.rstrip("/")
    why = f"artifacts.model: {explicit}"
    hits = [file for file in files if matches(file.path, wanted)]
    if hits:
        groups = [
            replace(one, why=why) for one in group(files) if any(file in hits for file in one.files)
        ]
        inside = {file.path for one in groups for file in one.files}
        singles = [
            Artifact(path=file.path, files=(file,), why=why)
            for file in hits
            if file.path not in inside
        ]
        return sorted(singles + groups, key=order)
    folders: dict[str, list[FoundFile]] = {}
    for file in files:
        named = [folder for folder in parents(file.path) if matches(folder, wanted)]
        if named:
            folders.setdefault(named[0], []).append(file)
    why = f"artifacts.model: folder {explicit}"
    found = [
        Artifact(path=path, files=tuple(own), why=why, base=path) for path, own in folders.items()
    ]
    return sorted(found, key=order)


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


def _looseness(one: Artifact) -> int:
    return (looseness(one.path) or 0) if one.base is None else 0


def _why(one: Artifact) -> str:
    name = _WORDS[_name_class(one.path)]
    if loose := _looseness(one):
        name = ("", "perhaps a model", "a booster by its content")[loose]
    elif one.why:
        name = f"{one.why}, {name}" if _name_class(one.path) < len(_WORDS) - 1 else one.why
    return f"{name}, in {'the output folder' if _place(one.path) == 0 else 'the working folder'}"


def order(one: Artifact) -> tuple[Any, ...]:
    """What candidates that no trainer wrote by its own rules are sorted by, the best first."""
    place, name = _place(one.path), _name_class(one.path)
    return (_looseness(one), place, name, -one.mtime_ns, -one.size_bytes, one.path)


def places_text() -> str:
    """Say where a model is looked for."""
    return ", ".join(["$TOWLINE_OUTPUT", *(f"./{place}" for place in _PLACES if place)])
