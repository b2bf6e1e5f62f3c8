"""One run on `local`, its driver's memory and the times of its steps read meanwhile."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil


class Drive:
    """Trains a script; a context manager that leaves nothing."""

    def __init__(self, script, **task):
        self.root = Path(tempfile.mkdtemp(prefix="tl-bench-"))
        self.results = self.root / "runs" / "bench"
        (self.root / "train.py").write_text(script)
        whole = {"name": "bench", "code": ".", "command": "python3 train.py"} | task
        (self.root / "towline.yaml").write_text(json.dumps(whole))
        (self.root / "config.yaml").write_text("{}")
        self.most_mb = 0.0
        self.code = None

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self):
        """Train to the end; the driver is a process of its own, so that its memory is its own."""
        env = os.environ | {
            "TOWLINE_HOME": str(self.root / "h"),
            "TOWLINE_CONFIG": str(self.root / "config.yaml"),
        }
        argv = [sys.executable, "-m", "towline", "train", "-y"]
        with (self.root / "said").open("wb") as said:
            driver = psutil.Popen(
                argv, cwd=self.root, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
            while driver.poll() is None:
                with contextlib.suppress(psutil.Error):
                    self.most_mb = max(self.most_mb, driver.memory_info().rss / 1e6)
                time.sleep(0.1)
        self.code = driver.returncode

    def rows(self, query):
        with contextlib.closing(sqlite3.connect(self.root / "h" / "towline.db")) as db:
            return db.execute(query).fetchall()

    def step(self, name):
        """When a step ended, and how long it took."""
        rows = self.rows("select step, started_at, ended_at from attempts order by ended_at")
        began, ended = [(began, ended) for step, began, ended in rows if step == name][-1]
        return ended, ended - began
