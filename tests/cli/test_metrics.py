"""`towline metrics --from`: any text is read, and the chart holds what it is given."""

import csv
import io
import json
import math
import random

import pytest

from towline.cli.chart import chart

LOG = "".join(f"hello\nepoch {n}/4 loss={1 / n:.3f} acc={n / 8}\n" for n in range(1, 5))


def piped(laptop, text, *options):
    """`towline metrics --from -` with this text at its standard input."""
    (laptop.root / "piped").write_text(text)
    with (laptop.root / "piped").open() as stdin:
        return laptop("metrics", "--from", "-", *options, stdin=stdin)


def test_a_log_is_read_from_a_file_and_from_standard_input(laptop):
    (laptop.project / "train.log").write_text(LOG)
    from_file = laptop("metrics", "--from", "train.log")
    assert from_file.stdout.splitlines() == [
        "train.log: epoch 4/4",
        "EPOCH  acc    loss",
        "1      0.125  1",
        "2      0.25   0.5",
        "3      0.375  0.333",
        "4      0.5    0.25",
        "best   0.5    0.25",
    ]
    as_csv = piped(laptop, LOG, "--csv")
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert [row["loss"] for row in rows] == ["1.0", "0.5", "0.333", "0.25"]
    assert [row["time"] for row in rows] == [""] * 4
    assert not laptop.home.exists()  # a filter makes no home


def test_json_has_rows_the_latest_and_the_best(laptop):
    told = json.loads(piped(laptop, LOG, "--json").stdout)
    assert told["names"] == ["loss", "acc"]
    assert told["latest"] == {"loss": 0.25, "acc": 0.5}
    assert told["progress"]["fraction"] == 1.0
    assert len(told["rows"]) == 4


def test_a_side_file_is_known_by_its_name(laptop):
    (laptop.project / "results.csv").write_text("epoch,time,train/loss\n1,2.5,0.5\n2,5.0,0.25\n")
    shown = laptop("metrics", "--from", "results.csv", "--metric", "train/loss").stdout
    assert shown.splitlines()[1:] == [
        "EPOCH  train/loss",
        "1      0.5",
        "2      0.25",
        "best   0.25",
    ]


def test_bytes_that_are_no_text_are_no_trouble(laptop):
    (laptop.project / "odd.log").write_bytes(random.Random(1).randbytes(300_000) + b"\nepoch 1/2\n")
    assert "epoch 1/2" in laptop("metrics", "--from", "odd.log").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "nowhere.log"], "nowhere.log can't be read"),
        (["--from", "."], "can't be read"),
        (["noop", "--from", "-"], "not both"),
        (
            ["--from", "train.log", "--metric", "los"],
            "no metric is named 'los'; there are: acc, loss",
        ),
    ],
)
def test_what_can_not_be_done_is_said(laptop, arguments, said):
    (laptop.project / "train.log").write_text(LOG)
    done = laptop("metrics", *arguments, code=2)
    assert said in done.stderr


def test_a_log_without_metrics_says_so(laptop):
    shown = piped(laptop, "nothing here\n", "--chart").stdout
    assert "no progress reported" in shown
    assert "No metrics" in shown


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("width", [10, 40, 200])
def test_a_chart_is_as_wide_and_high_as_it_may_be(width, plain):
    rng = random.Random(width)
    for count in (2, 3, 50, 5000):
        points = [(float(x), rng.uniform(-1e300, 1e300)) for x in range(count)]
        lines = chart("loss", points, width, 8, plain=plain)
        assert len(lines) == 10
        assert max(len(line) for line in lines) <= max(width, 26)
        assert plain is all(ord(c) < 128 for line in lines for c in line)


def test_a_falling_curve_falls():
    lines = chart("loss", [(1, 3.0), (2, 2.0), (3, 1.0)], 20, 4, plain=True)
    assert lines[1].startswith("3 |*")
    assert lines[4].startswith("1 |")
    assert lines[4].endswith("*")
    assert lines[5].split() == ["1", "3"]


@pytest.mark.parametrize("value", [0.0, -2.5, 1e-308, 1e308])
def test_a_flat_curve_is_drawn(value):
    lines = chart("x", [(1, value), (2, value)], 30)
    assert (
        sum(1 for line in lines[1:-1] if "⠤" in line or "⠒" in line or "⠉" in line or "⣀" in line)
        == 1
    )
    assert math.isfinite(value)
