"""`towline recipes`: the trainings that need no script, their settings, and their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import click

from towline.cli.common import json_option
from towline.cli.text import Out, table
from towline.errors import SpecError

if TYPE_CHECKING:
    from towline.recipe import Recipe


@click.command()
@click.argument("words", nargs=-1, metavar="[[show] NAME]")
@json_option
@click.pass_obj
def recipes(out: Out, /, words: tuple[str, ...]) -> int:
    """List the trainings that need no script; show one's settings or source.

    With NAME the settings, with `show NAME` the script: `towline recipes show image > train.py`
    is the start of a training of one's own.
    """
    from towline.recipe import RECIPES, find  # noqa: PLC0415 - `--help` needs none of it

    match words:
        case ():
            _list(out, RECIPES)
        case ("show", name):
            out.raw(find(name).script().encode())
        case (name,) if name != "show":
            _describe(out, find(name))
        case _:
            _refuse()
    return 0


def _refuse() -> NoReturn:
    hint = "`towline recipes`, `towline recipes NAME`, `towline recipes show NAME`"
    raise SpecError("recipes takes one name, after `show` for its script", hint=hint)


def _list(out: Out, found: tuple[Recipe, ...]) -> None:
    if out.as_json:
        out.document([_data(one) for one in found])
        return
    out.lines(table([(one.name, f"{one.about} (needs {one.data})") for one in found]))
    out.line("\nTrain with one: `towline train ./dataset --framework NAME`.")
    out.line("Settings: `towline recipes NAME`. Script: `towline recipes show NAME > train.py`.")


def _describe(out: Out, found: Recipe) -> None:
    if out.as_json:
        out.document(_data(found))
        return
    also = f" (also called {', '.join(found.aliases)})" if found.aliases else ""
    out.line(f"{found.name}{also}: {found.about}")
    rows = [
        ("Data", found.data),
        ("Leaves", found.leaves),
        ("Needs", ", ".join(found.requirements)),
    ]
    out.lines(table(rows))
    out.line("\nSettings, as `--set name=value` or below `settings:` in the task file:")
    out.lines(
        table([(one.name, _shown(one.default), one.allowed, one.help) for one in found.settings])
    )


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _data(found: Recipe) -> dict[str, Any]:
    return {
        "name": found.name,
        "aliases": list(found.aliases),
        "about": found.about,
        "data": found.data,
        "leaves": found.leaves,
        "requirements": list(found.requirements),
        "settings": [
            {
                "name": one.name,
                "default": one.default,
                "allowed": one.allowed,
                "choices": list(one.choices),
                "help": one.help,
            }
            for one in found.settings
        ],
    }
