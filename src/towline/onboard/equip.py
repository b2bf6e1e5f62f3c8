"""Make the training's Python environment: one venv per set of requirements, kept for later runs."""

import fcntl
import os
import re
import select
import shutil
import subprocess
import sys

from . import daemon, wire
from .inspect import find_tool
from .wire import Refusal

_TAIL_BYTES = 64 * 1024
_ALIVE_EVERY_S = 5.0
_COMPLAINS = re.compile(r"\W*(error|no solution)", re.IGNORECASE)


def equip(request, pipe):
    """Make or reuse the venv for ``requirements`` (lines), named by ``key``.

    Its output goes home as DATA frames. Returns {"venv", "cached", "tool"}.

    Raises:
        Refusal: "equip", with the installer's own reason.
    """
    folder = os.path.join(os.path.expanduser("~"), "towline", ".cache", "venvs")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    venv = os.path.join(folder, request["key"])
    tool = "uv" if find_tool("uv") else "pip"
    with open(venv + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs with the same requirements build it once
        if daemon.read_json(venv + ".json") is not None and os.path.isdir(venv):
            return {"venv": venv, "cached": True, "tool": tool}
        if os.path.isdir(venv):
            shutil.rmtree(venv)  # an attempt that was cut short
        listed = os.path.join(request["root"], ".towline", "requirements.txt")
        with open(listed, "w") as file:
            file.write("".join(line + "\n" for line in request["requirements"]))
        for argv in _commands(tool, venv, listed):
            _run(argv, request["cwd"], pipe)
        daemon.write_json(venv + ".json", {"tool": tool})
    return {"venv": venv, "cached": False, "tool": tool}


def _commands(tool, venv, listed):
    python = os.path.join(venv, "bin", "python")
    if tool == "uv":
        uv = find_tool("uv")
        return [
            [uv, "venv", "--python", sys.executable, venv],
            [uv, "pip", "install", "--python", python, "-r", listed],
        ]
    pip = [python, "-m", "pip", "install", "--progress-bar", "off", "-r", listed]
    return [[sys.executable, "-m", "venv", venv], pip]


def _run(argv, cwd, pipe):
    """Run one installer command, its output streamed and its tail kept for the reason."""
    os.makedirs(cwd, mode=0o700, exist_ok=True)
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
    )
    tail = b""
    for block in _read_aloud(process.stdout, pipe):  # a block may end inside a line
        tail = (tail + block)[-_TAIL_BYTES:]
    if process.wait() != 0:
        tail = tail.decode("utf-8", "replace").splitlines()
        raise Refusal("equip", _reason(argv, tail, process.returncode), hint=_hint(tail))


def _read_aloud(output, pipe):
    """Yield the installer's output and send it home; a remark where it is silent for long."""
    while True:
        if not select.select([output], [], [], _ALIVE_EVERY_S)[0]:
            pipe.send_json(wire.JSON, {"alive": True})
            continue
        block = os.read(output.fileno(), 65536)
        if not block:
            return
        pipe.send(wire.DATA, block)
        yield block


def _reason(argv, tail, status):
    """The installer's own words: its error lines and what explains them, else its last lines."""
    said = _complaints(tail) or [line for line in tail if line.strip()][-3:]
    said = said or ["(it printed nothing)"]
    name = " ".join(os.path.basename(part) for part in argv[:4])
    return "`%s ...` ended with status %d: %s" % (name, status, " | ".join(said[:4]))


def _complaints(tail):
    """Lines that complain, each with the indented ones below it."""
    found = []
    within = False
    for line in tail:
        within = bool(_COMPLAINS.match(line) or (within and line.strip() and line[0].isspace()))
        if within:
            found.append(line.strip())
    return found


def _hint(tail):
    text = "\n".join(tail)
    if "ensurepip" in text:
        return (
            "the instance lacks python3-venv: `apt-get install python3-venv`, or install uv there"
        )
    if "No space left" in text:
        return "the instance's disk is full: ask for more with `resources: {disk_gb: ...}`"
    if "No matching distribution" in text or "was not found in the" in text:
        return "check the name and version in `requirements`"
    return "the whole output is in the run's equip.log"
