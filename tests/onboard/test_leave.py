"""Promise 2: what the run started ends, what it made goes, and nothing else is touched."""

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.onboard.machine import Refused, give_away, system_python, unprivileged, wait_for
from tests.onboard.test_guard import arm
from towline.bundle import onboard_pyz


@pytest.fixture
def bystander(machines):
    """Another run's training on the same machine, and a process of nobody's."""
    started = []

    def start(machine):
        other = machine.another()
        other.start("sleep 300")
        env = {**machine.env, "TOWLINE_RUN_ID": machine.run + "x"}
        started.append(subprocess.Popen(["sleep", "300"], env=env))
        return other, started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_leaving_ends_all_of_the_run_and_nothing_else(machine, bystander):
    other, stranger = bystander(machine)
    escaped = "setsid sleep 3055 & (setsid sh -c 'setsid sleep 3055 & sleep 3055' &)"
    machine.start(f"trap '' TERM; {escaped}; echo up; while :; do sleep 0.05; done")
    arm(machine, end_argv=None)
    wait_for(lambda: machine.log() == b"up\n")
    ours = machine.processes(of_run=True)
    assert len(ours) >= 6
    said = machine.ask("leave")
    assert said == {"processes_left": 0, "folder_gone": True}
    assert not machine.root.exists()
    for process in ours:
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert other.state()["phase"] == "running"
    assert stranger.poll() is None


def test_leaving_may_be_repeated_and_needs_no_beginning(machine):
    for _ in range(2):
        assert machine.ask("leave") == {"processes_left": 0, "folder_gone": True}
        machine.control.mkdir(parents=True)
        Path(machine.layout.onboard).write_bytes(onboard_pyz())


def test_leaving_keeps_the_venvs_of_later_runs_and_the_users_files(here):
    kept = here.home / "towline" / ".cache" / "venvs" / "key" / "bin"
    kept.mkdir(parents=True)
    (here.home / "notes.txt").write_text("mine")
    (here.root / "dataset").symlink_to(here.home / "tools")
    here.ask("leave")
    assert kept.is_dir()
    assert (here.home / "notes.txt").read_text() == "mine"
    assert (here.bin / "sleep").exists()  # a link out of the folder is not followed


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")
def test_leaving_closes_its_window_and_no_other(machines):
    machine = machines(tools=("tmux",))

    env = {key: value for key, value in machine.env.items() if key != "TOWLINE_RUN_ID"}

    def sessions():
        argv = ["tmux", "list-sessions", "-F", "#{session_name}"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        return set(done.stdout.split())

    subprocess.run(["tmux", "new-session", "-d", "-s", "mine"], env=env, check=True)
    longer = f"towline-{machine.run}-notes"
    subprocess.run(["tmux", "new-session", "-d", "-s", longer], env=env, check=True)
    machine.start("sleep 300")
    assert sessions() == {"mine", longer, f"towline-{machine.run}"}
    machine.ask("leave")
    assert sessions() == {"mine", longer}


LOCKED = """
    import os, sys
    root = sys.argv[1]
    for mode in (0o500, 0o000, 0o444):
        deep = os.path.join(root, "output", "locked%o" % mode, "inner", "deep")
        os.makedirs(deep)
        open(os.path.join(deep, "file"), "w").close()
        os.symlink("/", os.path.join(deep, "link"))
        os.mkdir(os.path.join(deep, "empty"))
        for path in (deep, os.path.dirname(deep), os.path.dirname(os.path.dirname(deep))):
            os.chmod(path, mode)
"""


def test_leaving_removes_folders_that_are_read_only(machines):
    python = system_python()
    machine = machines(python)
    give_away(machine)
    subprocess.run(
        [python, "-c", textwrap.dedent(LOCKED), machine.root], check=True, **unprivileged()
    )
    machine.as_user = unprivileged()
    assert machine.ask("leave") == {"processes_left": 0, "folder_gone": True}
    assert not machine.root.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")
def test_what_cannot_be_removed_is_named_and_the_rest_is_gone(machines):
    python = system_python()
    machine = machines(python)
    give_away(machine)
    foreign = machine.root / "output" / "foreign"
    foreign.mkdir(parents=True)
    (foreign / "model.pt").touch()
    foreign.parent.chmod(0o777)
    (machine.root / "output" / "ours").touch()
    machine.as_user = unprivileged()
    with pytest.raises(Refused, match=r"Permission denied: .*model\.pt"):
        machine.ask("leave")
    assert [path.name for path in machine.root.rglob("*")] == ["output", "foreign", "model.pt"]
