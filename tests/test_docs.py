"""The docs against the code: what can be named is named, and examples are real."""

import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path

import click
import pytest
import yaml

import towline.core
from towline import errors, home, providers, taskfile
from towline.clock import RealClock
from towline.core.task import Artifacts, Limits, Resources, TaskSpec
from towline.providers import CLOUDS, keys_of, make
from towline.providers.account import COMMON

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
TASK_KEYS = {field.name for field in dataclasses.fields(TaskSpec)}

# spelled in two parts, so that this file does not name them
MACHINE_WORDS = [
    "/wor" + "k/", "/root" + "/.py", "/opt" + "/pypi", "/opt" + "/wheels",
    "py" + "pi.org", "python" + "hosted.org", "deb." + "debian.org", "registry." + "npmjs",
]  # fmt: skip
NOT_OURS = {".git", ".venv", "build", "dist", "runs", "towline-demo", "__pycache__", "node_modules"}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def examples(language):
    return [
        pytest.param(
            "\n".join(line.removeprefix(indent) for line in text.splitlines()), id=name_of(page)
        )
        for page in PAGES
        for indent, kind, text in FENCE.findall(page.read_text("utf-8"))
        if kind == language
    ]


def section(page, heading):
    """Text under a heading up to the next one of the same depth or above."""
    depth = heading.index(" ")
    text = page.read_text("utf-8")
    start = re.search(rf"^{re.escape(heading)}$", text, re.MULTILINE)
    if start is None:
        return ""
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{depth}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def click_commands():
    """Yield (words, command) for each command a user may type."""
    module = importlib.import_module("towline.cli.main")
    group = next(value for value in vars(module).values() if isinstance(value, click.Group))
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if not command.hidden:
            yield name, command


def test_every_command_has_its_section():
    text = (DOCS / "commands.md").read_text("utf-8")
    missing = [name for name, _ in click_commands() if f"\n## towline {name}\n" not in text]
    assert not missing


def test_the_docs_name_no_command_that_does_not_exist():
    known = {name for name, _ in click_commands()}
    headings = re.findall(
        r"^## towline (\S+)$", (DOCS / "commands.md").read_text("utf-8"), re.MULTILINE
    )
    assert set(headings) == known


def test_every_option_is_documented_with_its_command():
    common = section(DOCS / "commands.md", "## Options of many commands")
    missing = []
    for name, command in click_commands():
        own = section(DOCS / "commands.md", f"## towline {name}")
        for parameter in command.params:
            if not isinstance(parameter, click.Option) or parameter.hidden:
                continue
            flag = max(parameter.opts, key=len)
            if flag != "--help" and f"`{flag}" not in own + common:
                missing.append(f"{name} {flag}")
    assert not missing


def test_no_option_is_documented_that_does_not_exist():
    for name, command in click_commands():
        known = {
            flag
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for flag in [*parameter.opts, *parameter.secondary_opts]
        }
        own = section(DOCS / "commands.md", f"## towline {name}")
        documented = set(re.findall(r"^\| `(--?[\w-]+)", own, re.MULTILINE))
        assert documented <= known, name


def test_every_error_class_is_listed_with_its_exit_code():
    rows = dict(
        re.findall(
            r"^\| (\w+) \| (\d+) \|", (DOCS / "exit-codes.md").read_text("utf-8"), re.MULTILINE
        )
    )
    classes = {
        name: str(getattr(value, "exit_code", 1))
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert {name: code for name, code in rows.items() if not name.isdigit()} == classes


def test_every_exit_code_is_explained():
    page = (DOCS / "exit-codes.md").read_text("utf-8")
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    used = {
        value.exit_code
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.TowlineError)
    }
    assert explained == used | {0, 130}


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("## Top level", TaskSpec),
        ("## resources", Resources),
        ("## limits", Limits),
        ("## artifacts", Artifacts),
    ],
)
def test_every_key_of_the_task_file_is_documented(heading, kind):
    rows = re.findall(r"^\| `(\w+)` \|", section(DOCS / "task-file.md", heading), re.MULTILINE)
    assert sorted(rows) == sorted(field.name for field in dataclasses.fields(kind))


def test_the_glossary_names_every_public_class_of_the_core():
    page = (DOCS / "glossary.md").read_text("utf-8")
    missing = []
    for found in pkgutil.iter_modules(towline.core.__path__):
        module = importlib.import_module(f"towline.core.{found.name}")
        missing += [
            f"{found.name}.{name}"
            for name, value in vars(module).items()
            if inspect.isclass(value)
            and value.__module__ == module.__name__
            and name[0] != "_"
            and f"`{name}`" not in page
        ]
    assert not missing


def test_every_account_is_documented_with_its_environment_variables():
    rows = dict(
        re.findall(
            r"^\| `([\w-]+)` \| (`.+`) \|",
            section(DOCS / "providers.md", "## Accounts"),
            re.MULTILINE,
        )
    )
    assert {name: re.findall(r"`(\w+)`", cell) for name, cell in rows.items()} == {
        name: list(cloud.keys.values()) for name, cloud in CLOUDS.items()
    }


@pytest.mark.parametrize("text", examples("json"))
def test_json_examples_are_json(text):
    json.loads(text)


@pytest.mark.parametrize("text", examples("yaml"))
def test_yaml_examples_are_what_towline_reads(text, tmp_path, monkeypatch):
    value = yaml.safe_load(text)
    if set(value) == {"providers"}:
        file = tmp_path / "config.yaml"
        file.write_text(text, "utf-8")
        monkeypatch.setenv("TOWLINE_CONFIG", str(file))
        assert home.load_config() == value
        return
    assert set(value) <= TASK_KEYS
    file = tmp_path / "towline.yaml"
    file.write_text(text, "utf-8")
    task = taskfile.load(file)
    assert {key: getattr(task, key) for key in ("name", "command", "dataset")} == {
        key: value.get(key) for key in ("name", "command", "dataset")
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
    broken = [
        link
        for link in links
        if "://" not in link
        and not link.startswith("mailto:")
        and not (page.parent / link).exists()
    ]
    assert not broken


@pytest.mark.parametrize("page", sorted((DOCS / "design").glob("*.md")), ids=name_of)
def test_a_design_page_is_short_and_says_what_was_rejected(page):
    text = page.read_text("utf-8")
    assert len(text.splitlines()) <= 120
    assert "\n## Rejected\n" in text
    assert re.search(r"^Decided 20\d\d-\d\d\.", text, re.MULTILINE)


def test_the_changelog_has_the_version():
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)[1]
    assert version in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_no_file_names_a_path_of_one_machine_or_the_host_of_a_package_registry():
    found = []
    for path in ROOT.rglob("*"):
        parts = set(path.relative_to(ROOT).parts)
        hidden = any(part.startswith(".") and part != ".ci" for part in parts)
        if parts & NOT_OURS or (hidden and path.name != ".gitignore") or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{name_of(path)}: {word}" for word in MACHINE_WORDS if word in text]
    assert not found


def test_the_table_of_safety_says_what_the_drivers_say():
    rows = re.findall(
        r"^\| `(\w+)` \| ([AB]) \|(.*)\|$", (DOCS / "providers.md").read_text(), re.MULTILINE
    )
    said = {name: [grade, *map(str.strip, rest.split("|"))] for name, grade, rest in rows}
    assert said.keys() == CLOUDS.keys()
    words = {True: {"yes"}, False: {"no"}, None: {"unknown", "no such state"}}
    for name, (grade, *cells) in said.items():
        keys = dict.fromkeys(keys_of(name), "x")
        settings = {"region": "us-east-1", "base_url": "http://127.0.0.1:9/v3"}
        made = make(name, home=ROOT, settings=settings, keys=keys, dialer=None, clock=RealClock())
        found = made.features.data()
        order = (
            "user_data", "tags", "idempotency_key", "server_ttl", "ends_itself",
            "powered_off_bills", "spot",
        )  # fmt: skip
        assert grade == found["host_key_grade"], name
        for key, cell in zip(order, cells, strict=True):
            assert cell in words[found[key]], (name, key)


def test_every_setting_of_a_cloud_is_in_the_docs():
    text = section(DOCS / "providers.md", "## Settings")
    for name in CLOUDS:
        for word in providers._driver(name).SETTINGS:
            assert re.search(rf"\| `{name}` \|.*`{word}`", text), (name, word)
    for word in COMMON:
        assert f"`{word}`" in text, word


def test_the_page_shows_the_example_of_a_driver():
    text = (ROOT / "examples" / "towline-vultr" / "towline_vultr.py").read_text("utf-8")
    assert len(text.splitlines()) <= 200
    assert f"```python\n{text}```\n" in section(DOCS / "providers.md", "## Write a driver")
