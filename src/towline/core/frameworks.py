"""Where each trainer writes its models by itself, and how it marks the best one.

A rule applies only to a folder that carries the trainer's own files, so that it can stand before any
guess. Paths, marks and traps were read from the trainers' sources.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from towline.core.formats import Artifact, FoundFile

BEST, LAST, OTHER = 0, 1, 2
_WORDS = {BEST: "its best weights", LAST: "its last weights", OTHER: "one of its models"}
_HF_CONFIGS = ("config.json", "adapter_config.json")
_LOWER_IS_BETTER = re.compile(r"loss|err|mae|mse|rmse|perplexity|ppl|bpb|wer|cer|fid")


@dataclass(frozen=True, slots=True)
class Trainer:
    """One trainer's way to write models.

    ``model`` is matched against a model's path from the trainer's own folder on, which is the group
    `run` of ``path``; ``marks`` are names of files of which one must lie in that folder, or below it
    for a name with a slash; none are needed where the path itself is unmistakable.
    """

    name: str
    path: re.Pattern[str]
    marks: tuple[str, ...]
    kinds: tuple[tuple[str, int], ...]  # a pattern of the model's name, and what it is

    def rank(self, name: str) -> tuple[int, int] | None:
        """Best, last or other, then the pattern's place; None when the name is not the trainer's."""
        fits = (re.fullmatch(pattern, name) for pattern, _kind in self.kinds)
        return next(((self.kinds[n][1], n) for n, fit in enumerate(fits) if fit), None)


def _trainer(name: str, path: str, marks: str, **kinds: str) -> Trainer:
    order = {"best": BEST, "last": LAST, "other": OTHER}
    found = tuple((pattern, order[key.rstrip("_")]) for key, pattern in kinds.items())
    return Trainer(name, re.compile(path), tuple(marks.split()), found)


_ANY = r"(?P<run>(?:.*/)?[^/]+)/"
TRAINERS = (
    _trainer(
        "Ultralytics",
        _ANY + r"weights/(?P<name>[^/]+)",
        "args.yaml results.csv opt.yaml hyp.yaml",
        best=r"best\.pt",
        last=r"last\.pt",
        other=r"epoch\d+\.pt",
    ),
    _trainer(
        "RF-DETR",
        _ANY + r"(?P<name>[^/]+)",
        "",
        best=r"checkpoint_best_total\.pth",
        best_=r"checkpoint_best_(ema|regular)\.pth",
    ),
    _trainer(
        "Lightning",
        r"(?P<run>(?:.*/)?[^/]+)/checkpoints/(?P<name>[^/]+)",
        "hparams.yaml metrics.csv events.out.tfevents*",
        best=r".*best.*\.ckpt",
        last=r"last(-v\d+)?\.ckpt",
        other=r".*\.ckpt",
    ),
    _trainer(
        "Lightning",
        r"(?P<run>(?:.*/)?checkpoints)/(?P<name>[^/]+)",
        "",
        last=r"last(-v\d+)?\.ckpt",
        other=r"epoch=\d+.*\.ckpt",
    ),
    _trainer(
        "timm",
        _ANY + r"(?P<name>[^/]+)",
        "summary.csv",
        best=r"model_best\.pth\.tar",
        last=r"last\.pth\.tar",
        other=r"checkpoint-\d+\.pth\.tar",
    ),
    _trainer(
        "MMEngine",
        _ANY + r"(?P<name>[^/]+)",
        "last_checkpoint */vis_data/scalars.json",
        best=r"best_.+\.pth",
        other=r"(epoch|iter)_\d+\.pth",
    ),
    _trainer(
        "Detectron2",
        _ANY + r"(?P<name>[^/]+)",
        "last_checkpoint metrics.json",
        best=r"model_best\.pth",
        last=r"model_final\.pth",
        other=r"model_\d{7}\.pth",
    ),
    _trainer(
        "fastai",
        r"(?P<run>.*)/(?P<name>export\.pkl|models/[^/]+\.pth)",
        "history.csv export.pkl",
        best=r"export\.pkl",
        best_=r"models/.*best.*\.pth",
        other=r"models/.+\.pth",
    ),
    _trainer(
        "nanochat",
        _ANY + r"(?P<name>[^/]+)",
        "meta_*.json",
        other=r"model_\d{6}\.pt",
    ),
    _trainer("nanoGPT", r"(?P<run>(?:.*/)?out[^/]*)/(?P<name>[^/]+)", "", best=r"ckpt\.pt"),
    _trainer(
        "CatBoost",
        r"(?P<run>.*?)/(?P<name>[^/]+(?:/[^/]+)*)",
        "catboost_info/catboost_training.json",
        best=r"(.*/)?[^/]*best[^/]*\.cbm",
        other=r".+\.cbm",
    ),
)
#: names, or patterns of them, of the files by which a trainer's own folder is known
MARKS = sorted({mark.rpartition("/")[2] for trainer in TRAINERS for mark in trainer.marks})
_METRIC = re.compile(r"([A-Za-z][\w/@.-]*?)=(-?\d+(?:\.\d+)?(?:e-?\d+)?)(?=\.ckpt$|[-_,.]|$)")
_COUNTERS = ("epoch", "step", "v", "global_step")
_STEP = re.compile(r"checkpoint-(\d+)")


def own_artifacts(found: Sequence[Artifact], files: Sequence[FoundFile]) -> list[Artifact]:
    """Those of the artifacts that a trainer wrote by its own rules, the best first."""
    tree = _Tree(files)
    hits = _hugging_face(found, tree)
    taken = {one.path for one in hits}
    own = [hit for one in found if one.path not in taken and (hit := _hit(one, tree)) is not None]
    hits += _lightning_best(own)
    return sorted(hits, key=lambda one: one.order)


class _Tree:
    """Which files lie in a folder, and what trainers say."""

    def __init__(self, files: Sequence[FoundFile]) -> None:
        self._names: dict[str, set[str]] = {}
        for file in files:
            folder, _, name = file.path.rpartition("/")
            self._names.setdefault(folder, set()).add(name)
        self.says = {file.path: file.says for file in files if file.says}

    def has(self, folder: str, mark: str) -> bool:
        """Whether a folder carries a mark: a name, or a pattern of a path below it."""
        inner, _, name = f"{folder}/{mark}".rpartition("/")
        if "*" not in mark:
            return name in self._names.get(inner, ())
        folders = re.compile(re.escape(inner).replace(r"\*", "[^/]*"))
        names = re.compile(re.escape(name).replace(r"\*", ".*"))
        held = [inner] if "*" not in inner else filter(folders.fullmatch, self._names)
        return any(names.fullmatch(one) for at in held for one in self._names.get(at, ()))


def _hit(one: Artifact, tree: _Tree) -> Artifact | None:
    """The artifact as its trainer's own, None when it is no trainer's."""
    for trainer in TRAINERS:
        match = trainer.path.fullmatch(one.path)
        rank = trainer.rank(match["name"]) if match else None
        if match is None or rank is None:
            continue
        run: str = match["run"]
        if trainer.marks and not any(tree.has(run, mark) for mark in trainer.marks):
            continue
        kind, place = rank
        newest = tree.says.get(f"{run}/last_checkpoint", "").rpartition("/")[2]
        if kind == OTHER and newest and newest == match["name"]:
            kind = LAST
        return _as_own(one, f"{trainer.name}: {_WORDS[kind]}", run, kind, place)
    return None


def is_trainers(path: str) -> bool:
    """Whether a path is one to which a trainer writes models, if the folder is its own."""
    fits = ((one, one.path.fullmatch(path)) for one in TRAINERS)
    return any(match is not None and one.rank(match["name"]) for one, match in fits)


def _as_own(one: Artifact, why: str, run: str, kind: int, place: float = 0) -> Artifact:
    """Mark an artifact as its trainer's own; the newest of a kind comes first."""
    steps = [-int(number) for number in re.findall(r"\d+", one.path.rpartition("/")[2])[:1]]
    order = (kind, place, -one.mtime_ns, *steps, one.path)
    return replace(one, why=why, run=run, order=order)


def _lightning_best(hits: list[Artifact]) -> list[Artifact]:
    """Of checkpoints named with a metric the one with the best value; of one alone, that one."""
    runs: dict[str | None, list[Artifact]] = {}
    for one in hits:
        if one.why.startswith("Lightning") and one.order[0] == OTHER:
            runs.setdefault(one.run, []).append(one)
    for own in runs.values():
        valued = [(value, one) for one in own if (value := _metric(one.path)) is not None]
        if valued:
            (name, worth), best = max(valued, key=lambda pair: (pair[0][1], pair[1].mtime_ns))
            why = f"Lightning: the best {name} ({abs(worth):g}) of its checkpoints"
        elif len(own) == 1:
            best, why = own[0], "Lightning: the one checkpoint that it kept"
        else:
            continue
        hits[hits.index(best)] = _as_own(best, why, best.run or "", BEST)
    return hits


def _metric(path: str) -> tuple[str, float] | None:
    """A checkpoint's metric and its worth (higher is better), by its name `epoch=3-val_loss=0.1`."""
    name = path.rpartition("/")[2]
    for key, value in _METRIC.findall(name.removesuffix(".ckpt")):
        word = key.lstrip("-_")
        if word not in _COUNTERS:
            low = _LOWER_IS_BETTER.search(word.lower())
            return word, -float(value) if low else float(value)
    return None


def _hugging_face(found: Sequence[Artifact], tree: _Tree) -> list[Artifact]:
    """What HF's Trainer left: `checkpoint-N` folders, and what the script saved after them."""
    models = [one for one in found if one.base == one.path and _is_hugging_face(one)]
    steps: dict[str, dict[int, Artifact]] = {}
    for one in models:
        folder, _, name = one.path.rpartition("/")
        match = _STEP.fullmatch(name)
        if match and any(file.path == f"{one.path}/trainer_state.json" for file in one.files):
            steps.setdefault(folder, {})[int(match[1])] = one
    hits = []
    for folder, by_step in steps.items():
        last = by_step[max(by_step)]
        saids = [tree.says.get(f"{at}/trainer_state.json", "") for at in (folder, last.path)]
        best = next((said.rstrip("/").rpartition("/")[2] for said in saids if said), "")
        for step, one in by_step.items():
            if one.path.rpartition("/")[2] == best:
                why = "Hugging Face Trainer: best_model_checkpoint of trainer_state.json"
                hits.append(_as_own(one, why, folder, BEST, 1))
            else:
                kind = LAST if one is last else OTHER
                words = "the last" if one is last else "a"
                why = f"Hugging Face Trainer: {words} checkpoint, of step {step}"
                hits.append(_as_own(one, why, folder, kind))
    newest = max((one.mtime_ns for one in hits), default=None)
    for one in models:
        is_step = _STEP.fullmatch(one.path.rpartition("/")[2])
        if newest is not None and not is_step and one.mtime_ns >= newest:
            hits.append(
                _as_own(one, "Hugging Face Trainer: saved after its checkpoints", one.path, BEST)
            )
    return hits


def _is_hugging_face(one: Artifact) -> bool:
    return any(file.path == f"{one.path}/{name}" for name in _HF_CONFIGS for file in one.files)
