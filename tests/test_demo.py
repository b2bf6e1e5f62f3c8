"""The demo project: real digits, a real training."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from towline.demo import IMAGE_COUNT, write_project
from towline.errors import SpecError


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("demo") / "digits")


def test_every_digit_becomes_a_png_in_the_folder_of_its_class(project):
    files = list(project.glob("dataset/*/*.png"))
    assert len(files) == IMAGE_COUNT
    assert sorted({file.parent.name for file in files}) == [str(n) for n in range(10)]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)


def test_the_png_holds_the_digit_without_loss(project):
    from PIL import Image
    from sklearn.datasets import load_digits

    first_zero = load_digits().images[0]  # the data set begins with a zero
    image = Image.open(project / "dataset" / "0" / "0001.png")
    assert image.size == (8, 8)
    assert [value / 15 for value in image.tobytes()] == first_zero.ravel().tolist()


def test_files_that_exist_are_left_alone(project):
    script = project / "train.py"
    before = script.read_bytes()
    image = project / "dataset" / "3" / "0003.png"
    stamp = image.stat().st_mtime_ns
    script.write_bytes(b"# mine\n")
    try:
        write_project(project)
        assert script.read_bytes() == b"# mine\n"
        assert image.stat().st_mtime_ns == stamp
    finally:
        script.write_bytes(before)


def test_missing_images_are_written_again(project):
    image = project / "dataset" / "9" / "0001.png"
    image.unlink()
    write_project(project)
    assert image.exists()


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpecError, match="can't be written") as caught:
        write_project(tmp_path / "file" / "project")
    assert caught.value.hint


def test_missing_scikit_learn_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SpecError) as caught:
        write_project(tmp_path / "project")
    assert caught.value.hint == "pip install 'towline[demo]'"


def test_the_script_trains_a_model_that_reads_digits(project, tmp_path):
    output = tmp_path / "output"
    env = os.environ | {"TOWLINE_DATASET": str(project / "dataset"), "TOWLINE_OUTPUT": str(output)}
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    epochs = [line["data"]["epoch"] for line in lines]
    assert {line["type"] for line in lines} == {"progress"}
    assert epochs == list(range(1, lines[0]["data"]["total_epochs"] + 1))
    assert lines[-1]["data"]["metrics"]["accuracy"] > 0.95
    assert json.loads((output / "metrics.json").read_text()) == lines[-1]["data"]["metrics"]
    assert (output / "model.joblib").stat().st_size > 1000
