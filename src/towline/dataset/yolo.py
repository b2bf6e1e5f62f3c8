"""YOLO datasets: data.yaml and its paths, pictures and their label files, objects by class."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from typing import Any

import yaml

from towline.dataset.report import Report
from towline.dataset.tree import SPLITS, Tree, resolve, sample

MOST_LABELS = 20_000  # label files that are read
_SEGMENT = 6  # numbers that an outline has at least, with its class number: 3 corners


def find_yaml(tree: Tree) -> str | None:
    """data.yaml, or the one YAML file that speaks of classes; None without one."""
    found = [path for path in tree.named(".yaml", ".yml") if path.count("/") < 3]  # noqa: PLR2004
    found.sort(key=lambda path: (_stem(path) not in {"data", "dataset"}, path.count("/"), path))
    for path in found:
        text = tree.read(path, 1_000_000)
        if b"names" in text or b"nc:" in text:
            return path
    return None


def looks_like(tree: Tree) -> bool:
    """Whether a dataset has YOLO's layout."""
    labels = [path for path in tree.named(".txt") if "labels" in path.split("/")[:-1]]
    return bool(labels) or (find_yaml(tree) is not None and bool(tree.pictures))


def check_yolo(tree: Tree, report: Report) -> None:
    """Fill in a report on a YOLO dataset."""
    report.kind = "yolo"
    path = find_yaml(tree)
    said = _read_yaml(tree, path, report) if path else {}
    splits = _splits(tree, path, said, report)
    if report.fatal:
        return
    if not splits.get("train"):
        hint = "put them into images/train, their label files into labels/train"
        report.refuse("there are no pictures to train on", hint)
        return
    if "val" not in splits and "test" not in splits:
        report.notes.append("no val split: a part of train will be held back to test on")
    names = _names(said, path, report)
    _check_labels(tree, splits, names, said, report)


# -- data.yaml --------------------------------------------------------------------------------------


def _read_yaml(tree: Tree, path: str, report: Report) -> dict[str, Any]:
    try:
        said = yaml.safe_load(tree.read(path, 1_000_000).decode("utf-8-sig"))
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or "it can't be read"
        line = mark.line + 1 if mark else None
        report.refuse(f"not valid YAML: {what}", "correct it there", path, line)
        return {}
    if not isinstance(said, dict):
        report.refuse("it must be a mapping with train, val and names", "correct it", path)
        return {}
    return said


def _line_of(tree: Tree, path: str, key: str) -> int | None:
    lines = tree.read(path, 1_000_000).decode("utf-8", "replace").splitlines()
    return next((n for n, line in enumerate(lines, 1) if line.startswith(f"{key}:")), None)


def _splits(
    tree: Tree, path: str | None, said: dict[str, Any], report: Report
) -> dict[str, list[str]]:
    """Pictures of each split, by data.yaml, else by the names of folders."""
    found: dict[str, list[str]] = {}
    for split, aliases in SPLITS.items():
        entries = next((said[name] for name in aliases if said.get(name)), None)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            pictures = _pictures_of(tree, path or "", split, str(entry), report)
            found.setdefault(split, []).extend(pictures)
    found = {split: pictures for split, pictures in found.items() if pictures}
    return found if found.get("train") or report.fatal else found | splits_of_folders(tree)


def _pictures_of(tree: Tree, path: str, split: str, entry: str, report: Report) -> list[str]:
    base = path.rpartition("/")[0]
    place = resolve(entry, base, tree.folders | tree.sizes.keys())
    if place is None:
        if split == "train" or split == "val":  # noqa: PLR1714 - plainer
            near = difflib.get_close_matches(entry.rpartition("/")[2], sorted(tree.folders), n=1)
            guess = f"; there is {near[0]}" if near else ""
            hint = f"write the folder as it is below the dataset{guess}"
            line = _line_of(tree, path, split)
            report.refuse(f"{split}: {entry} is not in the dataset", hint, path, line)
        return []
    if place not in tree.sizes:
        return tree.pictures_below(place)
    lines = tree.read(place).decode("utf-8", "replace").split("\n")
    places = tree.sizes.keys()
    found = [resolve(line.strip(), base, tree.sizes) for line in lines if line.strip()]
    lost = sum(one is None for one in found)
    if lost:
        report.warn(f"{lost:,} of {len(found):,} pictures that it lists are not there", place)
    return [one for one in found if one is not None and one in places]


def splits_of_folders(tree: Tree) -> dict[str, list[str]]:
    """Pictures by the names of folders: images/train, train/images, train, or all in one."""
    found: dict[str, list[str]] = {}
    for split, names in SPLITS.items():
        for name in names:
            for folder in (f"images/{name}", f"{name}/images", name):
                if split not in found and folder in tree.folders:
                    pictures = tree.pictures_below(folder)
                    if pictures:
                        found[split] = pictures
    return found or {"train": list(tree.pictures)}


def _names(said: dict[str, Any], path: str | None, report: Report) -> dict[int, str] | None:
    """{number: class}; None where data.yaml does not say."""
    names, count = said.get("names"), said.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        if path is not None and not isinstance(count, int):
            report.warn("it names no classes (`names`): they will be class0, class1, ...", path)
        return {n: f"class{n}" for n in range(count)} if isinstance(count, int) else None
    try:
        found = {int(number): str(name) for number, name in names.items()}
    except (TypeError, ValueError):
        report.refuse("names must be a list, or numbers with names", "correct it", path)
        return None
    if isinstance(count, int) and count != len(found):
        report.refuse(f"nc is {count}, but there are {len(found)} names", "correct it", path)
    return found


# -- labels -----------------------------------------------------------------------------------------


def label_of(picture: str) -> str:
    """The label file of a picture: the last `images` of its path becomes `labels`."""
    parts = picture.split("/")
    for number in range(len(parts) - 2, -1, -1):
        if parts[number] == "images":
            parts[number] = "labels"
            break
    stem, _dot, _ending = "/".join(parts).rpartition(".")
    return f"{stem}.txt"


def _check_labels(
    tree: Tree,
    splits: dict[str, list[str]],
    names: dict[int, str] | None,
    said: dict[str, Any],
    report: Report,
) -> None:
    whole = {
        split: [label_of(picture) for picture in pictures] for split, pictures in splits.items()
    }
    total = sum(len(labels) for labels in whole.values())
    share = min(1.0, MOST_LABELS / max(total, 1))
    reader = _Labels(tree, names, _row_length(said), report)
    counts: dict[str, Counter[int]] = {}
    for split, labels in whole.items():
        there = [label for label in labels if label in tree.sizes]
        counts[split] = Counter()
        for label in sample(there, max(1, int(len(there) * share))):
            counts[split].update(reader.read(label))
        bare = len(labels) - len(there)
        report.splits[split] = {"pictures": len(labels), "without_labels": bare}
        if bare and split != "test":
            say = f"{split}: {bare:,} of {len(labels):,} pictures have no label file"
            report.warn(f"{say}: they count as background")
    if share < 1:
        report.notes.append(f"read {MOST_LABELS:,} of {total:,} label files; counts are of those")
    _conclude(counts, reader, names, splits, report)
    report.task = "pose" if said.get("kpt_shape") else reader.task()


def _conclude(
    counts: dict[str, Counter[int]],
    reader: _Labels,
    names: dict[int, str] | None,
    splits: dict[str, list[str]],
    report: Report,
) -> None:
    if not counts["train"]:
        first = label_of(splits["train"][0])
        if reader.rows_bad:
            text = "no line of the label files can be used"
            report.refuse(text, "a line is: class x y width height, all but the class from 0 to 1")
        else:
            text = f"none of the {len(splits['train']):,} training pictures has labels"
            hint = f"towline looked for {first} and so on; class folders without labels need no data.yaml"
            report.refuse(text, hint)
        return
    highest = max(max(found, default=0) for found in counts.values())
    known = names or {n: f"class{n}" for n in range(highest + 1)}
    report.classes = [name for _number, name in sorted(known.items())]
    for split, found in counts.items():
        report.splits[split]["classes"] = {n: found[k] for k, n in sorted(known.items())}
    empty = [name for number, name in sorted(known.items()) if not counts["train"][number]]
    if empty:
        report.warn(f"no object to train on of {', '.join(empty[:8])}{' ...' * (len(empty) > 8)}")  # noqa: PLR2004


def _row_length(said: dict[str, Any]) -> int | None:
    """Numbers in a line of a pose dataset; None for one that is none."""
    shape = said.get("kpt_shape")
    if not isinstance(shape, list) or not all(isinstance(one, int) for one in shape):
        return None
    return 5 + math.prod(shape)


class _Labels:
    """Reads label files, and keeps what is wrong with their lines."""

    def __init__(
        self, tree: Tree, names: dict[int, str] | None, length: int | None, report: Report
    ) -> None:
        self.rows_bad = 0
        self._rows = self._outlines = 0
        self._tree, self._names, self._length, self._report = tree, names, length, report

    def task(self) -> str:
        """What the lines are for."""
        return "segment" if self._outlines * 2 > self._rows else "detect"

    def read(self, label: str) -> list[int]:
        """Class numbers of the lines that can be used."""
        found = []
        for number, line in enumerate(self._tree.read(label).split(b"\n"), 1):
            words = line.split()
            if not words:
                continue
            wrong = self._wrong(words)
            if wrong is None:
                found.append(int(float(words[0])))
            else:
                self.rows_bad += 1
                self._report.warn_few("label lines that can't be used", wrong, label, number)
        return found

    def _wrong(self, words: list[bytes]) -> str | None:
        try:
            kind, *place = map(float, words)
        except ValueError:
            return "not all of it are numbers"
        if not kind.is_integer() or kind < 0:
            return f"the class is {words[0].decode()}, not a whole number from 0 up"
        if self._names is not None and int(kind) not in self._names:
            return f"class {int(kind)} is not among the {len(self._names)} classes"
        wrong = self._wrong_length(len(words))
        if wrong is None and not (
            min(place) >= 0 and max(place) <= (1 if self._length is None else 2)
        ):
            wrong = "coordinates must be from 0 to 1, shares of the picture's size"
        self._rows += wrong is None
        self._outlines += wrong is None and len(words) > _SEGMENT
        return wrong

    def _wrong_length(self, count: int) -> str | None:
        if self._length is not None:
            return None if count == self._length else f"{count} numbers, not {self._length}"
        outline = count > _SEGMENT and count % 2 == 1
        return None if count == 5 or outline else f"{count} numbers, not 5 or an outline"  # noqa: PLR2004


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]
