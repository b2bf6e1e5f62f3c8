"""How busy and how full the machine is: processors, memory, disk, GPUs.

What can't be read is None; a machine without /proc or nvidia-smi is no error.
"""

import os
import subprocess
import time

from .inspect import find_tool

_GPU_QUERY = (
    "index,name,driver_version,memory.used,memory.total,utilization.gpu,temperature.gpu,power.draw"
)
_GPU_LIMIT_S = 10.0
_CGROUPS = "/sys/fs/cgroup"
_NO_LIMIT = 1 << 60  # version 1 of cgroups says "no limit" as a huge number
_KIB = 1024
_STAT_FIELDS = 5  # user, nice, system, idle, waiting
_GPU_CELLS = _GPU_QUERY.count(",") + 1


class Machine:
    """Samples of one machine. A GPU query runs beside, so that a slow driver delays nothing."""

    def __init__(self, folder, pid=None):
        self._folder = folder
        self._pid = pid or os.getpid()
        self._groups = []
        self._ticks = None
        self._smi = find_tool("nvidia-smi")
        self._query = None
        self._asked = 0.0
        self._gpus = []
        self._gpu_error = None

    def ask(self):
        """Begin to ask for the GPUs, unless an answer is awaited already."""
        if self._smi is None or self._query is not None:
            return
        argv = [self._smi, "--query-gpu=" + _GPU_QUERY, "--format=csv,noheader,nounits"]
        try:
            self._query = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except OSError as error:
            self._gpus, self._gpu_error = [], str(error)
        self._asked = time.monotonic()

    def answered(self):
        """Whether the GPUs are known as far as they will be."""
        query = self._query
        if query is None:
            return True
        if query.poll() is None:
            if time.monotonic() - self._asked < _GPU_LIMIT_S:
                return False
            query.kill()
            self._gpus, self._gpu_error = [], "nvidia-smi did not answer in %d s" % _GPU_LIMIT_S
        out = query.communicate()[0].decode("utf-8", "replace")
        if query.returncode == 0:
            self._gpus, self._gpu_error = gpu_rows(out), None
        elif query.returncode > 0:
            self._gpus, self._gpu_error = [], out.strip()[:300] or "nvidia-smi failed"
        self._query = None
        return True

    def sample(self):
        """One sample; sizes in bytes, memory of GPUs in MiB, fractions of 1."""
        # those of a process that is dead already are still there to be asked
        self._groups = list(_memory_groups(self._pid)) or self._groups
        used, total = _memory(self._groups)
        disk = _room(self._folder)
        return {
            "at": time.time(),
            "cpu": self._busy(),
            "cpus": os.cpu_count(),
            "memory_bytes": used,
            "memory_total_bytes": total,
            "disk_free_bytes": disk[0],
            "disk_total_bytes": disk[1],
            "shm_free_bytes": _room("/dev/shm")[0],  # noqa: S108 - asked for its size only
            "oom_kills": _oom_kills(self._groups),
            "gpus": self._gpus,
            "gpu_error": self._gpu_error,
        }

    def close(self):
        """Drop a query under way."""
        if self._query is not None and self._query.poll() is None:
            self._query.kill()
            self._query.communicate()

    def _busy(self):
        """Share of the processors' time that was used since the last sample."""
        fields = [int(word) for word in _read("/proc/stat").partition("\n")[0].split()[1:9]]
        if len(fields) < _STAT_FIELDS:
            return None
        now = (sum(fields), fields[3] + fields[4])  # all, idle and waiting
        before, self._ticks = self._ticks, now
        if before is None or now[0] <= before[0]:
            return None
        idle = max(0.0, now[1] - before[1]) / (now[0] - before[0])
        return round(min(1.0, max(0.0, 1.0 - idle)), 3)


def gpu_rows(out):
    """Read nvidia-smi's rows; `[N/A]` and the like are None. Lines that are no rows are skipped."""
    rows = []
    for line in out.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < _GPU_CELLS or not cells[0].isdigit():
            continue
        memory, total, busy, temperature, power = [_number(cell) for cell in cells[-5:]]
        rows.append({
            "index": int(cells[0]),
            "name": ", ".join(cells[1:-6]),
            "driver": cells[-6],
            "memory_mib": memory,
            "memory_total_mib": total,
            "busy": None if busy is None else busy / 100,
            "temperature_c": temperature,
            "power_w": power,
        })  # fmt: skip
    return rows


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return None


def _room(folder):
    """(free, all) bytes of the file system that a folder is on."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return None, None
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def _memory(groups):
    """(used, all) bytes, by the tightest limit of a process's control groups."""
    rows = _table("/proc/meminfo")
    rows = {name.rstrip(":"): size * _KIB for name, size in rows.items()}
    total = rows.get("MemTotal")
    used = None if total is None else total - rows.get("MemAvailable", rows.get("MemFree", 0))
    for folder in groups:
        limit = _count(folder, "memory.max", "memory.limit_in_bytes")
        if limit is not None and limit < _NO_LIMIT and (total is None or limit < total):
            usage = _count(folder, "memory.current", "memory.usage_in_bytes") or 0
            used, total = max(0, usage - _cached(folder)), limit
    return used, total


def _memory_groups(pid):
    """Folders of the control groups that hold a process, the innermost first."""
    for line in _read("/proc/%d/cgroup" % pid).splitlines():
        number, kinds, path = (line.split(":", 2) + ["", ""])[:3]
        if number == "0" or "memory" in kinds.split(","):
            base = _CGROUPS if number == "0" else _CGROUPS + "/memory"
            while True:
                if os.path.isdir(base + path):
                    yield base + path
                if path in ("", "/"):
                    break
                path = os.path.dirname(path)


def _cached(folder):
    """Bytes of files that the kernel drops before it kills anyone."""
    rows = _table(folder + "/memory.stat")
    return rows.get("total_inactive_file", rows.get("inactive_file", 0))


def _oom_kills(groups):
    """How often the kernel has killed for want of memory, where this process can see it."""
    paths = ["/proc/vmstat"]
    for folder in groups:
        paths += [folder + "/memory.events", folder + "/memory.oom_control"]
    counts = [_table(path).get("oom_kill") for path in paths]
    return max([count for count in counts if count is not None] or [None])


def _table(path):
    """Read lines of a name and a number."""
    rows = [line.split() for line in _read(path).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _count(folder, *names):
    for name in names:
        text = _read(folder + "/" + name).strip()
        if text.isdigit():
            return int(text)
    return None


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "replace")
    except (IOError, OSError):
        return ""
