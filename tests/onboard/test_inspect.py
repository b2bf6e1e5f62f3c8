"""Promise 5: what the instance is, said before anything is sent to it."""

import os
import platform
import subprocess

import pytest

from tests.onboard.machine import RUNNING

KEYS = {"home", "python", "python_version", "system", "cpus", "disk_free_bytes", "inodes_free"}
KEYS |= {"gpus", "codecs", "tools"}


def program(machine, name, text, folder=None):
    folder = folder or machine.bin
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)


def test_every_fact_is_there(machine):
    found = machine.ask("inspect")
    assert set(found) == KEYS
    assert found["home"] == str(machine.home)
    assert found["cpus"] == os.cpu_count()
    assert found["disk_free_bytes"] > 0
    assert found["gpus"] == []
    assert found["tools"] == []
    assert "zlib" in found["codecs"]


def test_the_python_is_the_one_that_runs(machine):
    found = machine.ask("inspect")
    said = subprocess.check_output(
        [found["python"], "-c", "import platform; print(platform.python_version())"], text=True
    )
    assert said.strip() == found["python_version"]
    if machine.python == RUNNING:
        assert found["python_version"] == platform.python_version()


def test_tools_are_found_in_the_users_own_folders_too(here):
    program(here, "tmux", "true")
    program(here, "uv", "true", here.home / ".local" / "bin")
    (here.home / ".cargo" / "bin").mkdir(parents=True)
    (here.home / ".cargo" / "bin" / "unzip").write_text("not executable")
    assert here.ask("inspect")["tools"] == ["tmux", "uv"]


def test_gpus_are_read(machine):
    program(
        machine,
        "nvidia-smi",
        'echo "NVIDIA H100 80GB HBM3, 81559, 550.54.15, Disabled"\n'
        'echo "NVIDIA L4, 23034, 550.54.15, [N/A]"',
    )
    assert machine.ask("inspect")["gpus"] == [
        {
            "name": "NVIDIA H100 80GB HBM3", "memory_mib": "81559", "driver": "550.54.15",
            "mig": "Disabled",
        },
        {"name": "NVIDIA L4", "memory_mib": "23034", "driver": "550.54.15", "mig": "[N/A]"},
    ]  # fmt: skip


def test_a_tool_that_is_too_old_to_know_of_divided_gpus_is_read_all_the_same(machine):
    program(
        machine,
        "nvidia-smi",
        'case $1 in *mig*) echo "Field \\"mig.mode.current\\" is not a valid field to query."; exit 2;; esac\n'
        'echo "Tesla K80, 11441, 410.48"',
    )
    assert machine.ask("inspect")["gpus"] == [
        {"name": "Tesla K80", "memory_mib": "11441", "driver": "410.48", "mig": ""}
    ]


def test_the_tools_answer_is_asked_for_in_plain_words(here):
    program(here, "nvidia-smi", 'echo "NVIDIA L4, 23034, $LC_ALL, [Not Supported]"')
    assert here.ask("inspect")["gpus"] == [
        {"name": "NVIDIA L4", "memory_mib": "23034", "driver": "C", "mig": "[Not Supported]"}
    ]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "NVML"),
        ("exit 9", "9"),
    ],
)
def test_a_broken_driver_is_named(here, script, reason):
    program(here, "nvidia-smi", script)
    gpus = here.ask("inspect")["gpus"]
    assert len(gpus) == 1
    assert reason in gpus[0]["error"]


@pytest.mark.parametrize("script", ["true", "echo No devices were found", "printf '\\377\\n'"])
def test_an_odd_answer_is_no_gpu(here, script):
    program(here, "nvidia-smi", script)
    assert here.ask("inspect")["gpus"] == []
