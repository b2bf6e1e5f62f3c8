"""Recipes: trainings that need a dataset and no script.

A recipe is a script in `recipes/`, what it needs installed, and the table of its settings. The
script runs on the instance and gets the settings as JSON in TOWLINE_SETTINGS. Pure but for
`Recipe.script`, which reads the packaged file.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from towline.core.task import Scalar
from towline.errors import SpecError
from towline.recipe_tables import IMAGE, TABULAR, YOLO
from towline.recipe_values import Setting

#: the framework of a task that has neither `framework` nor `command`
DEFAULT = "yolo"
#: a `framework` that says: my own command
CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training that towline brings along."""

    name: str
    aliases: tuple[str, ...]
    about: str
    data: str  # what the dataset must be
    leaves: str  # what is in the output folder afterwards
    requirements: tuple[str, ...]
    settings: tuple[Setting, ...]
    #: (setting, value): what that value needs installed besides
    extra_requirements: Mapping[tuple[str, str], tuple[str, ...]]

    def script(self) -> str:
        """The training's source."""
        return (resources.files("towline") / "recipes" / f"{self.name}.py").read_text("utf-8")

    def validated(self, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Every setting with its value: the given one, else the default.

        Raises:
            SpecError: An unknown key, a value of the wrong type or out of range; all are named.
        """
        known = {setting.name: setting for setting in self.settings}
        values = {setting.name: setting.default for setting in self.settings}
        problems = []
        for key, value in given.items():
            if key not in known:
                problems.append(_unknown(key, self.name, known))
                continue
            try:
                values[key] = known[key].read(value)
            except ValueError as error:
                problems.append(f"settings.{key}: {error}")
        if problems:
            hint = f"`towline recipes {self.name}` lists the settings with their ranges"
            raise SpecError("; ".join(problems), hint=hint)
        return values

    def needs(self, values: Mapping[str, Scalar]) -> list[str]:
        """Requirements for these settings."""
        found = list(self.requirements)
        for (key, value), more in self.extra_requirements.items():
            if values.get(key) == value:
                found += more
        return found


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "yolo",
        ("ultralytics",),
        "finds, outlines or names things in pictures, with Ultralytics YOLO",
        "a YOLO dataset: data.yaml, or images/ and labels/; or one folder of pictures a class",
        "train/weights/best.pt and last.pt, train/results.csv, plots, data.yaml as it was used",
        ("ultralytics>=8.3",),
        YOLO,
        {},
    ),
    Recipe(
        "image",
        ("pytorch", "torch"),
        "names what a picture shows, with a small PyTorch network",
        "one folder of pictures a class, in train/ and val/ or not split",
        "best.pt, last.pt, labels.json, metrics.json",
        ("torch>=2.1", "pillow>=10", "numpy"),
        IMAGE,
        {},
    ),
    Recipe(
        "tabular",
        ("sklearn", "scikit-learn"),
        "predicts one column of a table from the others, with scikit-learn or XGBoost",
        "a CSV file, or a folder with one (or with train.csv and val.csv)",
        "model.joblib, columns.json, metrics.json",
        ("scikit-learn>=1.5", "pandas>=2", "joblib"),
        TABULAR,
        {("model", "xgboost"): ("xgboost>=2",)},
    ),
)
_BY_NAME = {name: recipe for recipe in RECIPES for name in (recipe.name, *recipe.aliases)}


def find(framework: str | None) -> Recipe:
    """The recipe of a framework's name; None means the default.

    Raises:
        SpecError: There is none of this name.
    """
    name = (framework or DEFAULT).lower()
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name == CUSTOM:
        hint = "give your own script: `command: python train.py`, with `code: .`"
        raise SpecError("framework 'custom' needs a command", hint=hint)
    near = difflib.get_close_matches(name, [*_BY_NAME, CUSTOM], n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    hint = (
        f"recipes: {', '.join(recipe.name for recipe in RECIPES)};"
        " or give your own script: `command: python train.py`"
    )
    raise SpecError(f"framework {framework!r} has no recipe{guess}", hint=hint)


def settings_json(values: Mapping[str, Scalar]) -> str:
    """What TOWLINE_SETTINGS holds."""
    return json.dumps(dict(values), sort_keys=True)


def _unknown(key: str, recipe: str, known: Sequence[str] | Mapping[str, Setting]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
    return f"settings.{key}: the recipe {recipe} has no such setting; {guess}"
