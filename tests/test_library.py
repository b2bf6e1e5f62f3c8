"""The Python API: what is promised is importable, and one call does the main job."""

import asyncio
import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import towline


def test_everything_promised_is_importable():
    for name in towline.__all__:
        assert getattr(towline, name) is not None
    with pytest.raises(AttributeError):
        importlib.import_module("towline").no_such_name  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import towline, sys; print([m for m in ('asyncssh', 'pydantic', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture
def place(monkeypatch):
    root = Path(tempfile.mkdtemp(prefix="tl-lib-"))
    (root / "config.yaml").write_text("{}")
    (root / "p").mkdir()
    monkeypatch.setenv("TOWLINE_HOME", str(root / "h"))
    monkeypatch.setenv("TOWLINE_CONFIG", str(root / "config.yaml"))
    monkeypatch.chdir(root / "p")
    yield root
    assert list((root / "h" / "local").iterdir()) == []  # no instance is left
    shutil.rmtree(root)


TASK = towline.TaskSpec(
    name="api", command='echo "epoch 1/1 loss=0.5"; echo model > $TOWLINE_OUTPUT/a.pt'
)


def test_train_brings_the_model_home_and_shows_itself(place):
    run = asyncio.run(towline.train(TASK))
    assert run.state == "succeeded"
    assert Path(run.model["path"]).name == "a.pt"
    assert (run.results_dir / "receipt.json").exists()
    assert run.progress["metrics"] == {"loss": 0.5}
    assert "a.pt" in run._repr_html_()
    assert "api" in repr(run)
    assert [one.id for one in asyncio.run(towline.ls())] == [run.id]
    assert asyncio.run(towline.logs()) == "epoch 1/1 loss=0.5\n"
    assert asyncio.run(towline.events())[-1]["type"] == "run_ended"


def test_train_sync_works_inside_a_running_loop_as_in_a_notebook(place):
    async def cell():
        return towline.train_sync(TASK)

    assert asyncio.run(cell()).state == "succeeded"


def test_a_wrong_task_is_told_before_anything_is_rented(place):
    (place / "h" / "local").mkdir(parents=True)
    with pytest.raises(towline.TowlineError, match="does not exist"):
        towline.train_sync(towline.TaskSpec(dataset="nowhere", command="true"))
