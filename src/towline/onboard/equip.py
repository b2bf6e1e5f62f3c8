"""Make the training's Python environment: one venv per set of requirements, kept for later runs.

Where the machine's own Python has a framework already (images for GPUs do), the venv sees that
Python's packages, so that gigabytes which are there are not loaded again.
"""

import fcntl
import json
import os
import re
import select
import shutil
import subprocess
import sys

from . import container, daemon, wire
from .inspect import find_tool
from .preflight import VERSION_OF
from .wire import Refusal

_TAIL_BYTES = 64 * 1024
_ALIVE_EVERY_S = 5.0
_COMPLAINS = re.compile(r"\W*(error|no solution)", re.IGNORECASE)


def equip(request, pipe):
    """Make or reuse the venv for ``requirements`` (lines), named by ``key``.

    With ``image``, in a container of it, which sees that image's packages. Its output goes home as
    DATA frames. Returns {"venv", "cached", "tool", "shared"}: "shared" names the frameworks that
    are the machine's own.

    Raises:
        Refusal: "equip", with the installer's own reason.
    """
    if request["image"]:
        os.makedirs(request["cwd"], mode=0o700, exist_ok=True)
        container.pull(
            container.tool(), request["image"], lambda argv: _run(argv, request["cwd"], pipe)
        )
    if not request["requirements"]:
        return {"venv": None, "cached": False, "tool": None, "shared": []}
    folder = os.path.join(os.path.expanduser("~"), "towline", ".cache", "venvs")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    venv = os.path.join(folder, request["key"])
    with open(venv + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs with the same requirements build it once
        made = daemon.read_json(venv + ".json")
        if made is not None and os.path.isdir(venv):
            return dict(made, venv=venv, cached=True)
        if os.path.isdir(venv):
            shutil.rmtree(venv)  # an attempt that was cut short
        listed = os.path.join(request["root"], ".towline", "requirements.txt")
        with open(listed, "w") as file:
            file.write("".join(line + "\n" for line in request["requirements"]))
        make = _make_inside if request["image"] else _make
        made = make(venv, listed, request, pipe)
        daemon.write_json(venv + ".json", made)
    return dict(made, venv=venv, cached=False)


def _make(venv, listed, request, pipe):
    python = os.path.join(venv, "bin", "python")
    own = _machines_own()
    uv = None if own["frameworks"] else find_tool("uv")  # uv does not see a machine's own packages
    if uv is None:
        _run([sys.executable, "-m", "venv", venv], request["cwd"], pipe)
        _share(venv, own)
        pip = [python, "-m", "pip", "install", "--progress-bar", "off", "-r", listed]
        _run(pip, request["cwd"], pipe)
    else:
        _run([uv, "venv", "--python", sys.executable, venv], request["cwd"], pipe)
        install = [uv, "pip", "install", "--python", python, "-r", listed]
        _first_that_works([install + more for more in _backends(uv, request)], request, pipe)
    return {"tool": "uv" if uv else "pip", "shared": own["frameworks"]}


# where the machine has packages from, and by which way: the image knows nothing of it
_INDEX = re.compile(
    r"PIP_(INDEX_URL|EXTRA_INDEX_URL|NO_INDEX|TRUSTED_HOST)$|(https?|all|no)_proxy$", re.IGNORECASE
)
# The image's own pip will do where it has one: Debian's Python can't give a venv one of its own.
_VENV_INSIDE = """
python3 -m pip --version >/dev/null 2>&1 && without=--without-pip
exec python3 -m venv $without --system-site-packages "$1"
"""


def _make_inside(venv, listed, request, pipe):
    program = container.tool()
    container.remove(request["root"], request["run"])  # of an attempt that was cut short
    python = os.path.join(venv, "bin", "python")
    pip = [python, "-m", "pip", "install", "--progress-bar", "off", "-r", listed]
    passed = sorted(name for name in os.environ if _INDEX.match(name))
    for argv, shown in (
        (["/bin/sh", "-c", _VENV_INSIDE, "towline", venv], ["python3", "-m", "venv"]),
        (pip, pip),
    ):
        _run(container.inside(program, request, argv, passed), request["cwd"], pipe, shown)
    return {"tool": "pip in " + request["image"], "shared": []}


def _first_that_works(commands, request, pipe):
    for argv in commands[:-1]:
        try:
            return _run(argv, request["cwd"], pipe)
        except Refusal as refusal:
            text = "towline: %s; trying without it\n" % refusal.body["message"]
            pipe.send(wire.DATA, text.encode("utf-8", "replace"))
    return _run(commands[-1], request["cwd"], pipe)


def _backends(uv, request):
    """Arguments to try in turn: PyTorch's build for this GPU or CPU, unless the user has chosen one."""
    lines = "\n".join(request["requirements"])
    chosen = re.search(r"^-|--index|\+(cu|cpu|rocm|xpu)", lines, re.MULTILINE)
    if chosen or not re.search(r"torch|lightning|ultralytics|timm|transformers|peft", lines):
        return [[]]
    try:
        said = subprocess.check_output([uv, "pip", "install", "--help"], timeout=20)
    except (OSError, subprocess.SubprocessError):
        return [[]]
    return [["--torch-backend", "auto"], []] if b"--torch-backend" in said else [[]]


_LOOK = (
    VERSION_OF
    + """
known = [(name, version(name)) for name in ("torch", "jax", "tensorflow")]
found = ["%s %s" % one for one in known if one[1]]
folders = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
print("\\n" + json.dumps({"frameworks": found, "folders": folders}))
"""
)


def _machines_own():
    """Frameworks that the machine's own Python has, and the folders of its packages."""
    try:
        out = subprocess.check_output(
            [sys.executable, "-c", _LOOK], stderr=subprocess.DEVNULL, timeout=60
        )
        return json.loads(out.decode("utf-8", "replace").splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {"frameworks": [], "folders": []}  # a Python that can't be asked shares nothing


def _share(venv, own):
    """Let the venv see the machine's packages, after its own.

    Not by `--system-site-packages`: where the machine's Python is a venv itself, that would show
    the packages of the Python below it.
    """
    if own["frameworks"]:
        place = [os.path.join(venv, "lib", name) for name in os.listdir(os.path.join(venv, "lib"))]
        with open(os.path.join(place[0], "site-packages", "machines-own.pth"), "w") as file:
            file.write("".join(folder + "\n" for folder in own["folders"]))


def _run(argv, cwd, pipe, shown=None):
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
        raise Refusal("equip", _reason(shown or argv, tail, process.returncode), hint=_hint(tail))


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
    if "short-name" in text:
        return "write the image with its registry in front: `image: registry.example/name:tag`"
    if "access denied" in text or "access to the resource is denied" in text:
        return "check the image's name; a private one needs a login there, by `docker login`"
    if "No matching distribution" in text or "was not found in the" in text:
        return "check the name and version in `requirements`"
    return "the whole output is in the run's equip.log"
