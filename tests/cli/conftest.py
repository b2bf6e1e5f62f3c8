"""The command as a user runs it: a process of its own, in a home of its own."""

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from journal import rows

if os.name == "posix":
    import fcntl
    import pty
    import termios

SRC = Path(__file__).parents[2] / "src"
TASK = "name: noop\ncode: .\ncommand: python3 train.py\n"
#: prints three epochs and leaves a model
TRAIN = """
import os
print("hello from the training", flush=True)
for epoch in range(1, 4):
    print(f"epoch {epoch}/3 loss={1 / epoch:.3f}", flush=True)
open(os.path.join(os.environ["TOWLINE_OUTPUT"], "model.pt"), "wb").write(b"model" * 100)
"""
#: trains until the file `go` appears beside its output, a minute at most
PATIENT = """
import os, time
output = os.environ["TOWLINE_OUTPUT"]
print("epoch 1/2 loss=0.5", flush=True)
open(os.path.join(output, "early.txt"), "w").write("early")
until = time.time() + 60
while not os.path.exists(os.environ["GO"]) and time.time() < until:
    time.sleep(0.05)
print("epoch 2/2 loss=0.25", flush=True)
open(os.path.join(output, "model.pt"), "wb").write(b"model" * 100)
"""


class Laptop:
    """A home, a folder with a task, and `towline` in it."""

    def __init__(self):
        # short: sockets below it have a limit of about 100 characters
        self.root = Path(tempfile.mkdtemp(prefix="tl-"))
        self.home = self.root / "home"
        self.project = self.root / "project"
        self.project.mkdir()
        self.go = self.root / "go"
        self.config = self.root / "config.yaml"
        self.config.touch()
        self.write(TASK, TRAIN)

    @property
    def env(self):
        env = {key: value for key, value in os.environ.items() if not key.startswith("TOWLINE_")}
        return env | {
            "TOWLINE_HOME": str(self.home),
            "TOWLINE_CONFIG": str(self.config),
            "PYTHONPATH": str(SRC),
            "PYTHONWARNINGS": "default",
        }

    def write(self, task=None, train=None):
        if task is not None:
            (self.project / "towline.yaml").write_text(task)
        if train is not None:
            (self.project / "train.py").write_text(train)

    def settle(self, local):
        """Set provider local."""
        self.config.write_text(f"providers: {{local: {local}}}\n")

    def be_patient(self):
        """Let the training wait for `go`."""
        self.write(f"{TASK}env: {{GO: {self.go}}}\n", PATIENT)

    def argv(self, *arguments):
        return [sys.executable, "-m", "towline", *map(str, arguments)]

    def popen(self, *arguments, **options):
        pipes = {"stdin": subprocess.DEVNULL, "stdout": -1, "stderr": -1, "text": True}
        settings = {"cwd": self.project, "env": self.env, **pipes, **options}
        return subprocess.Popen(self.argv(*arguments), **settings)

    def __call__(self, *arguments, code=0, **options):
        """Run to the end; the finished process with its text. ``code`` None: any."""
        process = self.popen(*arguments, **options)
        stdout, stderr = process.communicate(timeout=50)
        assert code is None or process.returncode == code, f"{process.returncode}: {stdout}{stderr}"
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def json(self, *arguments, **options):
        return json.loads(self(*arguments, "--json", **options).stdout)

    def on_terminal(self, *arguments, answer=b""):
        """Run on a pseudo-terminal; exit code and all that was shown there."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 110, 0, 0))
        env = self.env | {"TERM": "xterm-256color"}
        process = self.popen(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
        os.close(theirs)
        os.write(ours, answer)
        screen = b""
        with contextlib.suppress(OSError):  # what Linux says when the other side has closed
            while part := os.read(ours, 65536):
                screen += part
        os.close(ours)
        return process.wait(timeout=30), screen.decode()

    def wait_until(self, fact, within_s=20):
        until = time.monotonic() + within_s
        while not (value := fact()):
            assert time.monotonic() < until, f"not within {within_s} s"
            time.sleep(0.05)
        return value

    def rows(self, query):
        return rows(self.home, query)

    def wait_for_epoch(self):
        """Wait until the training of the newest run has printed its first epoch."""
        newest = "SELECT id FROM runs ORDER BY created_at DESC LIMIT 1"
        query = f"SELECT 1 FROM events WHERE kind = 'progress' AND run_id = ({newest})"
        self.wait_until(lambda: self.rows(query))

    def processes(self):
        """Every process of this home, but for the tests' own children that are reaped."""
        found = []
        for process in psutil.process_iter():
            try:
                env = process.environ()
                words = [env.get("TOWLINE_HOME", ""), *process.cmdline()]
                if process.pid != os.getpid() and any(str(self.root) in word for word in words):
                    found.append(process)
            except psutil.Error:
                continue  # it ended meanwhile, or is not ours
        return found

    def processes_of(self, command):
        """Those of this home's processes that run this command of towline."""
        return [one for one in self.processes() if command in one.cmdline()]

    def is_clean(self):
        """Wait for the last processes to leave; says whether they did."""
        psutil.wait_procs(self.processes(), timeout=5)
        return not self.processes()

    def end(self):
        """End what is left, and remove everything."""
        self.go.touch()
        for (run_id,) in self.rows("SELECT id FROM runs WHERE state = 'active'"):
            self("abort", run_id, "-y", code=None)
        if self.rows("SELECT 1 FROM runs") and self.processes():
            self("gc", code=None)
        for process in self.processes():
            process.send_signal(signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def laptop():
    laptop = Laptop()
    try:
        yield laptop
    finally:
        laptop.end()


@pytest.fixture(scope="session")
def finished():
    """A laptop whose one run has succeeded; for commands that only look."""
    laptop = Laptop()
    try:
        laptop.train = laptop("train", "-y")
        yield laptop
    finally:
        laptop.end()
