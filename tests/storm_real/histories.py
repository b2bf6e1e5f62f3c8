"""What the real program on the instance answers to seeded sequences of actions: to hold a model to.

A history is a list of {"do", "args", "answer"}, all of it plain data without process ids, times or paths.

"do" is a verb or something that happens to the machine:
  guard     {"epoch", "lifetime_s"}    {"armed"}
  start     {"epoch", "nonce", "script"}   a state
  state     {}                         a state
  halt      {"epoch", "grace_s"}       a state
  follow    {"offset"}                 a state, "log" and "offset": only once no training runs
  survey    {}                         {"files": [[path, size]], "unread"}: of the output folder
  leave     {"epoch"}                  {"processes_left", "folder_gone"}; always the last
  job_ends, job_killed, supervisor_killed, reboot, truncate, exit_forged, disk_full, disk_free
                                       {}; after each the machine has come to rest
A state is {"phase", "started", "epoch" of the start, "code", "signal", "guard"}; a refusal {"refused": kind}.
"script" is what runs: three lines, then it waits for `job_ends`, says "done", and "well" saves a model and ends with 0; "deaf" is the same
and ignores SIGTERM; "fails" saves nothing and ends with 3. "nonce" is "ours" or "other". While the disk is full only "fails" ends by itself.
"""

import json
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import psutil

from tests.onboard.machine import Machine, Refused, kill, wait_for
from tests.onboard.test_guard import arm
from tests.storm_real.world import Disk

LINES = 3  # of each script's log before it waits
MODEL = 5  # bytes
_SCRIPTS = {
    "well": "{say}; while [ ! -e $HOME/go ]; do sleep 0.02; done; echo done; {save}",
    "fails": "{say}; while [ ! -e $HOME/go ]; do sleep 0.02; done; echo done; exit 3",
    "deaf": "trap '' TERM; {say}; while [ ! -e $HOME/go ]; do sleep 0.02; done; echo done; {save}",
}
_SAY = "for n in 1 2 3; do echo line $n; done; touch $HOME/said"
_SAVE = "printf model > $TOWLINE_OUTPUT/model.pt"
#: what is done next -> how often
_WEIGHTS = {
    "guard": 2, "start": 3, "state": 3, "halt": 1, "follow": 1.5, "survey": 1.5, "job_ends": 1.5, "job_killed": 0.5,
    "supervisor_killed": 0.5, "reboot": 0.5, "truncate": 0.4, "exit_forged": 0.4, "disk_full": 0.7, "disk_free": 0.7,
}  # fmt: skip


class Recorder:
    """One machine and its history."""

    def __init__(self, seed, disk=None):
        self.rng = random.Random(seed)
        self.machine = Machine(seed=seed.to_bytes(8, "big"))
        self.disk = disk  # mounted over the machine's home, by who can: fills and empties it
        self.history = []
        self.epoch = 1
        self.full = False
        self.script = None

    def record(self, length):
        """So many actions, then the end."""
        try:
            for _ in range(length):
                names = [name for name in _WEIGHTS if self._possible(name)]
                name = self.rng.choices(names, [self._weight(one) for one in names])[0]
                self.do(name, **self._arguments(name))
            if self.disk is not None:
                self.do("disk_free")
            self.do("leave", epoch=self.epoch)
            return self.history
        finally:
            self.machine.close()

    def do(self, name, **args):
        """Do one thing; its answer joins the history."""
        happens = getattr(self, f"happen_{name}", None)
        if happens is not None:
            happens()
            answer = {}
        else:
            try:
                answer = getattr(self, f"ask_{name}")(**args)
            except Refused as refused:
                if refused.body["kind"] == "bug":
                    raise  # no answer: our request, or the program, is wrong
                answer = {"refused": refused.body["kind"]}
        self.history.append({"do": name, "args": args, "answer": answer})

    def _weight(self, name):
        early = name == "start" and self.machine.marker("job") is None
        return 8 if early else _WEIGHTS[name]

    def _possible(self, name):
        if name in ("disk_full", "disk_free"):
            return self.disk is not None
        runs = self._job() is not None
        if name == "follow":
            return not runs and not self._supervisor()
        if name == "job_ends":
            return runs and (not self.full or self.script == "fails")
        if name == "supervisor_killed":
            return runs and self._supervisor()
        if name == "job_killed":
            return runs
        return name != "truncate" or Path(self.machine.layout.log).exists()

    def _arguments(self, name):
        rng = self.rng
        if name in ("guard", "start", "halt") and rng.random() < 0.3:
            self.epoch += 1
        epoch = max(1, self.epoch - (1 if rng.random() < 0.2 else 0))
        if name == "guard":
            return {"epoch": epoch, "lifetime_s": rng.choice((None, 3600))}
        if name == "start":
            nonce = "other" if rng.random() < 0.2 else "ours"
            return {"epoch": epoch, "nonce": nonce, "script": rng.choice(list(_SCRIPTS))}
        if name == "halt":
            return {"epoch": epoch, "grace_s": 0.3}
        if name == "follow":
            return {"offset": rng.choice((0, 0, 7, 14))}
        return {}

    # -- verbs ------------------------------------------------------------------------------------

    def ask_guard(self, epoch, lifetime_s):
        said = arm(self.machine, epoch=epoch, end_argv=None, lifetime_s=lifetime_s)
        return {"armed": said["armed"]}

    def ask_start(self, epoch, nonce, script):
        before = self._job() is not None or self.machine.marker("job") is not None
        args = {"epoch": epoch}
        if nonce == "other":
            args["nonce"] = "0" * 32
        command = _SCRIPTS[script].format(say=_SAY, save=_SAVE)
        answer = self._state(self.machine.start(command, **args))
        if answer["phase"] == "running" and not before:
            self.script = script
            wait_for((self.machine.home / "said").exists)
        return answer

    def ask_state(self):
        return self._state(self.machine.state())

    def ask_halt(self, epoch, grace_s):
        return self._state(self.machine.ask("halt", epoch=epoch, grace_s=grace_s))

    def ask_follow(self, offset):
        data, result = self.machine.follow(offset)
        return {**self._state(result), "log": data.decode(), "offset": result["offset"]}

    def ask_survey(self):
        found, result = self.machine.survey(roots=[self.machine.layout.output])
        files = sorted([path, row[1]] for path, row in found.items())
        unread = [path.rpartition("/")[2] for path, _why in result["unread"]]
        return {"files": files, "unread": unread}

    def ask_leave(self, epoch):
        return self.machine.ask("leave", epoch=epoch)

    def _state(self, found):
        start, left = found["start"] or {}, found["exit"] or {}
        return {
            "phase": found["phase"], "started": bool(start), "epoch": start.get("epoch"),
            "code": left.get("code"), "signal": left.get("signal"), "guard": bool(found["guard"]),
        }  # fmt: skip

    # -- what happens -----------------------------------------------------------------------------

    def _job(self):
        """The training's living process, None without one."""
        marker = self.machine.marker("job")
        if marker is None or not psutil.pid_exists(marker["pid"]):
            return None
        process = psutil.Process(marker["pid"])
        return None if process.status() == psutil.STATUS_ZOMBIE else process

    def _supervisor(self):
        """Processes that would write the exit marker."""
        return [one for one in self.machine.processes() if self._came_from(one, "start")]

    def _came_from(self, process, verb):
        try:
            argv = process.cmdline()
        except psutil.Error:
            return False
        return argv[-1:] == [verb] and argv[-2:-1] == [self.machine.layout.onboard]

    def _rest(self):
        """Wait until nobody is about to write anything."""
        wait_for(lambda: self._job() is None and not self._supervisor())

    def happen_job_ends(self):
        (self.machine.home / "go").touch()
        wait_for(lambda: self._job() is None)
        self._rest()

    def happen_job_killed(self):
        os.killpg(self._job().pid, signal.SIGKILL)
        self._rest()

    def happen_supervisor_killed(self):
        for process in self._supervisor():
            kill(process.pid)
        wait_for(lambda: not self._supervisor())

    def happen_reboot(self):
        while left := self.machine.processes():
            for process in left:
                kill(process.pid)

    def happen_truncate(self):
        os.truncate(self.machine.layout.log, 0)

    def happen_exit_forged(self):
        self.machine.control.mkdir(parents=True, exist_ok=True)
        (self.machine.control / "exit.json").write_text('{"nonce": "00", "code": 0, "signal": 0}')

    def happen_disk_full(self):
        self.disk.fill()
        self.full = True

    def happen_disk_free(self):
        self.disk.empty()
        self.full = False


def record(seed, length=12):
    """The history of a seed; the same each time, as far as the program is the same."""
    return Recorder(seed).record(length)


def record_on_a_disk(seed, length=12):
    """The same on a small disk of its own, which fills up too. In a mount namespace of our own only."""
    disk = Disk(Path(tempfile.mkdtemp(prefix="tl-")), "size=8m,mode=700")
    tempfile.tempdir = str(disk.path)
    try:
        return Recorder(seed, disk).record(length)
    finally:
        disk.close()
        disk.path.rmdir()


if __name__ == "__main__":
    print(json.dumps(record_on_a_disk(int(sys.argv[1]))))
