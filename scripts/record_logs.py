"""Record what real trainings print, as raw bytes, for the tests of the progress parser.

Each project of tests/frameworks is run twice, once with its output in a file (as `nohup` leaves it) and
once in a terminal of 220x50; one also in a terminal of 80x24. The log goes to tests/data/logs, the
files with progress that it wrote to tests/data/sides. The run sees itself in /mnt/run on a host
`gpu-box` (namespaces of Linux), so that nothing of this machine gets into what is committed.

    python scripts/record_logs.py [NAME ...]
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import BinaryIO

from _frameworks import BUILD, PROJECTS, ROOT, Project, chosen, copy_project, make_venv, version

LOGS = ROOT / "tests" / "data" / "logs"
SIDES = ROOT / "tests" / "data" / "sides"
INDEX = LOGS / "index.json"  # what README.md beside it shows
LIMIT_BYTES = 60_000
NARROW = "ultralytics"  # the one whose bar depends most on the terminal's width
_BOX = Path("/mnt")


def main(names: list[str]) -> None:
    """Record the named projects, or all, and write the index."""
    for project in chosen(names):
        if project.recipe:
            continue  # it has no script to run without towline
        venv = make_venv(project)
        forms = ["file", "220x50"] + (["80x24"] if project.name == NARROW else [])
        rows = [_record(project, venv, form) for form in forms]
        keep = {"version": version(project, venv), "date": _today(), "rows": rows}
        _write_index({project.name: keep})
        print(f"{project.name}: " + ", ".join(f"{row['log']} {row['bytes']:,} B" for row in rows))


def _today() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime())


def _record(project: Project, venv: Path, form: str) -> dict:
    """One run in one form; returns its row of the index."""
    work = BUILD / "record"
    copy_project(project, venv, work)
    suffix = {"file": "", "220x50": "-pty"}.get(form, f"-pty-{form.partition('x')[0]}")
    log = BUILD / f"{project.name}{suffix}.log"
    argv = [sys.executable, __file__, "--in-box", str(work), str(venv), str(log), form]
    namespaces = ["unshare", "--mount", "--uts"] + (["--map-root-user"] if os.getuid() else [])
    subprocess.run([*namespaces, *argv], check=True)
    data = log.read_bytes()
    _refuse_traces(log.name, data)
    LOGS.mkdir(parents=True, exist_ok=True)
    shutil.copy(log, LOGS)
    sides = _keep_sides(project, work) if form == "file" else []
    return {"log": log.name, "form": form, "bytes": len(data), "sides": sides}


def _keep_sides(project: Project, work: Path) -> list[str]:
    target = SIDES / project.name
    shutil.rmtree(target, ignore_errors=True)
    kept = []
    for pattern in project.sides:
        for file in sorted(work.glob(pattern)):
            _refuse_traces(file.name, file.read_bytes())
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
            kept.append(file.name)
    return kept


def _refuse_traces(name: str, data: bytes) -> None:
    """Stop before a log is kept that is too long or tells where it was made.

    Raises:
        SystemExit: It is.
    """
    traces = [str(ROOT), str(Path.home()), sys.base_prefix]
    found = [trace for trace in traces if trace.encode() in data]
    if found:
        sys.exit(f"error: {name} names {found[0]}")
    if len(data) > LIMIT_BYTES:
        sys.exit(f"error: {name} has {len(data):,} bytes; make its training shorter")


# -- in the box -----------------------------------------------------------------------------------


def run_in_box(work: str, venv: str, log: str, form: str) -> None:
    """Mount the project and its venv at neutral places, then run it; we are in own namespaces."""
    socket.sethostname("gpu-box")
    with Path(log).open("wb") as file:
        _mount("-t", "tmpfs", "none", _BOX)
        for name, source in (("run", work), ("venv", venv)):
            (_BOX / name).mkdir()
            _mount("--bind", source, _BOX / name)
        (_BOX / "home").mkdir()
        os.chdir(_BOX / "run")
        code = _to_file(file) if form == "file" else _in_terminal(file, form)
    if code:
        sys.exit(f"error: the training ended with {code}; see {log}")


def _mount(*argv: object) -> None:
    subprocess.run(["mount", *map(str, argv)], check=True)


def _environment(**more: str) -> dict[str, str]:
    own = {
        "PATH": f"{_BOX}/venv/bin:/usr/bin:/bin",
        "HOME": f"{_BOX}/home",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "YOLO_OFFLINE": "true",
        "KERAS_BACKEND": "torch",
    }
    if Path("sitecustomize.py").exists():
        own["PYTHONPATH"] = "."
    return own | more


def _to_file(file: BinaryIO) -> int:
    """As towline's supervisor starts it: output appended to a file, the size told by name."""
    env = _environment(COLUMNS="220", LINES="50")
    argv = ["python", "train.py"]
    return subprocess.call(argv, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def _in_terminal(file: BinaryIO, form: str) -> int:
    """In a terminal of its own, as in a tmux pane."""
    columns, _, rows = form.partition("x")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", int(rows), int(columns), 0, 0))
    process = subprocess.Popen(
        ["setsid", "--ctty", "python", "train.py"],
        env=_environment(TERM="xterm-256color"), stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # EIO: the last process that had it open has ended
            break
        if not block:
            break
        file.write(block)
    return process.wait()


# -- the index ------------------------------------------------------------------------------------

_HEAD = """\
# Recorded logs

Raw bytes of real trainings: those of `tests/frameworks/`, each run with `python train.py` by
`scripts/record_logs.py`, which also wrote this page. *file*: standard output and error in one file, with
`PYTHONUNBUFFERED=1`, `COLUMNS=220` and `LINES=50`, as towline starts a training. *220x50*, *80x24*: in a
terminal of that size. Nothing was cut or changed. The trainings ran on a CPU. Files with progress that
they wrote beside the log are in `tests/data/sides/<name>/`.

| log | form | bytes | framework | recorded | side files |
|---|---|---|---|---|---|
"""


def _write_index(new: dict) -> None:
    """Put new recordings into the index, and write its page for people."""
    index = (json.loads(INDEX.read_text()) if INDEX.exists() else {}) | new
    INDEX.write_text(json.dumps(dict(sorted(index.items())), indent=1) + "\n")
    lines = [
        f"| `{row['log']}` | {row['form']} | {row['bytes']:,} "
        f"| {PROJECTS[name].package} {kept['version']} | {kept['date']} "
        f"| {', '.join(f'`{side}`' for side in row['sides'])} |\n"
        for name, kept in sorted(index.items())
        for row in kept["rows"]
    ]
    (LOGS / "README.md").write_text(_HEAD + "".join(lines), "utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-box"]:
        run_in_box(*sys.argv[2:])
    else:
        main(sys.argv[1:])
