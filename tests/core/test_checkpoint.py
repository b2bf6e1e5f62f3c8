"""Promise 3 before the end: which checkpoints come home, and under which name."""

from tests.core.test_artifact import left
from towline.core.artifact import rank_models
from towline.core.checkpoint import figures, home_name, wanted


def picked(*paths, ages=None):
    return {
        kind: one.path for kind, one in wanted(rank_models(left(*paths, ages=ages), None)).items()
    }


def test_the_best_and_the_newest_are_wanted():
    ages = {"output/best.pt": 100}
    assert picked("output/best.pt", "output/last.pt", "output/e1.pt", ages=ages | {"output/e1.pt": 50}) == {
        "best": "output/best.pt", "last": "output/last.pt",
    }  # fmt: skip


def test_a_best_that_is_the_newest_is_wanted_once():
    assert picked("output/best.pt", "output/last.pt", ages={"output/last.pt": 5}) == {
        "best": "output/best.pt"
    }
    assert picked("output/best.pt", "output/last.pt") == {"best": "output/best.pt"}


def test_what_may_be_no_model_is_not_wanted():
    assert picked("output/rf.pkl", "output/booster.json") == {}
    assert picked() == {}


def test_a_state_is_told_from_another_by_size_and_time():
    (one,) = rank_models(left("output/best.pt"), None)
    (same,) = rank_models(left("output/best.pt"), None)
    (older,) = rank_models(left("output/best.pt", ages={"output/best.pt": 1}), None)
    (larger,) = rank_models(left("output/best.pt", sizes={"output/best.pt": 2}), None)
    assert figures(one) == figures(same)
    assert figures(one) not in (figures(older), figures(larger))


def test_two_of_the_same_name_are_told_apart():
    (one,) = rank_models(left("output/a/model.pt"), None)
    assert home_name(one, "best", {}) == "model.pt"
    assert home_name(one, "best", {"best": {"name": "model.pt"}}) == "model.pt"
    assert home_name(one, "last", {"best": {"name": "model.pt"}}) == "last-model.pt"
