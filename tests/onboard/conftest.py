"""Machines for the tests of the program on the instance."""

import os
import shutil
import subprocess

import pytest

from tests.onboard.machine import RUNNING, Machine, old_python


@pytest.fixture(params=["running", "3.6"])
def python(request):
    """Each interpreter that the program must run under."""
    if request.param == "running":
        return RUNNING
    return old_python() or pytest.skip("there is no python3.6 here")


@pytest.fixture
def machines():
    """Makes machines, and ends all of their processes whatever happens."""
    made = []

    def make(*args, **options):
        made.append(Machine(*args, **options))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


@pytest.fixture
def machine(machines, python):
    """One machine under each interpreter."""
    return machines(python)


@pytest.fixture
def here(machines):
    """One machine under the running interpreter."""
    return machines()


@pytest.fixture
def small_disk():
    """Puts a run's folder on a small file system of its own; only root may."""
    made = []

    def put(machine, options="size=2m"):
        kept = machine.home / "kept"
        shutil.move(machine.control, kept)
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(machine.root)]
        if os.geteuid() != 0 or subprocess.run(argv, check=False, capture_output=True).returncode:
            pytest.skip("this user may not mount a small disk")
        made.append(machine)
        shutil.move(kept, machine.control)

    yield put
    for machine in made:
        machine.end_processes()
        subprocess.run(["umount", "-l", machine.root], check=True)
