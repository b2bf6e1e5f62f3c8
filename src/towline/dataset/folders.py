"""Pictures in class folders, split or not; and pictures with COCO annotations."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from towline.dataset.report import Report
from towline.dataset.tree import SPLITS, Tree

_COCO_MOST_BYTES = 200_000_000
_COCO_MARKS = (b'"annotations"', b'"categories"', b'"images"', b'"info"', b'"licenses"')
_FEW = 8


def class_root(tree: Tree) -> str | None:
    """The folder that holds the class folders or the splits; None where there is none."""
    root = ""
    while tree.pictures:
        inner = [name for name in tree.folders_in(root) if _holds(tree, _join(root, name))]
        if any(name in SPLITS["train"] for name in inner):
            train = next(name for name in inner if name in SPLITS["train"])
            return root if tree.folders_in(_join(root, train)) else None
        loose = any("/" not in path[len(root) :].lstrip("/") for path in tree.pictures_below(root))
        if len(inner) != 1 or loose:
            return root if inner else None
        if not tree.folders_in(_join(root, inner[0])):
            return root
        root = _join(root, inner[0])
    return None


def check_folders(tree: Tree, root: str, report: Report) -> None:
    """Fill in a report on pictures in class folders."""
    report.kind = "classes"
    splits = {
        split: next((_join(root, n) for n in names if _join(root, n) in tree.folders), None)
        for split, names in SPLITS.items()
    }
    places = {split: place for split, place in splits.items() if place is not None}
    if "train" not in places:
        places = {"train": root}
        report.notes.append("not split: a part of each class will be held back to test on")
    counts = _count(tree, places)
    report.classes = sorted(name for name, count in counts["train"].items() if count)
    for split, found in counts.items():
        report.splits[split] = {
            "pictures": sum(found.values()),
            "classes": dict(sorted(found.items())),
        }
    _judge(counts, root, report)


def _count(tree: Tree, places: dict[str, str]) -> dict[str, dict[str, int]]:
    """Pictures by split and class, in one pass over all of them."""
    found = {split: dict.fromkeys(tree.folders_in(place), 0) for split, place in places.items()}
    starts = {split: f"{place}/" if place else "" for split, place in places.items()}
    for path in tree.pictures:
        for split, start in starts.items():
            if path.startswith(start):
                name, slash, _rest = path[len(start) :].partition("/")
                if slash and name in found[split]:
                    found[split][name] += 1
    return found


def _judge(counts: dict[str, dict[str, int]], root: str, report: Report) -> None:
    empty = [name for name, count in counts["train"].items() if not count]
    if empty:
        more = f" and {len(empty) - _FEW} more" if len(empty) > _FEW else ""
        report.warn(f"class folders without a picture: {', '.join(empty[:_FEW])}{more}")
    if len(report.classes) < 2:  # noqa: PLR2004
        found = f"only {report.classes[0]!r}" if report.classes else "none"
        hint = "put the pictures of each class into a folder of its own, named for the class"
        report.refuse(
            f"{found} of the class folders holds pictures; two are needed", hint, root or None
        )
        return
    single = [name for name in report.classes if counts["train"][name] == 1]
    if single:
        report.warn(f"one picture only to train on: {', '.join(single[:_FEW])}")
    for split in set(counts) - {"train"}:
        strange = sorted(
            name for name, n in counts[split].items() if n and name not in report.classes
        )
        if strange:
            report.warn(f"{split} has classes that train has not: {', '.join(strange[:_FEW])}")


def find_coco(tree: Tree) -> list[str]:
    """Annotation files in COCO's form, by their first bytes."""
    found = []
    for path in tree.named(".json")[:200]:
        start = tree.read(path, 4096).lstrip()
        if start.startswith(b"{") and any(mark in start for mark in _COCO_MARKS):
            found.append(path)
    return found if tree.pictures else []


def check_coco(tree: Tree, files: list[str], report: Report) -> None:
    """Fill in a report on COCO annotations."""
    report.kind = "coco"
    names = {path.rpartition("/")[2] for path in tree.pictures}
    for path in files:
        said = _load(tree, path, report)
        if said is None:
            continue
        split = next(
            (s for s, words in SPLITS.items() if any(w in path.lower() for w in words)), "train"
        )
        kinds = {one.get("id"): str(one.get("name")) for one in _rows(said, "categories")}
        counts = Counter(
            kinds.get(one.get("category_id"), "?") for one in _rows(said, "annotations")
        )
        files_named = [
            str(one.get("file_name", "")).rpartition("/")[2] for one in _rows(said, "images")
        ]
        lost = [name for name in files_named if name not in names]
        if lost:
            report.warn(
                f"{len(lost):,} of {len(files_named):,} pictures are not there, such as {lost[0]}",
                path,
            )
        if counts.pop("?", 0):
            report.warn("there are annotations of a category that it does not list", path)
        report.classes = report.classes or list(kinds.values())
        report.splits[split] = {
            "pictures": len(files_named),
            "classes": {name: counts[name] for name in kinds.values()},
        }


def _load(tree: Tree, path: str, report: Report) -> dict[str, Any] | None:
    if tree.sizes[path] > _COCO_MOST_BYTES:
        report.notes.append(f"{path} is too large to be looked into here")
        return None
    try:
        said = json.loads(tree.read(path))
    except (ValueError, RecursionError) as error:
        report.warn(f"not valid JSON: {error}", path)
        return None
    return said if isinstance(said, dict) else None


def _rows(said: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = said.get(key)
    return [one for one in rows if isinstance(one, dict)] if isinstance(rows, list) else []


def _holds(tree: Tree, folder: str) -> bool:
    start = f"{folder}/"
    return any(path.startswith(start) for path in tree.pictures)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
