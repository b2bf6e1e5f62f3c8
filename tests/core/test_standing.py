"""Where a training stands: the newest under the side file's names, and what is left."""

import random

from towline.core import standing

ORDER = ("results.csv", "metrics.csv", "events.out.tfevents*")


def report(metrics=None, **data):
    return {"epoch": None, "total_epochs": None, "step": None, "metrics": metrics or {}, **data}


def newest(*reports):
    known = None
    for at, data in enumerate(reports, 1):
        known = standing.newest(known, data, 100.0 + at, ORDER)
    return known


# -- the newest -----------------------------------------------------------------------------------


def test_the_newest_of_each_is_kept():
    known = newest(
        report({"loss": 0.5}, epoch=1, total_epochs=4),
        report({"acc": 0.1}),
        report({"loss": 0.4}, epoch=2),
    )
    assert known["metrics"] == {"loss": 0.4, "acc": 0.1}
    assert (known["epoch"], known["total_epochs"], known["fraction"]) == (2, 4, 0.5)


def test_the_side_file_wins_under_its_own_name():
    console = report({"box_loss": 0.51, "other": 1.0}, epoch=1, total_epochs=4)
    side = report({"train/box_loss": 0.5}, epoch=1, file="output/results.csv")
    expected = {"train/box_loss": 0.5, "other": 1.0}
    assert newest(console, side)["metrics"] == expected
    assert newest(side, console)["metrics"] == expected
    later = report({"box_loss": 0.4}, epoch=2)
    assert newest(console, side, later)["metrics"] == expected | {"train/box_loss": 0.4}


def test_the_more_trusted_side_file_wins():
    events = report({"train/loss": 0.1}, step=5, file="output/events.out.tfevents.1")
    results = report({"train/loss": 0.2}, epoch=1, file="output/results.csv")
    for order in ((events, results), (results, events)):
        assert newest(*order)["metrics"] == {"train/loss": 0.2}


def test_a_side_file_that_comes_late_does_not_turn_the_training_back():
    known = newest(
        report(epoch=7, total_epochs=10), report({"loss": 1.0}, epoch=5, file="output/results.csv")
    )
    assert (known["epoch"], known["fraction"], known["metrics"]) == (7, 0.7, {"loss": 1.0})


def test_a_side_file_alone_says_where_the_training_stands():
    side = {"file": "output/results.csv"}
    known = newest(report({"loss": 1.0}, epoch=1, **side), report({"loss": 0.5}, epoch=2, **side))
    assert (known["epoch"], known["metrics"]) == (2, {"loss": 0.5})


def test_a_second_training_in_the_same_run_counts_anew():
    known = newest(report(epoch=9, total_epochs=10), report(epoch=1, total_epochs=10))
    assert (known["epoch"], known["fraction"]) == (1, 0.1)
    assert known["first"] == [102.0, 0.1]


def test_steps_count_where_there_are_no_epochs():
    known = newest(report(step=25, total_steps=100))
    assert known["fraction"] == 0.25


# -- what is left ---------------------------------------------------------------------------------


def test_what_the_framework_says_is_left_counts_down():
    known = standing.newest(None, report(fraction=0.5, eta_s=60.0), 1000.0, ORDER)
    assert standing.eta_s(known, 0.0, 1010.0) == 50.0
    assert standing.eta_s(known, 0.0, 2000.0) == 0.0


def test_what_is_left_is_judged_by_the_time_between_reports():
    known = standing.newest(None, report(epoch=1, total_epochs=5), 1000.0, ORDER)
    known = standing.newest(known, report(epoch=2, total_epochs=5), 1010.0, ORDER)
    assert (
        standing.eta_s(known, 0.0, 1010.0) == 30.0
    )  # 10 s an epoch; 1000 s of downloads don't count
    assert standing.eta_s(known, 0.0, 1013.0) == 27.0


def test_the_first_report_is_judged_by_the_time_since_the_start():
    known = standing.newest(None, report(epoch=1, total_epochs=4), 1000.0, ORDER)
    assert standing.eta_s(known, 900.0, 1000.0) == 300.0


def test_without_a_share_nothing_is_known_of_what_is_left():
    assert standing.eta_s({}, 0.0, 10.0) is None
    assert standing.eta_s({"fraction": 0.0}, 0.0, 10.0) is None
    assert standing.eta_s({"fraction": 0.5}, None, 10.0) is None
    assert standing.eta_s({"fraction": 1.0}, 0.0, 10.0) == 0.0


def test_any_order_of_any_reports_is_taken():
    rng = random.Random(8)
    for _ in range(200):
        known = newest(*(
            report({rng.choice(["loss", "train/loss"]): rng.choice([None, 0.5])},
                   epoch=rng.choice([None, 1, 2]), total_epochs=rng.choice([None, 0, 2]),
                   step=rng.choice([None, 3]), total_steps=rng.choice([None, 0, 9]),
                   **rng.choice([{}, {"file": "results.csv"}, {"file": "x/unknown.csv"}]))
            for _ in range(6)
        ))  # fmt: skip
        assert 0.0 <= (known.get("fraction") or 0.0) <= 1.0
        assert (standing.eta_s(known, 0.0, 200.0) or 0.0) >= 0.0
