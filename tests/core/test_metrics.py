"""What was reported: once, in rows, under the side file's names, with the best and what is left."""

import csv
import io
import itertools
import random

import pytest

from towline.core import metrics

ORDER = ("results.csv", "metrics.csv", "events.out.tfevents*")


def report(metrics=None, **data):
    return {"epoch": None, "total_epochs": None, "step": None, "metrics": metrics or {}, **data}


def rows(*reports):
    made = metrics.rows([(float(at), one) for at, one in enumerate(reports)], ORDER)
    return [(row["epoch"], row["step"], row["metrics"]) for row in made]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("metrics/mAP50(B)", "mAP50"),
        ("metrics/mAP50-95(B)", "mAP50-95"),
        ("train/box_loss", "box_loss"),
        ("metrics/precision(B)", "P"),
        ("metrics/recall(B)", "R"),
        ("val_loss", "valid_loss"),
    ],
)
def test_two_names_of_one_metric_have_one_key(one, other):
    assert metrics.key(one) == metrics.key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("val/box_loss", "train/box_loss"),
        ("mAP50", "mAP50-95"),
        ("loss", "val_loss"),
        ("metrics/mAP50(B)", "metrics/mAP50(M)"),
    ],
)
def test_different_metrics_have_different_keys(one, other):
    assert metrics.key(one) != metrics.key(other)


def test_no_name_is_too_odd_for_a_key():
    for name in ("", "///", "(B)", "損失", "é", "train_", "a" * 1000):
        assert metrics.key(name) == metrics.key(name) is not None


# -- rows -----------------------------------------------------------------------------------------


def test_an_epoch_told_in_two_lines_is_one_row():
    told = rows(
        report({"loss": 0.5}, epoch=1),
        report({"acc": 0.1}, epoch=1),
        report({"loss": 0.4}, epoch=2),
    )
    assert told == [(1, None, {"loss": 0.5, "acc": 0.1}), (2, None, {"loss": 0.4})]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_a_side_file_and_the_console_both_say_is_there_once(order):
    reports = [
        report({"box_loss": 0.51, "gpu_mem": 2.4}, epoch=1),
        report({"mAP50": 0.11}, epoch=1),
        report(
            {"train/box_loss": 0.5, "metrics/mAP50(B)": 0.1}, epoch=1, file="code/runs/results.csv"
        ),
    ]
    told = rows(*(reports[at] for at in order))
    assert told == [(1, None, {"train/box_loss": 0.5, "gpu_mem": 2.4, "metrics/mAP50(B)": 0.1})]


def test_the_console_fills_in_what_the_side_file_has_not_said_yet():
    told = rows(
        report({"train/loss": 0.5}, epoch=1, file="output/results.csv"),
        report({"loss": 0.4}, epoch=2),
    )
    assert told == [(1, None, {"train/loss": 0.5}), (2, None, {"train/loss": 0.4})]


def test_of_two_side_files_the_trusted_one_has_the_metric():
    told = rows(
        report({"loss": 0.9, "lr": 0.1}, step=1, file="output/events.out.tfevents.1"),
        report({"loss": 0.5}, epoch=1, file="output/results.csv"),
    )
    assert told == [(None, 1, {"lr": 0.1}), (1, None, {"loss": 0.5})]


def test_another_fold_has_rows_of_its_own():
    folds = [
        report({"loss": value}, epoch=epoch) for value, epoch in ((3, 1), (2, 2), (5, 1), (4, 2))
    ]
    assert [(epoch, row["loss"]) for epoch, _step, row in rows(*folds)] == [
        (1, 3),
        (2, 2),
        (1, 5),
        (2, 4),
    ]
    made = metrics.by_epoch(metrics.rows([(0.0, one) for one in folds], ORDER))
    assert [row["metrics"]["loss"] for row in made] == [3, 2, 5, 4]


def test_reports_without_epoch_and_step_are_rows_of_their_own():
    assert len(rows(report({"acc": 0.5}), report({"acc": 0.5}))) == 2


def test_an_epoch_shows_the_last_of_its_steps():
    made = metrics.rows(
        [(0.0, report({"loss": 1 / step}, epoch=1 + step // 3, step=step)) for step in range(1, 6)],
        ORDER,
    )
    assert [(row["epoch"], row["step"], row["metrics"]["loss"]) for row in metrics.by_epoch(made)] == [
        (1, 2, 0.5), (2, 5, 0.2),
    ]  # fmt: skip


def test_csv_holds_time_epoch_step_and_a_column_a_metric():
    made = metrics.rows(
        [(5.0, report({"b,\n": 1.5, "a": None}, epoch=1)), (6.0, report({"a": 2.0}, step=7))], ORDER
    )
    table = list(csv.reader(io.StringIO(metrics.csv_text(made))))
    assert table == [
        ["time", "epoch", "step", "a", "b,\n"], ["5.000", "1", "", "", "1.5"], ["6.000", "", "7", "2.0", ""],
    ]  # fmt: skip
    assert metrics.csv_text([]) == "time,epoch,step\n"


# -- best and main --------------------------------------------------------------------------------


def test_the_best_is_the_lowest_loss_and_the_highest_accuracy():
    made = metrics.rows(
        [(0.0, report({"loss": loss, "val_acc": acc, "lr": 0.1, "time": 3}, epoch=at))
         for at, (loss, acc) in enumerate([(0.5, 0.1), (None, 0.9), (0.2, 0.8)], 1)], ORDER,
    )  # fmt: skip
    assert metrics.best(made) == {
        "loss": {"value": 0.2, "epoch": 3, "step": None},
        "val_acc": {"value": 0.9, "epoch": 2, "step": None},
    }


@pytest.mark.parametrize(
    ("name", "sign"),
    [("metrics/mAP50-95(B)", 1), ("val_loss", -1), ("rmse", -1), ("eval_f1", 1), ("validation_0-auc", 1),
     ("mlogloss", -1), ("perplexity", -1), ("lr/pg0", 0), ("GPU_mem", 0), ("Instances", 0)],
)  # fmt: skip
def test_which_way_is_better(name, sign):
    assert metrics.direction(name) == sign


def test_the_main_metrics_are_what_a_training_is_judged_by_and_its_loss():
    table = [{"metrics": {"lr/pg0": 1, "train/box_loss": 1, "val/box_loss": 1, "metrics/mAP50(B)": 1,
                          "metrics/mAP50-95(B)": 1}}]  # fmt: skip
    assert metrics.main_metrics(table) == ["metrics/mAP50-95(B)", "val/box_loss"]
    assert metrics.main_metrics([{"metrics": {"loss": 1}}]) == ["loss"]
    assert metrics.main_metrics([{"metrics": {"speed": 1}}]) == ["speed"]
    assert metrics.main_metrics([]) == []


def test_any_order_of_any_reports_is_taken():
    rng = random.Random(8)
    for _ in range(200):
        reports = [
            report({rng.choice(["loss", "train/loss", "mAP50"]): rng.choice([None, 0.5, 1e300])},
                   epoch=rng.choice([None, 1, 2]), step=rng.choice([None, 3]),
                   total_epochs=rng.choice([None, 0, 2]),
                   **rng.choice([{}, {"file": "results.csv"}, {"file": "x/unknown.csv"}]))
            for _ in range(6)
        ]  # fmt: skip
        made = metrics.rows([(0.0, one) for one in reports], ORDER)
        metrics.csv_text(made), metrics.best(made), metrics.by_epoch(made)


def test_an_event_file_says_the_epoch_of_its_steps_and_covers_the_console():
    side = {"file": "logs/events.out.tfevents.1"}
    told = rows(
        report({"val_acc": 0.74}, epoch=1),
        report({"val_acc": 0.742}, step=11, **side),
        report(epoch=1, step=11, **side),
        report({"other": 5.0}, step=12, **side),
    )
    assert told == [(1, 11, {"val_acc": 0.742}), (None, 12, {"other": 5.0})]


def test_a_side_file_without_epochs_covers_what_was_said_before_its_last_word():
    side = {"file": "logs/events.out.tfevents.1"}
    told = rows(
        report({"loss": 0.5}, epoch=1),
        report({"loss": 0.501}, step=11, **side),
        report({"loss": 0.4}, epoch=2),
    )
    assert told == [(None, 11, {"loss": 0.501}), (2, None, {"loss": 0.4})]


def test_steps_beyond_the_last_save_are_the_consoles():
    state = {"file": "output/checkpoint-500/trainer_state.json"}
    told = rows(
        report({"loss": 0.5}, epoch=3),
        report({"loss": 0.501}, epoch=3, step=500, **state),
        report({"loss": 0.4}, epoch=3),
        report({"loss": 0.3}, epoch=3, step=520),
    )
    assert [metrics for _epoch, _step, metrics in told] == [
        {"loss": 0.501}, {"loss": 0.4}, {"loss": 0.3},
    ]  # fmt: skip
