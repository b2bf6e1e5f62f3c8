"""Recognise a dataset, look into it, and say whether a recipe can train on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from towline.core.task import Scalar
from towline.dataset import folders, tables, yolo
from towline.dataset.pictures import check_pictures
from towline.dataset.report import KINDS, Report
from towline.dataset.tree import Tree
from towline.transfer.scan import Scan

#: kinds that each recipe can train on, the one it is made for first
_TAKES = {
    "yolo": ("yolo", "classes"),
    "image": ("classes",),
    "tabular": ("table",),
    "text": ("text", "table"),
    "keras": ("classes", "table"),
}
#: the recipe to use for a kind
_FOR = {"yolo": "yolo", "classes": "image", "table": "tabular", "text": "text"}
_WANTS = {
    "yolo": "pictures with YOLO labels, or class folders",
    "image": "one folder of pictures for each class",
    "tabular": "a CSV file",
    "text": "CSV, JSON lines or .txt files",
    "keras": "one folder of pictures for each class, or a CSV file",
}


def check(scan: Scan, recipe: str | None, settings: Mapping[str, Scalar]) -> Report:
    """Look into a dataset; may be called again at any time.

    Args:
        scan: The dataset, listed.
        recipe: Name of the recipe that is to train on it; None for a command of the user's own, which
            alone knows what it needs: then nothing is fatal.
        settings: The recipe's settings.
    """
    tree = Tree(scan)
    report = Report()
    _recognise(tree, recipe, str(settings.get("target") or "auto"), report)
    if tree.pictures:
        check_pictures(tree, report)
    report.count_alike()
    if recipe is None:
        report.findings = [replace(one, is_fatal=False) for one in report.findings]
    elif report.kind not in _TAKES[recipe]:
        report.findings = [one for one in report.findings if not one.is_fatal]
        _refuse_kind(tree, recipe, report)
    return report


def _recognise(tree: Tree, recipe: str | None, target: str, report: Report) -> None:
    """Find the kind and look into it; what a recipe asks for is looked for first."""
    takes = _TAKES.get(recipe or "", ())
    found_tables, root = tables.find_tables(tree), folders.class_root(tree)
    if "table" in takes and found_tables and not (root is not None and takes[0] == "classes"):
        _look_at_tables(tree, found_tables, recipe, target, report)
    elif yolo.looks_like(tree):
        yolo.check_yolo(tree, report)
    elif coco := folders.find_coco(tree):
        folders.check_coco(tree, coco, report)
    elif root is not None:
        folders.check_folders(tree, root, report)
    elif tree.pictures:
        report.kind = "pictures"
    elif found_tables:
        _look_at_tables(tree, found_tables, recipe, "auto", report)
    elif texts := tables.find_texts(tree):
        tables.check_texts(tree, texts, report)


def _look_at_tables(
    tree: Tree, found: list[str], recipe: str | None, target: str, report: Report
) -> None:
    if recipe == "text" or (recipe is None and tables.has_long_texts(tree, found[0])):
        tables.check_table(tree, found[0], "auto", report)
        report.kind, report.notes = "text", []
        return
    one = len(found) == 1 or found[0].rpartition("/")[2].lower().startswith("train.")
    if recipe is not None and not one:
        report.kind = "table"
        names = ", ".join(found[:6])
        hint = "name the file itself: `towline train FOLDER/FILE.csv`"
        report.refuse(f"there are {len(found)} CSV files, and none is train.csv: {names}", hint)
        return
    tables.check_table(tree, found[0], target, report)


def _refuse_kind(tree: Tree, recipe: str, report: Report) -> None:
    """The data is of another kind than the recipe's."""
    better = _FOR.get(report.kind)
    if report.kind == "table" and tables.has_long_texts(tree, tables.find_tables(tree)[0]):
        better = "text"
    if better is not None:
        hint = f"train with `--framework {better}`, or name another dataset"
    elif report.kind == "coco":
        hint = "make YOLO labels of it first: ultralytics.data.converter.convert_coco does"
    else:
        hint = f"give it {_WANTS[recipe]}; docs/recipes.md shows how"
    text = f"the dataset is {KINDS[report.kind]}; the recipe {recipe} wants {_WANTS[recipe]}"
    report.refuse(text, hint)
