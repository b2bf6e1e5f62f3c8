"""Real small trainings by recipe: a dataset and a framework's name, no script, model home."""

import json
import sys
import sysconfig

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("pandas")

#: libraries are slow to import on a machine that tests on all its cores
pytestmark = pytest.mark.timeout(180)
#: the instance's Python is this one's base: lend it this one's libraries, and install nothing
LENT = {"requirements": [], "env": {"PYTHONPATH": sysconfig.get_path("purelib")}}


def recipe_task(job, **keys):
    task = {"name": "job", **LENT, **keys}
    (job.project / "towline.yaml").write_text(json.dumps(task))


def write_wine(job):
    from sklearn.datasets import load_wine

    table = load_wine(as_frame=True).frame
    table["cultivar"] = table.pop("target").map({0: "barolo", 1: "grignolino", 2: "barbera"})
    table["cask"] = ["oak" if number % 3 else "" for number in range(len(table))]
    table.iloc[5, 0] = None
    table = table[[*table.columns.drop("cultivar"), "cultivar"]]
    table.to_csv(job.project / "wine.csv", index=False)
    return table


def write_digits(folder):
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in (0, 1, 4):
        (folder / str(label)).mkdir(parents=True)
        for number, pixels in enumerate(digits.images[digits.target == label][:24]):
            image = Image.fromarray((pixels * 15).astype("uint8"))
            image.save(folder / str(label) / f"{number}.png")


def test_a_csv_file_and_a_name_are_all_that_tabular_needs(job):
    import joblib

    table = write_wine(job)
    recipe_task(job, resources={"provider": "local"})
    done = job.run(
        "train", "wine.csv", "--framework", "tabular", "--epochs", "6", "-y", check=0, timeout=150
    )

    assert "target: column 'cultivar', the last one" in done.stdout + job_log(job)
    status = job.status()
    assert status["state"] == "succeeded"
    assert status["progress"]["epoch"] == status["progress"]["total_epochs"] == 6
    assert status["progress"]["metrics"]["accuracy"] > 0.8
    home = job.project / "runs" / "job"
    model = joblib.load(home / "model.joblib")
    assert (model.predict(table) == table["cultivar"]).mean() > 0.9
    assert json.loads((home / "output" / "columns.json").read_text())["target"] == "cultivar"
    assert job.left() == []


def test_a_folder_of_pictures_and_a_name_are_all_that_image_needs(job):
    torch = pytest.importorskip("torch")
    write_digits(job.project / "dataset" / "digits")
    (job.project / "dataset" / "a.txt").unlink()
    settings = {"epochs": 4, "imgsz": 8, "width": 8, "batch": 8, "device": "cpu"}
    recipe_task(job, dataset="dataset", framework="pytorch", settings=settings)
    job.run("train", "-y", check=0, timeout=150)

    status = job.status()
    assert status["state"] == "succeeded"
    assert status["progress"]["epoch"] == status["progress"]["total_epochs"] == 4
    assert status["model"]["path"].endswith("best.pt")
    saved = torch.load(status["model"]["path"], weights_only=True)
    assert saved["classes"] == ["0", "1", "4"]
    assert saved["metrics"]["accuracy"] > 0.5
    labels = json.loads((job.project / "runs" / "job" / "output" / "labels.json").read_text())
    assert labels == {"classes": ["0", "1", "4"]}
    assert job.left() == []


def test_a_recipe_that_finds_its_data_wanting_fails_with_its_reason(job):
    (job.project / "thin.csv").write_text("a,b\n1,2\n")
    recipe_task(job, dataset="thin.csv", framework="tabular")
    done = job.run("train", "-y")
    assert done.returncode == 3
    assert "thin.csv has 1 rows and 2 columns: too few" in done.stdout + done.stderr + job_log(job)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--framework", "tabluar"], "did you mean 'tabular'?"),
        (["--framework", "custom"], "needs a command"),
        (["--framework", "tabular", "--set", "epoch=3"], "did you mean 'epochs'?"),
        (["--framework", "tabular", "--set", "lr=9"], "a number from 1e-05 to 1 is wanted, not 9"),
    ],
)
def test_what_a_recipe_cannot_take_is_said_before_anything_is_rented(job, arguments, words):
    (job.project / "towline.yaml").unlink()
    done = job.run("train", "dataset", *arguments, "-y", check=2)
    assert words in done.stderr
    assert "hint:" in done.stderr
    assert not (job.project / "runs").exists()


def test_a_shown_script_runs_by_itself(job, tmp_path):
    import subprocess

    write_wine(job)
    script = tmp_path / "train.py"
    script.write_text(job.run("recipes", "show", "tabular", check=0).stdout)
    env = {"TOWLINE_DATASET": str(job.project / "wine.csv"), "TOWLINE_OUTPUT": str(tmp_path / "o")}
    env["TOWLINE_SETTINGS"] = '{"epochs": 2, "target": "alcohol"}'
    argv = [sys.executable, script]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "predicting 'alcohol': a number" in done.stdout
    assert (tmp_path / "o" / "model.joblib").exists()


def job_log(job):
    return (job.project / "runs" / "job" / "training.log").read_text()
