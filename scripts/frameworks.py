"""Train a real project of each framework through towline, and check all that a user would look at.

Each is trained by `towline train --provider local -y --json` in a copy of its folder; then its
status, metrics, model, receipt and what is left on this machine are checked, and the model is loaded
by a process of its own. The outcomes go to build/frameworks/results.json and docs/frameworks.md.

    python scripts/frameworks.py [NAME ...]
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from _frameworks import (
    BUILD,
    ROOT,
    Project,
    chosen,
    copy_project,
    make_venv,
    package_environment,
    uv_program,
    version,
)

RESULTS = BUILD / "results.json"
PAGE = ROOT / "docs" / "frameworks.md"
_MARK = "<!-- made by scripts/frameworks.py -->\n"
_LONGEST_S = 900


class Wrong(Exception):
    """A fact that does not hold, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A training that has ended, and all that it left to look at."""

    project: Project
    venv: Path
    folder: Path  # the project's copy
    home: Path  # TOWLINE_HOME
    seconds: float
    status: dict[str, Any]
    events: list[dict[str, Any]]  # what `train --json` said of its progress

    @property
    def results(self) -> Path:
        """Where towline put what came home."""
        return self.folder / "runs" / self.status["name"]

    @property
    def receipt(self) -> dict[str, Any]:
        """The run's receipt."""
        return json.loads((self.results / "receipt.json").read_text("utf-8"))


def main(names: list[str]) -> int:
    """Train and check; returns 1 when something was wrong."""
    BUILD.mkdir(parents=True, exist_ok=True)
    # not below the repository: Ultralytics writes its runs to the root of the one it is installed in
    home = Path(tempfile.mkdtemp(prefix="towline-frameworks-"))
    wrong = sum(not _one(project, home) for project in chosen(names))
    if wrong:
        print(f"the state of these runs is kept in {home}")
        return 1
    shutil.rmtree(home)
    return 0


def _one(project: Project, home: Path) -> bool:
    """Train one project and check it; says what is wrong, or adds it to the results."""
    print(f"{project.name} ...", flush=True)
    facts: dict[str, Any] = {}
    wrong: list[str] = []
    try:
        trained = _train(project, home)
    except Wrong as error:
        wrong.append(str(error))
    else:
        for check in (_progress, _metrics, _command, _model, _nothing_left, _loads):
            try:
                facts |= check(trained)
            except Wrong as error:
                wrong.append(str(error))
    for sentence in wrong:
        print(f"{project.name}: WRONG: {sentence}", flush=True)
    if not wrong:
        _keep(project.name, facts)
        print(f"{project.name}: {facts['seconds']:.0f} s; {facts['model']}: {facts['loads']}")
    return not wrong


def _train(project: Project, home: Path) -> Trained:
    """Run `towline train` in a copy of the project."""
    venv = make_venv(project)
    folder = BUILD / "work" / project.name
    copy_project(project, venv, folder)
    began = time.monotonic()
    done = _towline(folder, home, "train", "--provider", "local", "-y", "--json")
    seconds = time.monotonic() - began
    (folder / "events.jsonl").write_text(done.stdout, "utf-8")
    if done.returncode != 0:
        tail = " | ".join((done.stdout + done.stderr).splitlines()[-4:])
        raise Wrong(f"exit code {done.returncode}: {tail[-1500:]}")
    *lines, status = [json.loads(line) for line in done.stdout.splitlines()]
    return Trained(
        project=project,
        venv=venv,
        folder=folder,
        home=home,
        seconds=seconds,
        status=status,
        events=[line for line in lines if line["type"] == "progress"],
    )


def _towline(folder: Path, home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A towline command as typed in the folder, with uv at hand for the instance's venv."""
    programs = BUILD / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    if not (programs / "uv").exists():
        (programs / "uv").symlink_to(uv_program())
    config = home / "config.yaml"
    config.write_text("{}\n")
    env = package_environment() | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "TOWLINE_HOME": str(home),
        "TOWLINE_CONFIG": str(config),
    }
    return subprocess.run(
        [sys.executable, "-m", "towline", *argv], cwd=folder, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=_LONGEST_S, check=False,
    )  # fmt: skip


# -- what must hold: each returns facts for the page, or raises what is wrong -----------------------


def _progress(trained: Trained) -> dict[str, Any]:
    """The status knows the last epoch, and the total where the training says it."""
    seen, wanted = trained.status["progress"], trained.project
    if (seen["epoch"], seen["total_epochs"]) != (wanted.last, wanted.total):
        said = f"epoch {seen['epoch']} of {seen['total_epochs']}"
        raise Wrong(f"status says {said}, not {wanted.last} of {wanted.total}")
    return {
        "version": version(trained.project, trained.venv),
        "seconds": trained.seconds,
        "training_s": sum(s["seconds"] for s in trained.receipt["steps"] if s["step"] == "follow"),
        "epoch": seen["epoch"],
        "total": seen["total_epochs"],
        "reports": len(trained.events),
        "sources": sorted({event.get("source") or "log" for event in trained.events}),
        "metrics": sorted(seen["metrics"]),
    }


def _metrics(trained: Trained) -> dict[str, Any]:
    """metrics.csv has numbers for each metric."""
    with (trained.results / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = [name for name in trained.project.metrics if not any(row.get(name) for row in rows)]
    if missing:
        columns = ", ".join(rows[0]) if rows else "none"
        raise Wrong(f"metrics.csv has no {', '.join(missing)}; its columns: {columns}")
    return {}


def _command(trained: Trained) -> dict[str, Any]:
    """`towline metrics` shows them too."""
    shown = _towline(trained.folder, trained.home, "metrics", trained.status["name"], "--csv")
    if shown.returncode != 0 or trained.project.metrics[0] not in shown.stdout:
        raise Wrong(f"`towline metrics` says: {shown.stdout[:300]}{shown.stderr[:300]}")
    return {}


def _model(trained: Trained) -> dict[str, Any]:
    """The right one of the candidates is home, whole."""
    model = trained.receipt["model"]
    first = (model["candidates"] or [{"path": "nothing", "why": ""}])[0]
    if not fnmatch.fnmatch(first["path"], trained.project.model):
        paths = ", ".join(f"{one['path']} ({one['why']})" for one in model["candidates"])
        raise Wrong(f"the model is not {trained.project.model}; candidates: {paths}")
    if _hash(Path(model["path"]), first["path"]) != model["sha256"]:
        raise Wrong(f"{model['path']} is not what the receipt describes")
    return {
        "model": first["path"],
        "why": first["why"],
        "candidates": len(model["candidates"]),
    }


def _hash(path: Path, remote: str) -> str:
    """SHA-256 of a file; of a folder, over the `sha256  path` lines of its files there."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    own = [file for file in path.rglob("*") if file.is_file()]
    files = {f"{remote}/{file.relative_to(path)}": file for file in own}
    lines = [f"{_hash(file, name)}  {name}\n" for name, file in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _nothing_left(trained: Trained) -> dict[str, Any]:
    """Neither an instance nor a process of this run."""
    instances = trained.home / "local"
    left = [one.name for one in instances.iterdir()] if instances.exists() else []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue  # it ended meanwhile, or belongs to another user
        if any(trained.status["id"] in word for word in words):
            left.append(f"{process.pid} {process.name()}")
    if left or not trained.receipt["release"]["gone"]:
        raise Wrong(f"left behind: {', '.join(left) or 'the instance is not proven gone'}")
    return {}


def _loads(trained: Trained) -> dict[str, Any]:
    """The framework itself loads the model and uses it; what the project's check.py says."""
    own = {"KERAS_BACKEND": "torch", "YOLO_OFFLINE": "true", "PYTHONPATH": "."}
    model = trained.status["model"]["path"]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [trained.venv / "bin" / "python", "check.py", model], cwd=trained.folder,
            env=os.environ | own | {"HOME": home}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise Wrong(f"{model} can't be used: {done.stderr[-600:]}")
    return {"loads": re.split(r"[\r\n]", done.stdout.strip())[-1].strip()}


# -- the page -------------------------------------------------------------------------------------


def _keep(name: str, facts: dict[str, Any]) -> None:
    """Add a run to the results and to the page's table; what stands around it is written by hand."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = facts
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    before, _old, after = PAGE.read_text("utf-8").split(_MARK)
    lines = [
        "| framework | whole run (training) | read from | last report | metrics | model | loaded |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    for row, one in sorted(results.items()):
        of = f" of {one['total']}" if one["total"] else ""
        chosen_from = f", of {one['candidates']}" if one["candidates"] > 1 else ""
        metrics = ", ".join(f"`{metric}`" for metric in one["metrics"])
        lines.append(
            f"| {row} {one['version']} | {one['seconds']:.0f} s ({one['training_s']:.0f} s) "
            f"| {', '.join(one['sources'])}: {one['reports']} reports | {one['epoch']}{of} "
            f"| {metrics} | `{one['model']}`{chosen_from}: {one['why']} | {one['loads']} |\n"
        )
    PAGE.write_text(before + _MARK + "".join(lines) + _MARK + after, "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
