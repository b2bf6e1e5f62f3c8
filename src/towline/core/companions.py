"""Files that belong beside a model: its settings, tokenizer, labels, results and plots. By name alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from towline.core.formats import Artifact, FoundFile, looseness

#: taken from the folder of any model
_NAMES_TEXT = (
    "args.yaml args.json opt.yaml hyp.yaml hparams.yaml config.json config.yaml config.yml data.yaml"
    " dataset.yaml adapter_config.json generation_config.json preprocessor_config.json"
    " trainer_state.json tokenizer* vocab* merges.txt special_tokens_map.json added_tokens.json"
    " spiece.model labels* classes* class_names* label_map* id2label* names.txt results.csv results.json"
    " metrics.csv metrics.json summary.csv history.* scalars.json meta_*.json model_card* README.md"
    " events.out.tfevents* *.png *.jpg *.jpeg *.svg *.pdf"
)
_NAMES = _NAMES_TEXT.split()
#: taken from a trainer's own folder, at any depth
_SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".log", ".md", ".py")
_INNER = ("weights", "checkpoints", "models", "model", "ckpt", "ckpts")
_TOPS = ("code", "output")
_MOST_FILES = 200
_MOST_HELD = 10_000
_MOST_BYTES = 20 << 20  # of one file


def companions(
    model: Artifact, files: Iterable[FoundFile], others: Iterable[Artifact]
) -> dict[str, FoundFile]:
    """What to take along with a model: names relative to its folder, and the files.

    ``files`` is gone through for each folder that is looked into.
    """
    inside = {file.path for file in model.files}
    foreign = tuple(f"{one.base}/" for one in others if one.base == one.path)
    taken: dict[str, FoundFile] = {}
    for folder, deep in _folders(model):
        for file in files:
            inner = file.path.removeprefix(folder + "/")
            if (
                inner != file.path
                and file.path not in inside
                and not (deep and file.path.startswith(foreign) and foreign)
                and _belongs(file, inner, deep=deep)
            ):
                taken.setdefault(inner, file)
                if len(taken) > _MOST_HELD:
                    taken = _first(taken)
    return _first(taken)


def _first(taken: dict[str, FoundFile]) -> dict[str, FoundFile]:
    return dict(sorted(taken.items())[:_MOST_FILES])


def _folders(model: Artifact) -> list[tuple[str, bool]]:
    """Where to look: folders, and whether all below them is meant."""
    if model.run is not None and model.run not in _TOPS and model.run != model.base:
        return [(model.run, True)]
    if model.base == model.path:
        return []  # a folder model holds its own
    folder = model.path.rpartition("/")[0]
    above, _, name = folder.rpartition("/")
    inner = name.lower() in _INNER and above not in ("", *_TOPS)
    return [(folder, False), *([(above, False)] if inner else [])]


def _belongs(file: FoundFile, inner: str, *, deep: bool) -> bool:
    name = inner.rpartition("/")[2].lower()
    if file.size_bytes > _MOST_BYTES or (not deep and "/" in inner) or looseness(file.path) == 0:
        return False
    named = any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in _NAMES)
    return named or (deep and name.endswith(_SUFFIXES))
