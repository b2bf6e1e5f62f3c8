"""CSV tables and texts: columns, rows, and whether a target is there."""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections import Counter
from typing import Any

from towline.core.units import count_text
from towline.dataset.report import Report
from towline.dataset.tree import TABLES, Tree

_MOST_BYTES = 8_000_000
_TARGET_NAMES = ("target", "label", "class", "y")
_TEXT_NAMES = ("text", "sentence", "content", "prompt", "review", "body")
_MOST_CLASSES = 20
_FEW_ROWS = 5
_LONG_TEXT = 40  # characters, on average


def find_tables(tree: Tree) -> list[str]:
    """CSV files, train.csv first."""
    found = tree.named(*TABLES)
    return sorted(found, key=lambda path: ("train" not in path.lower(), path))


def find_texts(tree: Tree) -> list[str]:
    """Files of JSON lines, else plain texts."""
    return tree.named(".jsonl") or tree.named(".txt", ".md")


def check_table(tree: Tree, path: str, target: str, report: Report) -> None:
    """Fill in a report on a table; ``target`` is "auto" or a column's name."""
    report.kind = "table"
    rows = _rows(tree, path, report)
    if not rows:
        report.refuse("the table is empty", "name another file", path)
        return
    header, body = rows[0], rows[1:]
    if all(_is_number(cell) for cell in header):
        header, body = [f"c{n}" for n in range(1, len(header) + 1)], rows
        report.notes.append("no header line: its columns are called c1, c2, ...")
    if len(header) < 2 or len(body) < _FEW_ROWS:  # noqa: PLR2004
        text = f"{len(body)} rows and {len(header)} columns are too few"
        report.refuse(text, "a table needs a header, two columns and five rows at least", path)
        return
    uneven = [n for n, row in enumerate(body, 2) if len(row) != len(header)]
    for line in uneven:
        report.warn_few("rows of another length", f"not {len(header)} cells", path, line)
    column = _target(header, target, path, report)
    if column is not None:
        _count(header[column], [row[column] for row in body if len(row) == len(header)], report)


def _rows(tree: Tree, path: str, report: Report) -> list[list[str]]:
    raw = tree.read(path, _MOST_BYTES)
    try:
        text = raw.decode("utf-8-sig", "strict" if len(raw) < _MOST_BYTES else "ignore")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
    if len(raw) == _MOST_BYTES:
        text = text.rpartition("\n")[0]
        report.notes.append(f"read the first {_MOST_BYTES // 1_000_000} MB of {path}")
    if "\0" in text:
        report.refuse("it is no text", "save it as CSV, in UTF-8", path)
        return []
    try:
        comma = csv.Sniffer().sniff(text[:65536], delimiters=",;\t|").delimiter
    except csv.Error:
        comma = "\t" if path.endswith(".tsv") else ","
    csv.field_size_limit(_MOST_BYTES)  # a cell may hold a whole text
    try:
        return [row for row in csv.reader(io.StringIO(text), delimiter=comma) if row]
    except csv.Error as error:
        report.refuse(f"not readable as CSV: {error}", "correct it", path)
        return []


def _target(header: list[str], wanted: str, path: str, report: Report) -> int | None:
    names = [name.strip() for name in header]
    if wanted != "auto":
        if wanted in names:
            return names.index(wanted)
        near = difflib.get_close_matches(wanted, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"columns: {', '.join(names[:12])}"
        report.refuse(f"there is no column {wanted!r}", hint, path)
        return None
    small = [name.lower() for name in names]
    named = next((small.index(name) for name in _TARGET_NAMES if name in small), len(names) - 1)
    report.notes.append(f"target: column {names[named]!r}; --set target=NAME says another")
    return named


def _count(name: str, values: list[str], report: Report) -> None:
    known = [value.strip() for value in values if value.strip()]
    if len(known) < len(values):
        report.warn(f"{len(values) - len(known):,} rows have no {name}: they are left out")
    counts = Counter(known)
    numeric = all(map(_is_number, known))
    row: dict[str, Any] = {"rows": len(values)}
    if not numeric or len(counts) <= _MOST_CLASSES:
        row["classes"] = dict(counts.most_common(200))
        report.classes = sorted(counts)
    report.splits["train"] = row
    if len(counts) < 2:  # noqa: PLR2004
        report.refuse(f"column {name!r} has one value only", "name another: --set target=NAME")


def check_text_table(tree: Tree, path: str, report: Report) -> None:
    """Fill in a report on a table of texts."""
    rows = _rows(tree, path, report)
    report.kind, report.notes = "text", []
    if len(rows) < 3:  # noqa: PLR2004
        report.refuse("there are fewer than two texts", "a table needs a header and rows", path)
        return
    names = [name.strip().lower() for name in rows[0]]
    report.splits["train"] = {"rows": len(rows) - 1}
    label = next((names.index(name) for name in _TARGET_NAMES if name in names), None)
    if label is not None:
        counts = Counter(row[label].strip() for row in rows[1:] if label < len(row))
        report.splits["train"]["classes"] = dict(counts.most_common(200))
        report.classes = sorted(counts)


def check_texts(tree: Tree, files: list[str], report: Report) -> None:
    """Fill in a report on JSON lines or plain texts."""
    report.kind = "text"
    report.splits["train"] = {"files": len(files)}
    if not files[0].endswith(".jsonl"):
        size = sum(tree.sizes[path] for path in files)
        report.notes.append(
            f"{count_text(len(files), 'plain text file')}, {count_text(size, 'byte')}: no labels"
        )
        return
    keys: Counter[str] = Counter()
    rows = 0
    for path in files[:20]:
        for number, line in enumerate(tree.read(path, _MOST_BYTES).split(b"\n")[:5000], 1):
            if not line.strip():
                continue
            try:
                keys.update(dict(json.loads(line)).keys())
                rows += 1
            except (ValueError, TypeError, RecursionError):
                report.warn_few("lines that are no JSON object", "no JSON object", path, number)
    report.splits["train"]["rows"] = rows
    if not rows:
        report.refuse("there is no line of JSON", 'a line is {"text": ..., "label": ...}', files[0])
    elif not any(name in keys for name in _TEXT_NAMES):
        report.warn(f"no key named text: found {', '.join(sorted(keys)[:8])}", files[0])


def has_long_texts(tree: Tree, path: str) -> bool:
    """Whether a table's cells are sentences: then it is for the recipe text."""
    report = Report()
    rows = _rows(tree, path, report)[:200]
    if len(rows) < 2:  # noqa: PLR2004
        return False
    names = [name.strip().lower() for name in rows[0]]
    lengths = [sum(len(row[n]) for row in rows[1:] if n < len(row)) for n in range(len(names))]
    return any(
        name in _TEXT_NAMES and length / (len(rows) - 1) > _LONG_TEXT
        for name, length in zip(names, lengths, strict=True)
    )


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
