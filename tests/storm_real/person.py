"""A user with a laptop: a project, a TOWLINE_HOME, and what was typed."""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.storm_real.script import TRAIN

#: commands that drive a run themselves and end when it has ended
DRIVING = ("train", "resume")


class Command:
    """One towline command under way, and what it left to see when it ended."""

    def __init__(self, person, argv, *, terminal=False, environment=None):
        self.argv = argv
        self.at = time.monotonic()
        self.path = person.root / f"out-{len(person.commands):02d}-{argv[0]}"
        self.code = None
        self.killed = False  # by one of our faults
        self.seen = {}  # when it ended: see `Person.look`
        self._master = None
        with self.path.open("wb") as out:
            ends = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            if terminal:
                self._master, slave = pty.openpty()
                fcntl.fcntl(self._master, fcntl.F_SETFL, os.O_NONBLOCK)
                ends = dict.fromkeys(ends, slave)
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("towline"), *argv], cwd=person.project,
                env=environment or person.environment, start_new_session=True, **ends,
            )  # fmt: skip
            if terminal:
                os.close(slave)

    def read_terminal(self):
        """Take what it drew; not called while the terminal is frozen."""
        with contextlib.suppress(OSError), self.path.open("ab") as out:
            while self._master is not None and (data := os.read(self._master, 65536)):
                out.write(data)

    def close(self):
        self.read_terminal()
        if self._master is not None:
            os.close(self._master)
            self._master = None

    def text(self):
        return self.path.read_text(errors="replace")

    def drives(self):
        return self.argv[0] in DRIVING and self.code is None


class Person:
    """The one whose run the life is about, or a neighbour on the same machine."""

    def __init__(self, root, plan, resources, environment, **task):
        self.root = root
        self.plan = plan
        self.project, self.home = root / "p", root / "h"
        self.record_path = root / "record"
        (self.project / "dataset").mkdir(parents=True)
        self.home.mkdir(mode=0o700)
        (root / "tmp").mkdir()
        (self.project / "dataset" / "a.txt").write_text("a\n" * 1000)
        (self.project / "train.py").write_text(TRAIN)
        (self.project / "towline.yaml").write_text(json.dumps({
            "name": "job", "dataset": "dataset", "code": ".", "command": "python train.py",
            "env": {"PLAN": json.dumps(plan), "RECORD": str(self.record_path)},
            "resources": resources, **task,
        }))  # fmt: skip
        (root / "config.yaml").write_text("{}")
        self.environment = environment | {
            "TOWLINE_HOME": str(self.home),
            "TOWLINE_CONFIG": str(root / "config.yaml"),
            "TMPDIR": str(root / "tmp"),
        }
        self.commands = []
        self.results = self.project / "runs" / "job"

    def type(self, *argv, **options):
        """Type a command; it runs beside us."""
        self.commands.append(Command(self, argv, **options))
        return self.commands[-1]

    def rows(self, query):
        """Rows of the journal, to know the moment; the oracle never asks it."""
        path = self.home / "towline.db"
        if not path.exists():
            return []
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                return db.execute(query).fetchall()
        except sqlite3.Error:
            return []

    def step(self):
        """The newest step's name; "" before the first."""
        found = self.rows("SELECT step FROM attempts ORDER BY rowid DESC LIMIT 1")
        return found[0][0] if found else ""

    def is_active(self):
        return self.rows("SELECT 1 FROM runs WHERE state = 'active'") != []

    def record(self):
        """What the training wrote down of itself."""
        if not self.record_path.exists():
            return []
        lines = self.record_path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def epochs(self):
        return sum(row["kind"] == "line" for row in self.record())

    def model_at_home(self):
        """SHA-256 of the model in the results folder, None without one."""
        try:
            return hashlib.sha256((self.results / "model.pt").read_bytes()).hexdigest()
        except OSError:
            return None

    def log_at_home(self):
        try:
            return (self.results / "training.log").read_bytes()
        except OSError:
            return None

    def metrics_at_home(self):
        try:
            return (self.results / "metrics.csv").read_text().splitlines()
        except OSError:
            return []

    def drivers(self):
        """Living processes of this home that drive: typed ones and those in the background."""
        found = [psutil.Process(one.process.pid) for one in self.commands if one.drives()]
        for process in psutil.process_iter(["cmdline", "environ", "status"]):
            argv = process.info["cmdline"] or []
            mine = (process.info["environ"] or {}).get("TOWLINE_HOME") == str(self.home)
            lives = process.info["status"] != psutil.STATUS_ZOMBIE
            if mine and argv[-2:-1] == ["drive"] and lives:
                found.append(process)
        return found
