"""Promise 1 on the instance: exactly one training, whoever asks, dies or lies."""

import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.onboard.machine import kill, together, wait_for, with_root
from towline.onboard import markers, start, wire

#: leaves one line for each time it ran, then works a little
ONCE = 'echo started >> "$TOWLINE_OUTPUT/starts"; echo hello; sleep {}; exit 4'


def test_a_training_is_started_and_its_end_told(machine):
    said = machine.start("echo hello; printf 'no newline'; exit 3")
    assert said["start"]["run"] == machine.run
    assert said["start"]["epoch"] == 1
    assert said["start"]["nonce_sha256"] == hashlib.sha256(machine.nonce.encode()).hexdigest()
    assert abs(said["start"]["at"] - time.time()) < 60
    assert said["window"] is None
    ended = machine.to_the_end()
    assert ended["phase"] == "ended"
    assert ended["start"] == said["start"]
    marker = ended["exit"]
    assert (marker["run"], marker["nonce"]) == (machine.run, machine.nonce)
    assert (marker["code"], marker["signal"]) == (3, 0)
    assert machine.log() == b"hello\nno newline"
    assert marker["log_size"] == len(machine.log())


def test_before_the_start_there_is_none(machine):
    nothing = dict.fromkeys(["start", "exit", "guard", "detached"])
    assert machine.state() == {"phase": "none", "clock_back_s": 0.0, **nothing}


def test_the_start_returns_while_the_training_runs_and_nothing_holds_the_line(here):
    began = time.monotonic()
    said = here.start("sleep 30")  # reads both streams to their end: a child that held them shows
    assert time.monotonic() - began < 5
    assert said["phase"] == "running"
    assert here.state()["phase"] == "running"


def test_twenty_requests_at_once_start_one_training(machine):
    command = ONCE.format(0.2)
    answers = together([lambda: machine.start(command)] * 20)
    assert {answer["phase"] for answer in answers} <= {"running", "ended"}
    assert len({json.dumps(answer["start"]) for answer in answers}) == 1
    assert machine.to_the_end()["exit"]["code"] == 4
    assert machine.wrote("starts") == ["started"]
    assert machine.log() == b"hello\n"


def test_looking_on_does_not_disturb_the_start(here):
    """`state` asks for the lock too: neither it nor the start may be fooled by the other."""
    for _ in range(4):
        run = here.another()
        looks = [lambda run=run: run.state()["phase"]] * 5
        answers = together([*looks, lambda run=run: run.start(ONCE.format(0)), *looks])
        assert answers.pop(5)["phase"] in {"running", "ended"}
        assert set(answers) <= {"none", "running", "ended"}
        assert run.to_the_end()["exit"]["code"] == 4


def test_one_who_looks_is_not_taken_for_a_supervisor_by_another_who_looks(here):
    with (here.control / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as `state` does for a moment
        assert here.state()["phase"] == "none"
        assert here.ask("halt", grace_s=5)["phase"] == "none"


def test_a_training_that_ended_between_the_look_and_the_lock_is_not_started_again(
    here, monkeypatch
):
    looks = iter([False, True, True])
    monkeypatch.setattr(start, "_acknowledged", lambda _control: next(looks))
    monkeypatch.setattr(start, "_launch", lambda *_args: pytest.fail("started again"))
    start.start(here.request(**here.start_args("true")), None)
    assert next(looks, None) is None


def test_starting_again_after_the_end_runs_nothing(machine):
    machine.start(ONCE.format(0))
    first = machine.to_the_end()
    again = machine.start("echo other >> $TOWLINE_OUTPUT/starts", nonce="another", epoch=2)
    assert (again["phase"], again["exit"], again["start"]) == (
        "ended",
        first["exit"],
        first["start"],
    )
    assert machine.wrote("starts") == ["started"]


def kill_while_starting(machine, delay_s):
    """SIGKILL to the starting process after a while, then one more request: the final state."""
    process = machine.open("start", **machine.start_args(ONCE.format(0.05)))
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    machine.start(ONCE.format(0.05), epoch=2)
    state = machine.to_the_end()
    return machine.wrote("starts"), state["phase"], (state["exit"] or {}).get("code")


def test_a_start_killed_at_any_moment_and_repeated_runs_exactly_once(machine):
    rng = random.Random("towline")
    delays = [rng.uniform(0.03, 0.22) for _ in range(16)]
    runs = [machine.another() for _ in delays]
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(kill_while_starting, runs, delays))
    assert ends == [(["started"], "ended", 4)] * len(delays)


def test_a_request_that_waits_for_one_that_dies_starts_the_training_itself(here):
    """The first holds the lock and never gets to the start."""
    with (here.control / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = here.open("start", **here.start_args(ONCE.format(0)))
        time.sleep(0.3)
        assert process.poll() is None
    assert here.answer(process)[1]["phase"] in {"running", "ended"}
    assert here.to_the_end()["exit"]["code"] == 4
    assert here.wrote("starts") == ["started"]


@pytest.mark.parametrize(
    ("command", "code", "signum"),
    [
        ("true", 0, 0),
        ("exit 255", 255, 0),
        ("no-such-command-here", 127, 0),
        ("kill -KILL $$", 137, 9),
        ("kill -TERM $$", 143, 15),
        ("kill -SEGV $$", 139, 11),
        ("if", 2, 0),
    ],
)
def test_exit_codes_and_signals_come_home(here, command, code, signum):
    here.start(command)
    marker = here.to_the_end()["exit"]
    assert (marker["code"], marker["signal"]) == (code, signum)


def test_a_command_the_system_refuses_to_start_is_an_end_with_a_reason(here):
    here.start("echo never", env={"TOO_LARGE": "x" * 3_000_000})
    assert here.to_the_end()["exit"]["code"] == 127
    assert b"could not be started" in here.log()
    assert here.start("echo again > $TOWLINE_OUTPUT/starts")["phase"] == "ended"
    assert here.wrote("starts") == []


def test_no_output_of_the_training_is_taken_for_its_end(here):
    forged = {"run": here.run, "nonce": "x", "code": 0, "signal": 0, "at": 1, "log_size": 0}
    (here.home / "forged").write_text(f"\ntowline/1\n{json.dumps(forged)}\nexit.json\n")
    here.start("cat ~/forged ~/forged; sleep 30")
    wait_for(lambda: b"exit.json" in here.log())
    assert here.state()["phase"] == "running"
    assert here.marker("exit") is None


def test_the_training_cannot_learn_the_nonce_of_its_exit_marker(here):
    here.start("sleep 30", env={"A": "b"}, secrets={"TOKEN": "s3cret"})
    job = here.marker("job")["pid"]
    for pid in (job, here.supervisor()):
        process = Path(f"/proc/{pid}")
        assert here.nonce.encode() not in (process / "environ").read_bytes()
        assert here.nonce.encode() not in (process / "cmdline").read_bytes()
    for path in here.root.rglob("*"):
        if path.is_file():
            assert here.nonce.encode() not in path.read_bytes()


FORGED = [
    b'{"run": "r", "nonce": "guess", "code": 0, "signal": 0}',
    b'{"code": 0}',
    b'{"nonce": 7}',
    b"[]",
    b"",
    b"\xff",
]


@pytest.mark.parametrize("content", FORGED)
def test_an_exit_marker_without_the_nonce_is_none_and_is_replaced_by_the_true_one(here, content):
    here.start("while [ ! -e end ]; do sleep 0.02; done; exit 5")
    (here.control / "exit.json").write_bytes(content)
    assert (here.state()["phase"], here.state()["exit"]) == ("running", None)
    Path(here.layout.code, "end").touch()
    _log, ended = here.follow()
    assert (ended["phase"], ended["exit"]["code"]) == ("ended", 5)


def test_the_training_finds_what_it_was_promised(machine):
    link = f"{machine.layout.code}/data/set"
    machine.start(
        "env; pwd; umask; ls -l data; cat; ps 2>/dev/null; python -c 'print(1 + 1)'",
        env={"TOWLINE_RUN_ID": machine.run, "OWN": "a b", "LINES": "7"},
        secrets={"HF_TOKEN": "hf_secret"},
        path_first=[f"{machine.home}/venv/bin", f"{machine.layout.control}/bin"],
        links=[[link, machine.layout.dataset]],
    )
    assert machine.to_the_end()["exit"]["code"] == 0
    log = machine.log().decode()
    lines = log.splitlines()
    for line in ("PYTHONUNBUFFERED=1", "COLUMNS=220", "LINES=7", "OWN=a b", "HF_TOKEN=hf_secret"):
        assert line in lines
    first = f"PATH={machine.home}/venv/bin:{machine.layout.control}/bin:"
    assert any(line.startswith(first) for line in lines)
    assert machine.layout.code in lines
    assert "0022" in lines
    assert lines[-1] == "2"  # `python` is there although the system has python3 only
    assert os.readlink(link) == machine.layout.dataset
    assert Path(machine.layout.output).is_dir()
    assert (Path(machine.layout.log).stat().st_mode & 0o777) == 0o600


def test_secrets_are_in_no_command_line_and_no_file(here):
    here.start("sleep 30", secrets={"HF_TOKEN": "hf_very_secret"})
    for process in here.processes():
        assert "hf_very_secret" not in " ".join(process.cmdline())
    for path in here.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"hf_very_secret" not in path.read_bytes()
    assert psutil.Process(here.marker("job")["pid"]).environ()["HF_TOKEN"] == "hf_very_secret"


def test_the_training_has_a_session_of_its_own_and_ignores_hangup(here):
    here.start("sleep 0.2; echo alive; sleep 30")
    job, supervisor = here.marker("job")["pid"], here.supervisor()
    assert os.getsid(job) == os.getpgid(job) == job
    assert os.getsid(supervisor) not in {job, os.getsid(0)}
    for pid in (supervisor, job):
        os.kill(pid, signal.SIGHUP)
    wait_for(lambda: b"alive" in here.log())
    assert here.state()["phase"] == "running"
    assert here.supervisor() == supervisor


def test_a_supervisor_that_is_killed_leaves_the_training_running_then_interrupted(machine):
    machine.start(ONCE.format(0.6))
    kill(machine.supervisor())
    wait_for(lambda: machine.wrote("starts"))
    assert machine.state()["phase"] == "running"
    assert machine.start("echo other >> $TOWLINE_OUTPUT/starts")["phase"] == "running"
    log, ended = machine.follow()
    assert ended["phase"] == "interrupted"
    assert ended["exit"] is None
    assert log == b"hello\n"
    assert machine.start("echo other >> $TOWLINE_OUTPUT/starts")["phase"] == "interrupted"
    assert machine.wrote("starts") == ["started"]


def test_a_process_id_used_again_is_not_taken_for_the_training(here):
    here.start("sleep 30")
    kill(here.supervisor())
    job = here.marker("job")
    (here.control / "job.json").write_text(json.dumps({**job, "born": job["born"] - 1}))
    wait_for(lambda: here.state()["phase"] == "interrupted")


def test_what_the_command_left_in_the_background_is_ended_with_it(here):
    here.start("sleep 3033 & echo $! > $TOWLINE_OUTPUT/pid; exit 0")
    here.to_the_end()
    pid = int(here.wrote("pid")[0])
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


# -- halt ---------------------------------------------------------------------------------------


def test_halt_asks_first(machine):
    machine.start("trap 'echo saved; exit 7' TERM; echo up; while :; do sleep 0.02; done")
    wait_for(lambda: machine.log() == b"up\n")
    ended = machine.ask("halt", grace_s=10)
    assert (ended["phase"], ended["exit"]["code"], ended["exit"]["signal"]) == ("ended", 7, 0)
    assert machine.log().endswith(b"saved\n")


def test_halt_kills_what_will_not_listen(machine):
    machine.start("trap '' TERM; echo up; while :; do sleep 0.02; done")
    wait_for(lambda: machine.log() == b"up\n")
    began = time.monotonic()
    ended = machine.ask("halt", grace_s=0.4)
    assert time.monotonic() - began > 0.4
    assert (ended["exit"]["code"], ended["exit"]["signal"]) == (137, 9)


def test_halt_reaches_the_whole_group(here):
    here.start("(trap '' TERM; exec sleep 3044) & echo $! > $TOWLINE_OUTPUT/pid; sleep 3044")
    wait_for(lambda: here.wrote("pid"))
    assert here.ask("halt", grace_s=0.1)["exit"]["signal"] == 15


@pytest.mark.parametrize("command", [None, "true"])
def test_halt_of_what_does_not_run_is_no_error(here, command):
    if command:
        here.start(command)
        here.to_the_end()
    began = time.monotonic()
    assert here.ask("halt", grace_s=10)["phase"] == ("ended" if command else "none")
    assert time.monotonic() - began < 5


def test_halt_ends_a_training_whose_supervisor_is_gone(here):
    here.start("sleep 30")
    kill(here.supervisor())
    assert here.ask("halt", grace_s=5)["phase"] == "interrupted"


# -- the window -----------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")
def test_the_tmux_window_shows_the_log_and_may_die(machines):
    machine = machines(tools=("tmux",))

    def tmux(*argv):
        argv = ["tmux", *argv]
        return subprocess.run(argv, env=machine.env, capture_output=True, text=True, check=False)

    session = f"towline-{machine.run}"
    said = machine.start("echo hello from the training; sleep 30")
    assert said["window"] == session
    assert machine.start("other")["window"] == session
    wait_for(lambda: "hello from the training" in tmux("capture-pane", "-p", "-t", session).stdout)
    size = tmux("display-message", "-p", "-t", session, "#{window_width}x#{window_height}").stdout
    assert size.startswith("220x")
    tmux("kill-server")
    assert machine.state()["phase"] == "running"
    assert machine.start("other")["window"] == session  # it is opened again


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")
def test_a_tmux_that_fails_changes_nothing(machines):
    machine = machines()
    (machine.bin / "tmux").write_text("#!/bin/sh\nexit 1\n")
    (machine.bin / "tmux").chmod(0o755)
    said = machine.start("exit 6")
    assert said["window"] is None
    assert machine.to_the_end()["exit"]["code"] == 6


def test_an_exit_marker_on_another_disk_counts_like_any_other(here):
    here.start("while [ ! -e end ]; do sleep 0.02; done; exit 5")
    path = str(here.control / "exit.json")
    Path(here.layout.code, "end").touch()
    here.to_the_end()
    true = here.marker("exit")
    (elsewhere,) = [place for place in markers._others(path, here.run) if place.startswith("/tmp")]
    Path(elsewhere).write_text(json.dumps(true))
    (here.control / "exit.json").write_text("[")
    assert here.state()["exit"] == true
    Path(elsewhere).write_text(json.dumps({**true, "nonce": "guess"}))
    assert here.state()["exit"] is None


def test_a_process_of_root_in_the_group_does_not_cost_the_exit_code(machines):
    machine, rooted = with_root(machines)
    machine.start(f"{rooted} sleep 60 & while [ ! -e end ]; do sleep 0.02; done; exit 5")
    Path(machine.layout.code, "end").touch()
    assert machine.to_the_end()["exit"]["code"] == 5


# -- what the command detaches ----------------------------------------------------------------------


def test_work_that_the_command_detached_is_waited_for_and_told(machine):
    script = "while [ ! -e end ]; do sleep 0.02; done; echo late; echo m > $TOWLINE_OUTPUT/model"
    machine.start(f"setsid sh -c '{script}' & exit 6")
    told = wait_for(lambda: machine.state()["detached"])
    assert told["code"] == 6
    assert machine.state()["phase"] == "running"
    assert machine.state()["exit"] is None
    Path(machine.layout.code, "end").touch()
    log, ended = machine.follow()
    assert (ended["phase"], ended["exit"]["code"], ended["detached"]) == ("ended", 6, None)
    assert log == b"late\n"
    assert ended["exit"]["log_size"] == len(log)
    assert machine.wrote("model") == ["m"]


def test_follow_tells_of_what_goes_on(here):
    here.start("setsid sleep 3.2 & exit 0")
    frames, _ended = here.answer(here.open("follow", log=here.layout.log, offset=0))
    remarks = [wire.json.loads(payload) for kind, payload in frames if kind == wire.JSON]
    assert {"code": 0, "processes": 1} in [one.get("detached") for one in remarks]


def test_a_service_that_does_nothing_any_more_is_ended_after_a_while(here):
    here.start("setsid sleep 3066 & echo $! > $TOWLINE_OUTPUT/pid; exit 0", idle_s=0.5)
    assert here.to_the_end()["exit"]["code"] == 0
    pid = int(here.wrote("pid")[0])
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def test_work_is_no_idle_service(here):
    busy = "end=$(($(date +%s)+3)); while [ $(date +%s) -lt $end ]; do :; done"
    here.start(f"setsid sh -c '{busy}; echo done' & exit 0", idle_s=0.5)
    here.to_the_end()
    assert here.log() == b"done\n"


def test_halt_reaches_what_has_left_the_group(here):
    here.start(
        "setsid sh -c 'trap \"echo saved; exit\" TERM; while :; do sleep 0.02; done' & exit 0"
    )
    wait_for(lambda: here.state()["detached"])
    ended = here.ask("halt", grace_s=10)
    assert (ended["phase"], ended["exit"]["code"]) == ("ended", 0)
    assert here.log().endswith(b"saved\n")


# -- what can't be ended ----------------------------------------------------------------------------


def test_halt_waits_no_longer_than_it_said_for_what_it_may_not_end(machines):
    machine, rooted = with_root(machines)
    machine.start(f"echo up; exec {rooted} sleep 60")
    wait_for(lambda: psutil.Process(machine.marker("job")["pid"]).uids().real == 0)
    began = time.monotonic()
    assert machine.ask("halt", grace_s=0.2)["phase"] == "running"
    assert 5 < time.monotonic() - began < 15
    assert machine.marker("halted") is not None


def test_halt_says_that_it_lives_while_it_waits(here):
    here.start("trap '' TERM; echo up; while :; do sleep 0.02; done")
    wait_for(lambda: here.log() == b"up\n")
    frames, _state = here.answer(here.open("halt", grace_s=2.3))
    assert wire.JSON in [kind for kind, _payload in frames]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may ask to be spared")
def test_the_supervisor_is_spared_when_memory_is_short_and_the_training_is_not(here):
    def score(pid):
        return Path(f"/proc/{pid}/oom_score_adj").read_text().strip()

    here.start("sleep 30")
    wait_for(lambda: psutil.Process(here.marker("job")["pid"]).name() == "sleep")
    if score(here.supervisor()) == score(os.getpid()):
        pytest.skip("root may not ask for it here")
    assert score(here.supervisor()) == "-1000"
    assert score(here.marker("job")["pid"]) == score(os.getpid())


def test_a_clock_that_is_set_back_is_told():
    """Promise 3: what a training writes after it looks older than its start, and is not."""
    from towline.onboard import age, start

    begun = {"boot_id": age.boot_id(), "boottime": age.boottime() - 100, "wall": time.time() - 100}
    assert start._clock_back_s(begun) < 1
    assert 3599 < start._clock_back_s(begun | {"wall": time.time() - 100 + 3600}) < 3601
    assert start._clock_back_s(begun | {"wall": time.time() - 7200}) == 0
    assert start._clock_back_s({}) == 0


def test_a_marker_that_was_emptied_says_nothing(machine):
    """Promise 1: and is no bug of ours that keeps a training's end from being seen."""
    machine.ask("start", **machine.start_args("sleep 0.2; exit 3"))
    (machine.control / "job.json").write_text("")
    wait_for(lambda: machine.ask("state")["phase"] == "ended")
    assert machine.ask("state")["exit"]["code"] == 3
