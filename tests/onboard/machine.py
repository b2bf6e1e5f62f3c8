"""An instance without SSH: the real onboard.pyz, run as real processes in a home of its own."""

import contextlib
import functools
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from towline.bundle import onboard_pyz
from towline.core.instance import run_id_from
from towline.core.layout import RemoteLayout, session_name
from towline.onboard import blocks, wire

TOOLS = ("bash", "sh", "sleep", "cat", "env", "head", "tail", "kill", "chmod", "mkdir", "setsid")
MORE_TOOLS = ("date", "touch", "rm", "ls", "wc", "seq", "dd", "true", "false", "printf")


class Refused(Exception):
    """The verb answered with an ERROR frame."""

    def __init__(self, body):
        super().__init__(body["message"])
        self.body = body


#: the running interpreter without the tests' own packages, which no instance has
RUNNING = os.path.realpath(sys._base_executable)


@functools.cache
def old_python():
    """A python3.6 that runs, None without one."""
    found = [shutil.which("python3.6")]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    if versions.is_dir():
        found += sorted(versions.glob("3.6*/bin/python3.6"))
    for path in filter(None, found):
        works = subprocess.run([path, "-IS", "-c", "import zlib"], check=False, capture_output=True)
        if works.returncode == 0:
            return os.path.realpath(path) if "shims" not in str(path) else str(path)
    return None


class Machine:
    """One home folder, one run in it. `close` ends every process that belongs to it."""

    def __init__(self, python=RUNNING, *, tools=(), seed=None):
        self.python = python
        self.as_user = {}
        self.home = Path(tempfile.mkdtemp(prefix="tl-")).resolve()
        self.bin = self.home / "tools"
        self.bin.mkdir()
        for name in (*TOOLS, *MORE_TOOLS, *tools):
            if path := shutil.which(name):
                (self.bin / name).symlink_to(path)
        (self.bin / "python3").symlink_to(python)
        self.run = run_id_from(seed or os.urandom(8))
        self.layout = RemoteLayout(str(self.home), self.run)
        self.root = Path(self.layout.root)
        self.control = Path(self.layout.control)
        self.control.mkdir(parents=True, mode=0o700)
        Path(self.layout.onboard).write_bytes(onboard_pyz())
        self.nonce = os.urandom(16).hex()
        self.env = {
            "HOME": str(self.home),
            "PATH": str(self.bin),
            "TMUX_TMPDIR": str(self.home),
            "LANG": "C.UTF-8",
            "TOWLINE_RUN_ID": self.run,
        }

    def another(self):
        """A second run on the same machine."""
        other = object.__new__(Machine)
        vars(other).update(vars(self))
        other.run = run_id_from(os.urandom(8))
        other.layout = RemoteLayout(str(self.home), other.run)
        other.root, other.control = Path(other.layout.root), Path(other.layout.control)
        other.control.mkdir(parents=True, mode=0o700)
        Path(other.layout.onboard).write_bytes(onboard_pyz())
        other.nonce = os.urandom(16).hex()
        other.env = {**self.env, "TOWLINE_RUN_ID": other.run}
        return other

    # -- talking ----------------------------------------------------------------------------------

    def request(self, **args):
        base = {"root": str(self.root), "run": self.run, "epoch": 1}
        return {**base, "session": session_name(self.run), **args}

    def open(self, verb, /, **args):
        """Start a verb and hand it its request; its frames are the caller's to read."""
        process = subprocess.Popen(
            [self.python, "-IS", self.layout.onboard, verb],
            env=self.env,
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **self.as_user,
        )
        process.stdin.write(wire.pack_json(wire.JSON, self.request(**args)))
        process.stdin.flush()
        return process

    def answer(self, process, timeout=30):
        """Read a verb to its end: (its frames before the last, its result)."""
        out, err = process.communicate(timeout=timeout)
        assert out.startswith(wire.MAGIC), (out, err)
        pipe = wire.Pipe(io.BytesIO(out[len(wire.MAGIC) :]), None)
        frames = []
        with contextlib.suppress(EOFError):
            while True:
                frames.append(pipe.read())
        assert frames, err
        kind, payload = frames.pop()
        value = wire.json.loads(payload)
        if kind == wire.ERROR:
            assert process.returncode == 1
            raise Refused(value)
        assert (kind, process.returncode) == (wire.RESULT, 0), err
        return frames, value

    def ask(self, verb, /, **args):
        return self.answer(self.open(verb, **args))[1]

    def start_args(self, command, **args):
        return {
            "command": command,
            "env": {"TOWLINE_RUN_ID": self.run, "TOWLINE_OUTPUT": self.layout.output},
            "secrets": {},
            "path_first": [f"{self.layout.control}/bin"],
            "links": [],
            "cwd": self.layout.code,
            "output": self.layout.output,
            "log": self.layout.log,
            "nonce": self.nonce,
            "image": None,
            "gpu": False,
            **args,
        }

    def start(self, command, **args):
        return self.ask("start", **self.start_args(command, **args))

    def state(self):
        return self.ask("state")

    def follow(self, offset=0):
        """Follow to the end: (the bytes, the result)."""
        frames, result = self.answer(self.open("follow", log=self.layout.log, offset=offset))
        return b"".join(blocks.unwrap(data) for kind, data in frames if kind == wire.DATA), result

    def survey(self, **args):
        """List files: ({path: row}, the result)."""
        frames, result = self.answer(self.open("survey", codecs=["zlib"], **args))
        rows = [data for kind, data in frames if kind == wire.ROWS]
        self.frames = len(rows)
        return {
            f"{folder}/{row[0]}": row
            for data in rows
            for folder, group in wire.json.loads(bytes(blocks.unwrap(data)))
            for row in group
        }, result

    def to_the_end(self, within_s=20.0):
        """Wait until the training has ended; the state."""
        wait_for(lambda: self.marker("exit") is not None or self._phase() != "running", within_s)
        return self.state()

    def _phase(self):
        return self.state()["phase"]

    # -- looking ----------------------------------------------------------------------------------

    def marker(self, name):
        path = self.control / f"{name}.json"
        return wire.json.loads(path.read_text()) if path.exists() else None

    def log(self):
        return Path(self.layout.log).read_bytes()

    def wrote(self, name):
        """Lines of a file in the run's output folder; [] without one."""
        path = Path(self.layout.output) / name
        return path.read_text().splitlines() if path.exists() else []

    def supervisor(self):
        """Pid of the supervisor: the parent of the training."""
        return psutil.Process(self.marker("job")["pid"]).ppid()

    def processes(self, *, of_run=False):
        """Living processes with this home; all of them, or those of this run alone."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                env = process.environ()
                if env.get("HOME") != str(self.home):
                    continue
                if of_run and env.get("TOWLINE_RUN_ID") != self.run:
                    continue
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def end_processes(self):
        """End what is left, however often it forks."""
        while left := self.processes():
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)

    def close(self):
        """End what is left; then remove the home."""
        self.end_processes()
        for place in ("/dev/shm", f"/run/user/{os.getuid()}", tempfile.gettempdir()):
            for left in Path(place).glob(f"towline-*-{self.run}-*"):
                left.unlink()
        for folder, names, _files in os.walk(self.home):
            for name in names:
                path = Path(folder) / name
                if not path.is_symlink():
                    path.chmod(stat.S_IRWXU)
        shutil.rmtree(self.home)


def wait_for(fact, within_s=10.0):
    """Wait until a fact of the real world holds; its value."""
    deadline = time.monotonic() + within_s
    while not (value := fact()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return value


def together(calls):
    """Make calls at the same time; their results in order."""
    results = [None] * len(calls)

    def work(at):
        results[at] = calls[at]()

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def kill(pid, signum=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def unprivileged():
    """How to run as a user whom read-only folders bind: as we are, or as nobody."""
    return {} if os.geteuid() else {"user": 65534, "group": 65534, "extra_groups": []}


def system_python():
    """An interpreter that the unprivileged user may run."""
    for path in (sys.executable, shutil.which("python3", path=os.defpath), "/usr/bin/python3"):
        try:
            done = subprocess.run([path, "-c", ""], check=False, stderr=-3, **unprivileged())
        except (OSError, TypeError):
            continue
        if done.returncode == 0:
            return path
    return pytest.skip("no interpreter that an unprivileged user may run")


def give_away(machine):
    """Make the unprivileged user the owner of all."""
    for folder, names, files in os.walk(machine.home):
        for path in [folder, *(os.path.join(folder, name) for name in names + files)]:
            if os.geteuid() == 0:
                os.chown(path, 65534, -1, follow_symlinks=False)


def with_root(machines):
    """A machine of an unprivileged user's, and the words by which a command of its becomes root's."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root can let a command of another user's become root's, by setpriv")
    machine = machines(system_python())
    give_away(machine)
    rooted = machine.home / "rooted"
    shutil.copy(setpriv, rooted)
    rooted.chmod(0o4755)
    machine.as_user = unprivileged()
    return machine, f"{rooted} --reuid=0 --clear-groups"
