"""Recipes as data: names, settings, and scripts that agree with them."""

import ast

import pytest

from towline import recipe
from towline.errors import SpecError
from towline.recipe_values import Setting

BY_NAME = {one.name: one for one in recipe.RECIPES}


def defaults_of(one):
    """DEFAULTS as it stands in the script; the script is not run."""
    for node in ast.parse(one.script()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "DEFAULTS":
            return ast.literal_eval(node.value)
    raise AssertionError("no DEFAULTS")


@pytest.mark.parametrize("one", recipe.RECIPES, ids=lambda one: one.name)
def test_a_script_has_the_settings_that_its_table_names(one):
    assert defaults_of(one) == {setting.name: setting.default for setting in one.settings}


@pytest.mark.parametrize("one", recipe.RECIPES, ids=lambda one: one.name)
def test_a_script_says_what_it_is_and_reads_what_towline_tells_it(one):
    text = one.script()
    assert ast.get_docstring(ast.parse(text))
    for word in ("TOWLINE_DATASET", "TOWLINE_OUTPUT", "TOWLINE_SETTINGS", '"type": "progress"'):
        assert word in text


@pytest.mark.parametrize("one", recipe.RECIPES, ids=lambda one: one.name)
def test_the_defaults_are_values_that_the_settings_take(one):
    given = {setting.name: setting.default for setting in one.settings}
    assert one.validated(given) == one.validated({}) == given


@pytest.mark.parametrize(
    ("name", "found"),
    [(None, "yolo"), ("yolo", "yolo"), ("YOLO", "yolo"), ("pytorch", "image"), ("sklearn", "tabular"),
     ("ultralytics", "yolo")],
)  # fmt: skip
def test_a_framework_is_found_by_its_names(name, found):
    assert recipe.find(name).name == found


@pytest.mark.parametrize(
    ("name", "words"),
    [("tabluar", "did you mean 'tabular'"), ("custom", "needs a command"), ("!", "has no recipe")],
)
def test_a_name_without_a_recipe_is_an_error_with_a_hint(name, words):
    with pytest.raises(SpecError, match=words) as caught:
        recipe.find(name)
    assert "command" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epoch": 3}, r"no such setting; did you mean 'epochs'\?"),
        ({"zzz": 3}, "no such setting; it has target, task"),
        ({"epochs": 0}, "whole number from 1 to 100000 is wanted, not 0"),
        ({"epochs": 1.5}, "whole number .* not 1.5"),
        ({"epochs": True}, "whole number .* not True"),
        ({"epochs": "many"}, "whole number .* not 'many'"),
        ({"epochs": float("nan")}, "not nan"),
        ({"epochs": "1e400"}, "not '1e400'"),
        ({"epochs": 10**400}, "whole number"),
        ({"lr": float("inf")}, "not inf"),
        ({"model": "forest"}, "sklearn, xgboost is wanted, not 'forest'"),
        ({"target": "  "}, "it is empty"),
    ],
)
def test_a_wrong_setting_is_an_error_that_says_what_is_right(given, words):
    with pytest.raises(SpecError, match=words) as caught:
        BY_NAME["tabular"].validated(given)
    assert "towline recipes tabular" in caught.value.hint


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(SpecError, match="settings.epochs.*settings.lr"):
        BY_NAME["tabular"].validated({"epochs": 0, "lr": 7})


@pytest.mark.parametrize(
    ("given", "value"),
    [({"epochs": "30"}, 30), ({"epochs": 1e3}, 1000), ({"target": 5}, "5"), ({"lr": 1}, 1.0),
     ({"model": "XGBoost"}, "xgboost"), ({"epochs": None}, 100)],
)  # fmt: skip
def test_a_value_is_taken_in_every_form_it_can_be_meant_in(given, value):
    (name,) = given
    assert BY_NAME["tabular"].validated(given)[name] == value


@pytest.mark.parametrize(("given", "value"), [("yes", True), (False, False), ("OFF", False)])
def test_a_switch_is_read_from_words(given, value):
    assert Setting("flip", "switch", False, "").read(given) is value


@pytest.mark.parametrize("given", [1, 0.5, "maybe"])
def test_a_switch_is_no_number(given):
    with pytest.raises(ValueError, match="true or false"):
        Setting("flip", "switch", False, "").read(given)


def test_a_value_beyond_the_range_may_have_a_meaning_of_its_own():
    batch = next(one for one in BY_NAME["yolo"].settings if one.name == "batch")
    assert batch.read(-1) == -1
    with pytest.raises(ValueError, match="or -1 is wanted"):
        batch.read(-2)


def test_a_setting_can_bring_a_requirement():
    tabular = BY_NAME["tabular"]
    assert not any("xgboost" in line for line in tabular.needs(tabular.validated({})))
    needed = tabular.needs(tabular.validated({"model": "xgboost"}))
    assert needed[-1].startswith("xgboost")
