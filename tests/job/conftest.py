"""A project and a home for one main job on the local provider, run by the command line."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import psutil
import pytest


class Job:
    """One project folder and one TOWLINE_HOME."""

    def __init__(self, root):
        self.root = root
        self.project = root / "p"
        self.home = root / "h"
        (self.project / "dataset").mkdir(parents=True)
        (self.project / "dataset" / "a.txt").write_text("a\n")
        self.environment = os.environ | {
            "TOWLINE_HOME": str(self.home),
            "TOWLINE_CONFIG": str(root / "config.yaml"),
        }
        self.config()
        self.task()

    def config(self, **local):
        """Settings of the local provider."""
        (self.root / "config.yaml").write_text(json.dumps({"providers": {"local": local}}))

    def task(self, script="echo model > $TOWLINE_OUTPUT/model.pt", **more):
        """The task file; JSON is YAML."""
        task = {"name": "job", "dataset": "dataset", "command": script, **more}
        (self.project / "towline.yaml").write_text(json.dumps(task))

    def python(self, text, **more):
        """A task that runs a Python script."""
        (self.project / "train.py").write_text(textwrap.dedent(text))
        self.task("python train.py", code=".", **more)

    def run(self, *argv, check=None, timeout=60, prefix=()):
        """One towline command, without a terminal."""
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "towline", *argv], cwd=self.project,
            env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=timeout, check=False,
        )  # fmt: skip
        if check is not None:
            assert done.returncode == check, done.stdout + done.stderr
        return done

    def status(self):
        return json.loads(self.run("status", "--json", check=0).stdout)

    def receipt(self, name="job"):
        return json.loads((self.project / "runs" / name / "receipt.json").read_text())

    def left(self):
        """Instances and processes of this home."""
        folder = self.home / "local"
        instances = [one.name for one in folder.iterdir()] if folder.exists() else []
        return instances + [process.pid for process in self.processes()]

    def processes(self, names=("HOME",)):
        """Living processes of this home's instances; with TOWLINE_HOME, also its drivers."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                if any(str(self.home) in environment.get(n, "") for n in names):
                    found.append(process)
            except psutil.Error:
                continue  # ended meanwhile, or not ours to see
        return found


@pytest.fixture
def job():
    root = Path(tempfile.mkdtemp(prefix="tl-job-"))
    made = Job(root)
    yield made
    for process in made.processes(("HOME", "TOWLINE_HOME")):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with another
            process.kill()
    shutil.rmtree(root, ignore_errors=True)
