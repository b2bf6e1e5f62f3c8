"""Look the instance over: one answer that says whether a training can run here."""

import os
import platform
import shutil
import subprocess
import sys

from . import codecs

_TOOLS = ("tmux", "uv", "unzip", "docker", "podman", "sudo")
#: nvidia-smi's fields, and what we call them; one from before 2020 does not know the last
_GPU_FIELDS = (
    ("name", "name"),
    ("memory.total", "memory_mib"),
    ("driver_version", "driver"),
    ("mig.mode.current", "mig"),
)


def inspect(_request, _pipe):
    """Report home, python, disk, GPUs and tools; sizes in bytes, memory of GPUs in MiB."""
    home = os.path.expanduser("~")
    disk = os.statvfs(home)
    return {
        "home": home,
        "python": sys.executable,
        "python_version": platform.python_version(),
        "system": platform.platform(terse=True),
        "cpus": os.cpu_count(),
        "disk_free_bytes": disk.f_bavail * disk.f_frsize,
        "inodes_free": disk.f_favail,
        "gpus": _gpus(),
        "codecs": codecs.available(),
        "tools": [tool for tool in _TOOLS if find_tool(tool)],
    }


def find_tool(name):
    """Path of a program, looked for in the user's own bin folders too; None without it."""
    path = os.environ.get("PATH", os.defpath)
    own = [os.path.expanduser("~/" + folder) for folder in (".local/bin", ".cargo/bin", "bin")]
    return shutil.which(name, path=os.pathsep.join([path] + own))


def _gpus():
    program = find_tool("nvidia-smi")
    if program is None:
        return []
    try:
        try:
            return _asked(program, _GPU_FIELDS)
        except subprocess.CalledProcessError as refused:
            if b"not a valid field" not in refused.output:
                raise
            return _asked(program, _GPU_FIELDS[:-1])
    except (OSError, subprocess.SubprocessError) as error:
        text = getattr(error, "output", b"") or b""
        return [{"error": (text.decode(errors="replace").strip() or str(error))[:300]}]


def _asked(program, fields):
    """What nvidia-smi says of each GPU; "mig" is "" where it is too old to know."""
    query = "--query-gpu=" + ",".join(field for field, _key in fields)
    argv = [program, query, "--format=csv,noheader,nounits"]
    env = dict(os.environ, LC_ALL="C")
    out = subprocess.check_output(argv, stderr=subprocess.STDOUT, timeout=20, env=env)
    rows = [
        [cell.strip() for cell in row.split(",")]
        for row in out.decode(errors="replace").splitlines()
    ]
    keys = [key for _field, key in fields]
    return [dict(zip(keys, row), mig="".join(row[3:])) for row in rows if len(row) == len(keys)]
