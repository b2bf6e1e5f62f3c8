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
import shutil
import subprocess
import sys
import tempfile
import time
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


def main(names: list[str]) -> int:
    """Train and check; returns 1 when something was wrong."""
    BUILD.mkdir(parents=True, exist_ok=True)
    # not below the repository: Ultralytics writes its runs to the root of the one it is installed in
    home = Path(tempfile.mkdtemp(prefix="towline-frameworks-"))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    wrong = 0
    for project in chosen(names):
        print(f"{project.name} ...", flush=True)
        try:
            found = _try(project, home)
        except Wrong as error:
            wrong += 1
            print(f"{project.name}: WRONG: {error}", flush=True)
            continue
        results[project.name] = found
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        _write_page(results)
        print(f"{project.name}: {found['seconds']:.0f} s; model {found['model']}: {found['loads']}")
    if wrong:
        print(f"the state of these runs is kept in {home}")
        return 1
    shutil.rmtree(home)
    return 0


def _try(project: Project, home: Path) -> dict[str, Any]:
    """One training from the command line to the loaded model."""
    venv = make_venv(project)
    folder = BUILD / "work" / project.name
    shim = copy_project(project, venv, folder)
    began = time.monotonic()
    status, events = _train(folder, home)
    seconds = time.monotonic() - began
    results = folder / "runs" / status["name"]
    receipt = json.loads((results / "receipt.json").read_text("utf-8"))
    _check_progress(project, status)
    rows = _check_metrics(project, results)
    _check_command(project, folder, home, results)
    why = _check_model(project, receipt)
    _check_nothing_left(home, receipt)
    return {
        "version": version(project, venv),
        "seconds": seconds,
        "training_s": _seconds_of(receipt, "follow"),
        "shim": shim,
        "epoch": status["progress"]["epoch"],
        "total": status["progress"]["total_epochs"],
        "reports": len(events),
        "sources": sorted({event.get("source") or "log" for event in events}),
        "rows": rows,
        "metrics": sorted(status["progress"]["metrics"]),
        "model": receipt["model"]["candidates"][0]["path"],
        "why": why,
        "candidates": len(receipt["model"]["candidates"]),
        "loads": _load(venv, folder, Path(status["model"]["path"])),
    }


def _train(folder: Path, home: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run `towline train`; its last object, and what it said of the training's progress."""
    done = _towline(folder, home, "train", "--provider", "local", "-y", "--json")
    (folder / "events.jsonl").write_text(done.stdout, "utf-8")
    if done.returncode != 0:
        tail = " | ".join((done.stdout + done.stderr).splitlines()[-4:])
        raise Wrong(f"exit code {done.returncode}: {tail[-1500:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    progress = [line["data"] for line in lines[:-1] if line.get("kind") == "progress"]
    if lines[-1].get("state") != "succeeded":
        raise Wrong(f"the run ended {lines[-1].get('state')}")
    return lines[-1], progress


def _towline(folder: Path, home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """A towline command as typed in the folder, with uv at hand for the instance's venv."""
    programs = BUILD / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    if not (programs / "uv").exists():
        (programs / "uv").symlink_to(uv_program())
    config = BUILD / "config.yaml"
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


# -- what must hold -------------------------------------------------------------------------------


def _check_progress(project: Project, status: dict[str, Any]) -> None:
    seen = status["progress"]
    if (seen["epoch"], seen["total_epochs"]) != (project.last, project.total):
        said = f"{seen['epoch']} of {seen['total_epochs']}"
        raise Wrong(f"status says epoch {said}, not {project.last} of {project.total}")


def _check_metrics(project: Project, results: Path) -> int:
    """metrics.csv has numbers for each metric; returns how many rows it has."""
    with (results / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in project.metrics:
        if not any(row.get(name) for row in rows):
            columns = ", ".join(rows[0]) if rows else "none"
            raise Wrong(f"metrics.csv has no {name}; its columns: {columns}")
    return len(rows)


def _check_command(project: Project, folder: Path, home: Path, results: Path) -> None:
    """`towline metrics` knows them too."""
    shown = _towline(folder, home, "metrics", results.name, "--csv")
    if shown.returncode != 0 or project.metrics[0] not in shown.stdout:
        raise Wrong(f"`towline metrics` says: {shown.stdout[:300]}{shown.stderr[:300]}")


def _check_model(project: Project, receipt: dict[str, Any]) -> str:
    """The right one of the candidates is home, whole; returns why it was chosen."""
    candidates = receipt["model"]["candidates"]
    first = candidates[0] if candidates else {"path": "nothing", "why": ""}
    if not fnmatch.fnmatch(first["path"], project.model):
        paths = ", ".join(one["path"] for one in candidates)
        raise Wrong(f"the model is {first['path']}, not {project.model}; candidates: {paths}")
    path = Path(receipt["model"]["path"])
    if _hash(path, first["path"]) != receipt["model"]["sha256"]:
        raise Wrong(f"{path} is not what the receipt describes")
    return first["why"]


def _hash(path: Path, remote: str) -> str:
    """SHA-256 of a file; of a folder, over the `sha256  path` lines of its files there."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = {
        f"{remote}/{file.relative_to(path)}": file for file in path.rglob("*") if file.is_file()
    }
    lines = [f"{_hash(file, name)}  {name}\n" for name, file in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_nothing_left(home: Path, receipt: dict[str, Any]) -> None:
    """Neither an instance nor a process of this run."""
    folder = home / "local"
    left = [one.name for one in folder.iterdir()] if folder.exists() else []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue  # it ended meanwhile, or belongs to another user
        if any(receipt["run"]["id"] in word for word in words):
            left.append(f"{process.pid} {process.name()}")
    if left or not receipt["release"]["gone"]:
        raise Wrong(f"left behind: {', '.join(left) or 'the instance is not proven gone'}")


def _load(venv: Path, folder: Path, model: Path) -> str:
    """Let the framework itself load the model and use it; what the project's check.py says."""
    env = os.environ | {"KERAS_BACKEND": "torch", "YOLO_OFFLINE": "true", "PYTHONPATH": "."}
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [venv / "bin" / "python", "check.py", model], cwd=folder, env=env | {"HOME": home},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise Wrong(f"{model} can't be used: {done.stderr[-600:]}")
    return done.stdout.strip().splitlines()[-1]


def _seconds_of(receipt: dict[str, Any], step: str) -> float:
    return sum(row["seconds"] for row in receipt["steps"] if row["step"] == step)


# -- the page -------------------------------------------------------------------------------------


def _write_page(results: dict[str, Any]) -> None:
    """Put the table between the page's marks; what stands around it is written by hand."""
    before, _old, after = PAGE.read_text("utf-8").split(_MARK)
    lines = [
        "| framework | whole run (training) | read from | last report | metrics | model | loaded |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    for name, one in sorted(results.items()):
        of = f" of {one['total']}" if one["total"] else ""
        chosen_from = f", of {one['candidates']}" if one["candidates"] > 1 else ""
        metrics = ", ".join(f"`{metric}`" for metric in one["metrics"])
        lines.append(
            f"| {name} {one['version']} | {one['seconds']:.0f} s ({one['training_s']:.0f} s) "
            f"| {', '.join(one['sources'])}: {one['reports']} reports | {one['epoch']}{of} "
            f"| {metrics} | `{one['model']}`{chosen_from}: {one['why']} | {one['loads']} |\n"
        )
    PAGE.write_text(before + _MARK + "".join(lines) + _MARK + after, "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
