"""Promise 3 before the first byte: what goes, what stays, and what can't work is said in time."""

import pytest

from towline import errors
from towline.core.instance import run_id_from
from towline.core.layout import RemoteLayout
from towline.core.task import TaskSpec
from towline.project import Project, requirements_key

LAYOUT = RemoteLayout("/home/u", run_id_from(b"abcdefgh"))


@pytest.fixture
def base(tmp_path):
    (tmp_path / "dataset" / "a").mkdir(parents=True)
    (tmp_path / "dataset" / "a" / "1.png").write_bytes(b"1")
    (tmp_path / "train.py").write_text("pass")
    (tmp_path / "one.csv").write_text("a,b")
    (tmp_path / "requirements.txt").write_text("# tools\n\n numpy==2 \ntorch\n  # more\n")
    return tmp_path


def project(base, **keys):
    task = TaskSpec(**{"command": "python train.py", "code": ".", **keys})
    return Project(task, base, str(base / "runs" / "r"), base / "home")


def test_relative_paths_start_from_the_task_file(base):
    found = project(base, dataset="./dataset")
    assert found.dataset == base / "dataset"
    assert found.code == base
    assert found.sources() == {"dataset": base / "dataset", "code": base}
    assert list(found.sources()) == ["dataset", "code"]


def test_absolute_and_tilde_paths_stand_for_themselves(base, monkeypatch):
    monkeypatch.setenv("HOME", str(base))
    assert project(base / "x", dataset=str(base / "dataset")).dataset == base / "dataset"
    assert project(base / "x", dataset="~/dataset").dataset == base / "dataset"


def test_what_the_task_does_not_name_is_not_sent(base):
    assert project(base, code=None).sources() == {}


def test_results_and_the_dataset_are_no_part_of_the_code(base):
    found = project(base, dataset="dataset")
    assert set(found.excluded("code")) == {base / "home", base / "runs", base / "dataset"}
    assert set(found.excluded("dataset")) == {base / "home", base / "runs"}
    elsewhere = Project(found.task, base, str(base / "results"), base / "home")
    assert set(elsewhere.excluded("dataset")) == {base / "home", base / "results"}


def test_a_dataset_inside_the_code_is_reached_by_the_same_path(base):
    found = project(base, dataset="dataset")
    assert found.links(LAYOUT) == [[f"{LAYOUT.code}/dataset", LAYOUT.dataset]]
    found = project(base, dataset="one.csv")
    assert found.links(LAYOUT) == [[f"{LAYOUT.code}/one.csv", f"{LAYOUT.dataset}/one.csv"]]


@pytest.mark.parametrize(
    "keys", [{"dataset": None}, {"code": None, "dataset": "dataset"}, {"dataset": "."}]
)
def test_no_link_is_made_where_none_is_needed(base, keys):
    assert project(base, **keys).links(LAYOUT) == []


def test_the_dataset_variable_names_the_folder_or_the_one_file(base):
    assert project(base, dataset="dataset").remote_dataset(LAYOUT) == LAYOUT.dataset
    assert project(base, dataset="one.csv").remote_dataset(LAYOUT) == f"{LAYOUT.dataset}/one.csv"
    assert project(base).remote_dataset(LAYOUT) == LAYOUT.dataset


def test_requirements_are_read_from_the_file_or_the_list(base):
    assert project(base).requirements() == []
    assert project(base, requirements="requirements.txt").requirements() == ["numpy==2", "torch"]
    assert project(base, requirements=["a", "b"]).requirements() == ["a", "b"]
    assert project(base, requirements=[]).requirements() == []


def test_a_sound_task_passes(base):
    project(base, dataset="dataset", requirements="requirements.txt").check()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"command": None}, "the recipe yolo needs a dataset"),
        ({"command": None, "framework": "jolo"}, "has no recipe; did you mean 'yolo'"),
        ({"command": None, "dataset": "dataset", "settings": {"batsh": 1}}, "mean 'batch'"),
        ({"dataset": "none"}, "dataset: .*none does not exist"),
        ({"code": "none"}, "code: .*none does not exist"),
        ({"code": "train.py"}, "code: .*train.py is a file"),
        ({"requirements": "none.txt"}, "requirements: .*none.txt can't be read"),
        ({"code": None}, "names train.py, but no code is uploaded"),
        ({"code": None, "command": "bash -c 'x' && python3 ./train.py"}, "no code is uploaded"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_rented(base, keys, message):
    with pytest.raises(errors.SpecError, match=message) as caught:
        project(base, **keys).check()
    assert caught.value.hint


def test_requirements_that_are_no_text_are_refused(base):
    (base / "requirements.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(errors.SpecError, match="requirements"):
        project(base, requirements="requirements.txt").check()


@pytest.mark.parametrize("command", ["python other.py", "python /opt/train.py", "echo 'open", "ls"])
def test_a_command_that_needs_no_local_file_needs_no_code(base, command):
    project(base, code=None, command=command).check()


def test_the_venv_is_named_by_all_that_makes_it_differ():
    key = requirements_key(["numpy", "torch"], "3.11.2", "code1")
    assert key == requirements_key(["numpy", "torch"], "3.11.2", "code2")
    others = [
        requirements_key(["numpy"], "3.11.2", "code1"),
        requirements_key(["torch", "numpy"], "3.11.2", "code1"),
        requirements_key(["numpy", "torch"], "3.12.1", "code1"),
    ]
    assert len({key, *others}) == 4


@pytest.mark.parametrize("line", ["-e .", "-r more.txt", "./pkg", "/opt/pkg", "p @ file:///x"])
def test_a_venv_with_local_parts_changes_with_the_code(line):
    assert requirements_key([line], "3.11", "code1") != requirements_key([line], "3.11", "code2")
    assert requirements_key([line], "3.11", None) == requirements_key([line], "3.11", None)


def test_a_task_without_a_command_is_trained_by_its_recipe(base):
    found = project(base, command=None, framework="tabular", dataset="one.csv", code=None)
    found.check()
    path = f"{LAYOUT.root}/recipe/tabular.py"
    assert found.command(LAYOUT) == f"python {path}"
    assert list(found.scripts(LAYOUT)) == [path]
    assert found.settings()["epochs"] == 100
    assert any(line.startswith("scikit-learn") for line in found.requirements())


def test_requirements_of_the_task_are_added_to_its_recipe_s(base):
    found = project(base, command=None, framework="tabular", requirements=["joblib", "lightgbm"])
    assert found.requirements()[-1] == "lightgbm"
    assert found.requirements().count("joblib") == 1
    nothing = project(base, command=None, framework="tabular", requirements=[])
    assert nothing.requirements() == []


def test_settings_reach_a_command_as_they_are(base):
    found = project(base, settings={"anything": 1}, framework="mine")
    assert found.settings() == {"anything": 1}
    assert found.command(LAYOUT) == "python train.py"
    assert found.scripts(LAYOUT) == {}
    assert found.requirements() == []
