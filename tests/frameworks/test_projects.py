"""The training projects and the logs recorded from them; `make frameworks` trains them for real."""

import json
import re
from pathlib import Path

import pytest

from towline.project import Project
from towline.taskfile import load

HERE = Path(__file__).parent
DATA = HERE.parent / "data"
TASKS = sorted(HERE.glob("*/towline.yaml"))
RECORDED = sorted(file for part in ("logs", "sides") for file in (DATA / part).rglob("*.*"))


@pytest.mark.parametrize("file", TASKS, ids=lambda file: file.parent.name)
def test_a_project_is_a_task_that_towline_accepts(file, tmp_path):
    task = load(file)
    (tmp_path / "dataset").mkdir()
    project = Project(task, file.parent, str(tmp_path / "runs" / "r"), tmp_path / "home")
    wanted = project.requirements()
    assert any("==" in line for line in wanted)
    if task.dataset is None:  # the others draw theirs when they are trained
        project.check()


@pytest.mark.parametrize("file", TASKS, ids=lambda file: file.parent.name)
def test_torch_comes_first_so_that_the_builds_of_the_others_follow_it(file):
    lines = (file.parent / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("torch==")] in ([], lines[:1])


def test_every_recorded_log_is_in_the_index_with_its_size():
    index = json.loads((DATA / "logs" / "index.json").read_text())
    rows = {row["log"]: row["bytes"] for kept in index.values() for row in kept["rows"]}
    assert rows == {file.name: file.stat().st_size for file in (DATA / "logs").glob("*.log")}
    page = (DATA / "logs" / "README.md").read_text()
    assert all(f"`{name}`" in page for name in rows)


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.name)
def test_a_recorded_file_is_small_and_does_not_tell_where_it_was_made(file):
    data = file.read_bytes()
    assert len(data) < 60_000
    assert not re.search(
        rb"(?<!\w)/(root|home|tmp|work|Users)/|py" rb"pi\.org|python" rb"hosted", data
    )
