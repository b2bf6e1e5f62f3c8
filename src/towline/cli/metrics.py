"""`towline metrics`: what a training reported, as a table, a chart, CSV or JSON; of any log, too."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towline.cli.common import json_option, opened, run_argument
from towline.cli.text import Out, table

if TYPE_CHECKING:
    from towline.core.progress import Progress

_ROWS = 20
_BLOCK = 1 << 20
_WIDTH = 100
_LEAST_POINTS = 2


@click.command()
@run_argument
@click.option("--from", "source", metavar="LOGFILE", help="Read this log or side file; - is stdin.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all rows as CSV.")
@click.option("--chart", "wants_chart", is_flag=True, help="Draw a chart without a terminal, too.")
@click.option("--metric", "wanted", multiple=True, metavar="NAME", help="Only metrics named so.")
@json_option
@click.pass_obj
def metrics(
    out: Out, run: str | None, *, source: str | None, as_csv: bool, wants_chart: bool,
    wanted: tuple[str, ...],
) -> None:  # fmt: skip
    """Show what a training reported, as table and chart."""
    if source is not None:
        if run is not None:
            raise click.UsageError("give a RUN or --from, not both")
        title = "standard input" if source == "-" else source
        reports = [(one.at, one.data()) for one in _parsed(source)]
    else:
        with opened(out) as towline:
            found = towline.store.find(run)
            title = f"{found.name} ({found.id})"
            events = towline.store.events(found.id)
            reports = [(one.at, one.data) for one in events if one.kind == "progress"]
    _show(out, title, reports, wanted, as_csv=as_csv, wants_chart=wants_chart)


def _parsed(source: str) -> list[Progress]:
    """Read progress out of a file: by its name as a side file, else as a log."""
    from towline.core.progress import ProgressParser  # noqa: PLC0415 - `--help` needs none
    from towline.core.side_files import reader  # noqa: PLC0415

    try:
        if source != "-" and (side := reader(source)) is not None:
            return side.feed(Path(source).read_bytes())
        parser, found = ProgressParser(), []
        with open(
            sys.stdin.fileno() if source == "-" else source, "rb", closefd=source != "-"
        ) as file:
            while data := file.read(_BLOCK):
                found += parser.feed(data)
        return found + parser.flush()
    except OSError as error:
        raise click.UsageError(f"{source} can't be read: {error.strerror}") from error


def _show(
    out: Out, title: str, reports: list[Any], wanted: tuple[str, ...], *, as_csv: bool,
    wants_chart: bool,
) -> None:  # fmt: skip
    from towline.core import metrics as core  # noqa: PLC0415
    from towline.core import standing  # noqa: PLC0415
    from towline.core.side_files import SIDE_NAMES  # noqa: PLC0415

    newest: dict[str, Any] | None = None
    for at, data in reports:
        newest = standing.newest(newest, data, at or 0.0, SIDE_NAMES)
    rows = _only(core.rows(reports, SIDE_NAMES), wanted)
    if as_csv:
        out.raw(core.csv_text(rows).encode())
    elif out.as_json:
        out.document(_document(rows, newest))
    else:
        _show_table(out, title, core.by_epoch(rows), newest)
        if wants_chart or out.is_terminal:
            _show_charts(out, core.by_epoch(rows), wanted)


def _only(rows: list[dict[str, Any]], wanted: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows with the wanted metrics alone."""
    if not wanted:
        return rows
    known = sorted({name for row in rows for name in row["metrics"]})
    if missing := [name for name in wanted if name not in known]:
        message = f"no metric is named {missing[0]!r}; there are: {', '.join(known) or 'none'}"
        raise click.UsageError(message)
    kept = [
        row | {"metrics": {n: value for n, value in row["metrics"].items() if n in wanted}}
        for row in rows
    ]
    return [row for row in kept if row["metrics"]]


def _document(rows: list[dict[str, Any]], newest: dict[str, Any] | None) -> dict[str, Any]:
    from towline.core import metrics as core  # noqa: PLC0415

    latest = {name: value for row in rows for name, value in row["metrics"].items()}
    keys = ("epoch", "total_epochs", "step", "total_steps", "fraction", "eta_s")
    return {
        "progress": {key: (newest or {}).get(key) for key in keys},
        "names": core.names(rows),
        "latest": latest,
        "best": core.best(rows),
        "rows": rows,
    }


# -- for people -----------------------------------------------------------------------------------


def _show_table(
    out: Out, title: str, rows: list[dict[str, Any]], newest: dict[str, Any] | None
) -> None:
    from towline.cli.words import progress_text  # noqa: PLC0415
    from towline.core import metrics as core  # noqa: PLC0415

    stands = progress_text({**(newest or {}), "metrics": {}})
    out.line(f"{title}: {stands or 'no progress reported'}")
    if not rows:
        out.line("No metrics yet. docs/frameworks.md says what is understood.")
        return
    best = core.best(rows)
    shown = rows[-_ROWS:] if out.is_terminal else rows
    names = _by_importance(rows)
    head, lines = _fitted(shown, names, best, _width(out) if out.is_terminal else None)
    out.lines(lines)
    notes = [f"{len(rows) - len(shown)} earlier rows"] if len(shown) < len(rows) else []
    notes += [f"{len(names) - head} more metrics"] if head < len(names) else []
    if notes:
        out.line(f"({' and '.join(notes)}: --csv has all)")


def _by_importance(rows: list[dict[str, Any]]) -> list[str]:
    from towline.core import metrics as core  # noqa: PLC0415

    first = core.main_metrics(rows)
    return [*first, *(name for name in core.names(rows) if name not in first)]


def _fitted(
    rows: list[dict[str, Any]], names: list[str], best: dict[str, Any], width: int | None
) -> tuple[int, list[str]]:
    """Lay the table out with as many metrics as fit; their number and the lines."""
    count = len(names)
    while True:
        lines = table(_cells(rows, names[:count], best))
        if count == 1 or width is None or max(len(line) for line in lines) <= width:
            return count, lines
        count -= 1


def _cells(rows: list[dict[str, Any]], names: list[str], best: dict[str, Any]) -> list[list[str]]:
    there = (place for place in ("epoch", "step") if any(row[place] is not None for row in rows))
    place = next(there, "")
    lines = [
        [_count(row.get(place)), *(_value(row["metrics"], name) for name in names)] for row in rows
    ]
    if any(name in best for name in names):
        lines.append(["best", *(_value_at(best.get(name)) for name in names)])
    return [[place.upper(), *names], *lines]


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def _value(metrics: dict[str, float | None], name: str) -> str:
    if name not in metrics:
        return ""
    value = metrics[name]
    return "nan" if value is None else format(value, ".5g")


def _value_at(best: dict[str, Any] | None) -> str:
    if best is None:
        return ""
    return format(best["value"], ".5g")


def _width(out: Out) -> int:
    if not out.is_terminal:
        return _WIDTH
    import shutil  # noqa: PLC0415

    return shutil.get_terminal_size().columns


def _show_charts(out: Out, rows: list[dict[str, Any]], wanted: tuple[str, ...]) -> None:
    from towline.cli.chart import chart  # noqa: PLC0415
    from towline.core import metrics as core  # noqa: PLC0415

    plain = "utf" not in (sys.stdout.encoding or "").lower()
    for name in wanted or core.main_metrics(rows):
        points = _points(rows, name)
        if len(points) >= _LEAST_POINTS:
            out.line()
            out.lines(chart(name, points, _width(out), plain=plain))


def _points(rows: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """The metric over epochs, steps, or just in order, whatever grows all the way."""
    having = [row for row in rows if _is_number(row["metrics"].get(name))]
    for place in ("epoch", "step"):
        along = [row[place] for row in having]
        if None not in along and all(a < b for a, b in itertools.pairwise(along)):
            return [(float(x), row["metrics"][name]) for x, row in zip(along, having, strict=True)]
    return [(float(at), row["metrics"][name]) for at, row in enumerate(having, 1)]


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
