"""`towline train`: which task it reads, what it refuses, and how failures end."""

import json
import os
import re
import subprocess

import pytest

from towline.cli import arguments
from towline.cli import run as run_module
from towline.core.task import Resources, TaskSpec
from towline.errors import SpecError

GIVEN = dict.fromkeys(
    ["file", "framework", "provider", "host", "identity", "known_hosts", "gpu", "epochs"]
    + ["max_cost", "upload"]
) | {"settings": ()}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def task_from(target=None, **given):
    return arguments.task_from(target, GIVEN | given)


def error_of(done):
    """The error's message and hint; there must be both."""
    assert done.stderr.startswith("error: ") or "\nerror: " in done.stderr
    message, hint = done.stderr.split("error: ", 1)[1].split("\n\nhint: ")
    assert hint.strip()
    return message + " | " + hint


# -- which task ---------------------------------------------------------------------------------


def test_the_task_file_of_this_folder_is_the_default(here):
    (here / "towline.yaml").write_text("command: make")
    assert task_from() == (TaskSpec(command="make"), here)


def test_a_folder_with_a_task_file_is_the_task(here):
    (here / "sub").mkdir()
    (here / "sub" / "towline.yaml").write_text("command: make")
    (here / "towline.yaml").write_text("command: other")
    assert task_from("sub") == (TaskSpec(command="make"), here / "sub")


def test_another_argument_is_the_dataset_of_this_folder_s_task(here):
    (here / "towline.yaml").write_text("{command: make, dataset: theirs}")
    (here / "mine").mkdir()
    assert task_from("mine")[0].dataset == str(here / "mine")


def test_f_names_the_task_file_and_its_paths_start_there(here):
    (here / "sub").mkdir()
    (here / "sub" / "my.yaml").write_text(
        "{command: make, dataset: d, resources: {host: me@there, identity: keys/id}}"
    )
    task, base = task_from(file="sub/my.yaml")
    assert (base, task.dataset) == (here / "sub", "d")
    assert task.resources.identity == str(here / "sub" / "keys" / "id")


def test_without_a_task_file_the_argument_is_the_dataset_of_a_plain_task(here):
    (here / "data").mkdir()
    assert task_from("data") == (TaskSpec(dataset=str(here / "data")), here)


def test_options_have_the_last_word(here):
    (here / "towline.yaml").write_text(
        "{command: make, settings: {epochs: 5, lr: 1}, limits: {max_cost: 9, max_duration: 1h},"
        " resources: {gpu: A10, region: here}}"
    )
    (here / "key").touch()
    task, _ = task_from(
        epochs=7, settings=("lr=0.5", "name=x", "deep=true", "shape=[1]"), max_cost=2.0,
        gpu="H100", provider="ssh", host="a@b", identity="key", upload="zip", framework="custom",
    )  # fmt: skip
    assert task.settings == {"epochs": 7, "lr": 0.5, "name": "x", "deep": True, "shape": "[1]"}
    assert (task.limits.max_cost, task.limits.max_duration) == (2.0, 3600)
    assert task.resources == Resources(
        provider="ssh", host="a@b", gpu="H100", region="here", identity=str(here / "key")
    )
    assert (task.upload, task.framework) == ("zip", "custom")


def test_a_recipe_on_the_command_line_trains_in_place_of_the_command(here):
    (here / "towline.yaml").write_text("{command: make, framework: mine}")
    assert task_from()[0].command == "make"
    assert task_from(framework="custom")[0].command == "make"
    task, _ = task_from(framework="image")
    assert (task.command, task.framework) == (None, "image")


def test_no_task_and_no_dataset_is_an_error_that_says_what_to_write(here):
    with pytest.raises(SpecError, match=r"no towline\.yaml in this folder"):
        task_from()


@pytest.mark.parametrize(
    "given", [{"target": "nosuch"}, {"identity": "nosuch"}, {"settings": ("x",)}]
)
def test_arguments_that_can_not_be_are_errors(here, given):
    (here / "towline.yaml").write_text("command: make")
    with pytest.raises(SpecError) as caught:
        task_from(**given)
    assert caught.value.hint


# -- asking ---------------------------------------------------------------------------------------


def test_without_a_terminal_and_without_y_nothing_is_rented_and_nothing_stored(laptop):
    done = laptop("train", "--json", code=2)
    assert "nothing was rented" in error_of(done)
    assert "-y" in done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "SpecError"
    assert laptop.json("ls") == []
    assert not (laptop.project / "runs").exists()


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_price_is_asked_about(monkeypatch, capsys, answer, agreed):
    import io

    from towline.cli.text import Out
    from towline.core.instance import Offer
    from towline.market import Market

    class Priced:
        async def quote(self, _task):
            offer = Offer(provider="cloud", type="big", price_usd_per_h=2.5, storage_usd_per_h=0.25)
            return Market([offer], left_out={"other": {"no price": 3}})

    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert run_module._agreed(Out(), Priced(), TaskSpec()) is agreed
    shown = capsys.readouterr()
    assert "Offer: cloud big ($2.75/h)" in shown.out
    assert "other: 3 offers left out: no price" in shown.out
    assert "Rent it? [y/N]" in shown.err


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal_a_free_run_needs_no_question_and_shows_the_live_view(laptop):
    code, screen = laptop.on_terminal("train")
    assert code == 0
    assert "\x1b[" in screen
    assert "Ctrl-C detaches" in screen
    assert "[y/N]" not in screen
    assert "Model: runs/noop/model.pt" in screen


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal_no_means_that_nothing_is_rented_or_stored(laptop):
    laptop.settle("{price_usd_per_hour: 2.5}")
    code, screen = laptop.on_terminal("train", answer=b"n\n")
    assert code == 2
    assert "Offer: local this-machine ($2.50/h)" in screen
    assert "Rent it? [y/N]" in screen
    assert "Nothing was rented." in screen
    assert laptop.json("ls") == []


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_on_a_terminal_yes_rents_and_the_cost_is_shown(laptop):
    laptop.settle("{price_usd_per_hour: 360}")
    code, screen = laptop.on_terminal("train", answer=b"y\n")
    assert code == 0
    assert re.search(r"\$\d\.\d+ spent", screen)
    assert laptop.json("status")["cost"]["spent_usd"] > 0.05


# -- bad input: exit code 2, and nothing stored ----------------------------------------------------

BAD_TASKS = {
    "missing dataset": ("command: make\ndataset: nosuch\n", "nosuch does not exist"),
    "unknown key": ("command: make\ndatset: x\n", "towline.yaml:2: unknown key 'datset'; did you mean 'dataset'?"),
    "unknown inner key": ("command: make\nlimits:\n  max_costs: 3\n", "towline.yaml:3: unknown key 'limits.max_costs'; did you mean 'max_cost'?"),
    "no yaml": ("command: [\n", "not valid YAML"),
    "no command": ("code: .\n", "needs a dataset"),
    "secret not set": ("command: make\nsecrets: [TL_NOT_SET]\n", "TL_NOT_SET"),
    "unknown provider": ("command: make\nresources: {provider: nosuch}\n", "nosuch"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TASKS)
def test_bad_input_is_2_and_says_what_to_do(laptop, name):
    task, message = BAD_TASKS[name]
    laptop.write(task)
    done = laptop("train", "-y", code=2)
    assert message in error_of(done)
    assert done.stdout == ""
    assert not (laptop.project / "runs").exists()


def test_an_empty_dataset_is_2(laptop):
    (laptop.project / "empty").mkdir()
    done = laptop("train", "empty", "-y", code=2)
    assert "empty" in error_of(done)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_2(laptop):
    (laptop.project / "data").mkdir()
    file = laptop.project / "data" / "file"
    file.write_text("x")
    file.chmod(0)
    assert "data/file" in error_of(laptop("train", "data", "-y", code=2))


def test_a_results_folder_that_can_not_be_made_is_2(laptop):
    (laptop.project / "runs").write_text("in the way")
    done = laptop("train", "-y", code=2)
    assert "runs" in error_of(done)
    assert laptop.json("ls") == []


# -- the provider refuses: exit code 4 -----------------------------------------------------------


def test_no_capacity_is_4_and_nothing_is_rented(laptop):
    laptop.settle("{faults: {create: no_capacity}}")
    done = laptop("train", "-y", code=4)
    assert "nothing was rented" in error_of(done)
    assert laptop.is_clean()


# -- failures of the training: exit code 3 ---------------------------------------------------------


def test_a_training_that_fails_is_3_shows_its_last_lines_and_leaves_its_outputs(laptop):
    laptop.write(train=(
        "import os\n"
        "open(os.environ['TOWLINE_OUTPUT'] + '/notes.txt', 'w').write('kept')\n"
        "for n in range(30): print('line', n)\n"
        "raise SystemExit(3)\n"
    ))  # fmt: skip
    done = laptop("train", "-y", code=3)
    assert "exit code 3" in error_of(done)
    assert "\n| line 29\n" in done.stdout
    assert "\n| line 9\n" not in done.stdout
    assert (laptop.project / "runs/noop/output/notes.txt").read_text() == "kept"
    assert laptop.json("status")["instance"]["state"] == "gone"
    assert laptop("wait", code=3).stderr == done.stderr


def test_a_command_that_does_not_exist_is_3(laptop):
    laptop.write("name: noop\ncode: .\ncommand: no-such-command --epochs 3\n")
    assert "no such command" in error_of(laptop("train", "-y", code=3))


def test_a_model_that_was_never_written_is_3_and_json_ends_with_the_status(laptop):
    laptop.write(train="print('done')")
    done = laptop("train", "-y", "--json", code=3)
    *events, error, status = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(list(event)[:2] == ["at", "type"] for event in events)
    assert error["error"]["kind"] == "ArtifactMissing"
    assert status["error"] == error["error"]
    assert (status["state"], status["model"]["path"]) == ("failed", None)


def test_json_prints_events_and_last_the_status(laptop):
    done = laptop("train", "-y", "--json")
    *events, status = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["type"] == "run_ended"
    assert status == laptop.json("status")
    assert [e["metrics"] for e in events if e["type"] == "progress"][-1] == {"loss": 0.333}


def test_control_characters_of_the_log_reach_no_terminal(laptop):
    laptop.write(train="print('\\x1b]0;title\\x07 \\x1b[31mred\\x9b'); raise SystemExit(1)")
    shown = laptop("train", "-y", code=3).stdout + laptop("logs").stdout
    assert not [c for c in shown if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)]
    assert " red" in shown


def test_a_secret_is_shown_nowhere(laptop):
    secret = "tr0ub4dor-and-three"
    laptop.write(
        "name: noop\ncode: .\ncommand: python3 train.py\nsecrets: [MY_TOKEN]\n",
        "import os; print('token', os.environ['MY_TOKEN']); raise SystemExit(1)",
    )
    env = laptop.env | {"MY_TOKEN": secret}
    done = laptop("train", "-y", "-v", code=3, env=env)
    later = laptop("logs").stdout + laptop("events", "--json").stdout
    assert secret not in done.stdout + done.stderr + later
    assert "token ***REDACTED***" in later


def test_verbose_prints_the_libraries_logs(laptop):
    assert "asyncssh" in laptop("train", "-y", "-v").stderr


def test_a_second_run_of_a_name_gets_a_number(laptop):
    laptop("train", "-y")
    assert "Model: runs/noop-2/model.pt" in laptop("train", "-y").stdout


def test_a_task_of_another_folder_puts_its_results_here(laptop):
    elsewhere = laptop.root / "elsewhere"
    elsewhere.mkdir()
    done = laptop("train", laptop.project, "-y", cwd=elsewhere)
    assert "Model: runs/noop/model.pt" in done.stdout
    assert (elsewhere / "runs/noop/model.pt").exists()


def test_a_full_standard_output_does_not_end_the_run(laptop):
    command = f"{' '.join(laptop.argv('train', '-y'))} | head -1"
    settings = {"env": laptop.env, "cwd": laptop.project, "capture_output": True, "text": True}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], check=False, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert laptop.json("status")["state"] == "succeeded"
