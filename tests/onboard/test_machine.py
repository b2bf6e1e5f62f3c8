"""Samples of the machine: real ones of this one, and GPUs as nvidia-smi prints them."""

import contextlib
import os
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.onboard.machine import wait_for
from tests.onboard.test_sides import Following
from towline.core import causes
from towline.onboard import machine as onboard_machine

GROUPS = Path("/sys/fs/cgroup/memory")

ROWS = """\
0, NVIDIA H100 80GB HBM3, 550.54.15, 39102, 81559, 97, 61, 612.34
1, NVIDIA H100 80GB HBM3, 550.54.15, 1, 81559, 0, 31, 69.34
"""


def smi(here, script):
    path = here.bin / "nvidia-smi"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def samples(here, count=1, **options):
    """The first samples while a training runs."""
    here.start("sleep 30")
    following = Following(here, **options)
    try:
        following.until(lambda frames: sum("machine" in one for one in frames) >= count)
        return [one["machine"] for one in following.frames if "machine" in one]
    finally:
        following.close()


def test_a_sample_of_this_machine_is_true(here):
    (sample,) = samples(here)
    assert abs(sample["at"] - time.time()) < 10
    assert sample["cpus"] == os.cpu_count()
    assert 0 < sample["memory_bytes"] < sample["memory_total_bytes"]
    disk = os.statvfs(here.root)
    assert sample["disk_total_bytes"] == disk.f_blocks * disk.f_frsize
    assert 0 < sample["disk_free_bytes"] <= sample["disk_total_bytes"]
    assert (sample["gpus"], sample["gpu_error"]) == ([], None)


def test_gpus_are_sampled_as_nvidia_smi_tells_them(here):
    smi(here, f"cat <<'END'\n{ROWS}END\n")
    (sample,) = samples(here)
    assert sample["gpus"][0] == {
        "index": 0, "name": "NVIDIA H100 80GB HBM3", "driver": "550.54.15", "memory_mib": 39102.0,
        "memory_total_mib": 81559.0, "busy": 0.97, "temperature_c": 61.0, "power_w": 612.34,
    }  # fmt: skip
    assert [gpu["busy"] for gpu in sample["gpus"]] == [0.97, 0.0]


def test_a_driver_that_fails_is_said_and_the_rest_goes_on(here):
    smi(here, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18\n")
    (sample,) = samples(here)
    assert sample["gpus"] == []
    assert "version mismatch" in sample["gpu_error"]
    assert sample["memory_bytes"]


def asking(machine):
    """Whether nvidia-smi, or the sleep it has turned into, runs there."""
    for process in machine.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "nvidia-smi" in " ".join(process.cmdline()) or process.name() == "sleep":
                return True
    return False


def test_a_driver_that_hangs_delays_neither_log_nor_end(here):
    smi(here, "exec sleep 60\n")
    here.start("while [ ! -e end ]; do sleep 0.02; done; echo last")
    following = Following(here)
    try:
        wait_for(lambda: asking(here))
        began = time.monotonic()
        (here.root / "code" / "end").touch()
        following.to_the_end()
        assert time.monotonic() - began < 2.0
        assert following.result["exit"]["code"] == 0
    finally:
        following.close()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0, Tesla T4, 470.1, 10, 15360, [N/A], [Not Supported], [Unknown Error]",
         (10.0, 15360.0, None, None, None)),
        ("0, GRID A100, 10C, 525, [N/A], [N/A], 7, 40, 50.5", (None, None, 0.07, 40.0, 50.5)),
        ("3, X, 1, 1, 2, 100, 90, 300.00\r", (1.0, 2.0, 1.0, 90.0, 300.0)),
    ],
)  # fmt: skip
def test_what_a_gpu_does_not_tell_is_none(line, expected):
    (row,) = onboard_machine.gpu_rows("warning: infoROM is corrupted\n" + line + "\n\n")
    keys = ("memory_mib", "memory_total_mib", "busy", "temperature_c", "power_w")
    assert tuple(row[key] for key in keys) == expected


def test_lines_that_are_no_rows_are_skipped():
    assert onboard_machine.gpu_rows("No devices were found\n") == []
    assert onboard_machine.gpu_rows("a, b, c, d, e, f, g, h\n1, 2\n\n") == []


def groups(tmp_path, monkeypatch, cgroup, files):
    """A machine whose control groups are these files."""
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    real = onboard_machine._read

    def read(path):
        return cgroup if path.endswith("/cgroup") else real(path)

    monkeypatch.setattr(onboard_machine, "_CGROUPS", str(tmp_path))
    monkeypatch.setattr(onboard_machine, "_read", read)
    return onboard_machine.Machine(str(tmp_path)).sample()


def test_the_tightest_memory_limit_counts(tmp_path, monkeypatch):
    sample = groups(
        tmp_path, monkeypatch, "0::/user.slice/job.scope\n",
        {
            "user.slice/memory.max": "900000000\n",
            "user.slice/memory.current": "800000000\n",
            "user.slice/memory.stat": "anon 1\ninactive_file 100000000\n",
            "user.slice/job.scope/memory.max": "max\n",
            "user.slice/job.scope/memory.events": "low 0\noom 3\noom_kill 2\n",
        },
    )  # fmt: skip
    assert (sample["memory_bytes"], sample["memory_total_bytes"]) == (700000000, 900000000)
    assert sample["oom_kills"] >= 2


def test_version_1_of_control_groups_is_read_too(tmp_path, monkeypatch):
    sample = groups(
        tmp_path, monkeypatch, "4:cpu,memory:/docker/a\n1:name=systemd:/\n",
        {
            "memory/docker/a/memory.limit_in_bytes": "500000000\n",
            "memory/docker/a/memory.usage_in_bytes": "490000000\n",
            "memory/docker/a/memory.stat": "inactive_file 1\ntotal_inactive_file 90000000\n",
            "memory/docker/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )  # fmt: skip
    assert (sample["memory_bytes"], sample["memory_total_bytes"]) == (400000000, 500000000)
    assert sample["oom_kills"] >= 4


@pytest.fixture
def small_group():
    """A real control group with 60 MB of memory; its folder."""
    group = GROUPS / f"towline-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("60000000")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    wait_for(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_a_real_kill_for_memory_is_told_from_the_kernels_count(here, small_group):
    code = "import time; data = []\nwhile True: data.append(bytearray(1 << 20))"
    here.start(
        f"echo $$ > {small_group}/cgroup.procs; while [ ! -e go ]; do sleep 0.02; done;"
        f" exec {sys.executable} -c '{code}'"
    )
    following = Following(here)
    try:
        following.until(lambda frames: any("machine" in one for one in frames))
        (here.root / "code" / "go").touch()
        following.to_the_end()
        first, *_, last = [one["machine"] for one in following.frames if "machine" in one]
        ended = following.result["exit"]
        assert ended["signal"] == 9
        assert last["memory_total_bytes"] < 61_000_000
        cause = causes.find(
            "", code=ended["code"], signum=9, machine=last,
            oom_kills=last["oom_kills"] - first["oom_kills"],
        )  # fmt: skip
        assert cause.kind == "killed_for_memory"
        assert "60.0 MB" in cause.message
    finally:
        following.close()
