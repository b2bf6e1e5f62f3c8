"""Promise 5, before the long work: what can't run is said by the command line, and what to do."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.onboard.machine import wait_for

STAND_IN = Path(__file__).parents[1] / "onboard" / "docker.py"
SMI = """#!/bin/sh
echo "NVIDIA H100 80GB HBM3, 81559, 550.54.15, Disabled"
"""
ON_THIS_MACHINE = {"gpu": "H100:1", "provider": "local"}


@pytest.fixture
def programs(job):
    """A folder of programs that the instance finds first."""
    folder = job.root / "programs"
    folder.mkdir()
    job.environment["PATH"] = f"{folder}{os.pathsep}{job.environment['PATH']}"
    return folder


def program(folder, name, text):
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def torch(folder, version, cuda):
    """The metadata of an installed torch, as far as it is read before anything is imported."""
    info = folder / f"torch-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    (folder / "torch").mkdir()
    (folder / "torch" / "version.py").write_text(f"cuda: Optional[str] = {cuda!r}\n")
    (folder / "torch" / "__init__.py").write_text("raise RuntimeError('The driver is too old')\n")
    return {"PYTHONPATH": str(folder)}


def test_a_training_that_would_miss_the_gpu_does_not_begin(job, programs):
    program(programs, "nvidia-smi", SMI)
    job.task(env=torch(job.root / "packages", "2.13.0+cpu", None), resources=ON_THIS_MACHINE)
    done = job.run("train", "-y", check=3)
    assert "torch 2.13.0+cpu is a build without CUDA" in done.stdout + done.stderr
    assert "training runs" not in done.stdout
    assert job.left() == []


def test_a_driver_that_is_too_old_is_named_with_the_cure(job, programs):
    program(programs, "nvidia-smi", SMI)
    job.task(env=torch(job.root / "packages", "2.13.0", "13.0"))
    done = job.run("train", "-y", check=3)
    said = done.stdout + done.stderr
    assert "needs driver 580.65 or newer; the instance has 550.54.15" in said
    assert "pin a build for CUDA 12" in said


def test_a_gpu_asked_for_and_not_there(job):
    job.task(resources=ON_THIS_MACHINE)
    done = job.run("train", "-y", check=3)
    assert "asks for a GPU, and the instance shows none" in done.stdout + done.stderr


def test_a_container_where_there_is_none_is_said_before_renting(job):
    job.task(image="pytorch/pytorch")
    empty = job.root / "none"
    empty.mkdir()
    for name in ("python3", "sh", "bash"):
        (empty / name).symlink_to(shutil.which(name))
    job.environment["PATH"] = str(empty)
    done = job.run("train", "-y", check=2)
    assert "neither docker nor podman" in done.stderr
    assert job.run("ls").stdout.count("job") == 0


@pytest.fixture
def docker(programs):
    """A folder where the stand-in for docker notes what it does."""
    program(
        programs, "docker", STAND_IN.read_text().replace("/usr/bin/env python3", sys.executable)
    )
    (programs / "stand-in").mkdir()
    return programs / "stand-in"


def test_an_aborted_training_leaves_no_container(job, docker):
    job.task("echo up; sleep 1000", image="pytorch/pytorch")
    job.run("train", "-y", "--detach", check=0)
    wait_for(lambda: list(docker.glob("running/*")), 30)
    job.run("abort", "-y", check=0)
    assert list(docker.glob("running/*")) == []
    assert job.left() == []


def test_a_training_in_a_container(job, docker):
    job.environment["HUSH"] = "hush-hush-value"
    job.task('test ${#HUSH} = 15 && (cat "$TOWLINE_DATASET/a.txt"; pwd) > "$TOWLINE_OUTPUT/best.pt"',
             image="pytorch/pytorch", secrets=["HUSH"])  # fmt: skip
    done = job.run("train", "-y", check=0)
    assert "container image pytorch/pytorch is there" in done.stdout
    assert (job.project / "runs/job/best.pt").read_text().startswith("a\n/")
    calls = (docker / "calls").read_text()
    assert '"pull", "pytorch/pytorch"' in calls
    assert "hush-hush" not in calls
    assert not list((docker / "running").iterdir())
    assert job.left() == []
