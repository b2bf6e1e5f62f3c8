"""Promises 1 and 4 in a real container. Where podman does not run, the stand-in's tests remain."""

import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

from tests.onboard import podman
from tests.onboard.machine import Refused, wait_for
from tests.onboard.test_equip import make_wheel

pytestmark = [pytest.mark.podman, pytest.mark.slow]
SAVES = """
import os, signal, sys, time
def save(*_):
    open(os.environ["TOWLINE_OUTPUT"] + "/saved", "w").write("yes")
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def engine():
    if reason := podman.missing():
        pytest.skip(f"no podman here: {reason}")
    made = podman.Podman(Path(tempfile.mkdtemp(prefix="tl-podman-")))
    reason = made.make_image()
    if reason is None:
        yield made
    made.close()
    if reason is not None:
        pytest.skip(f"podman does not run here: {reason}")


@pytest.fixture
def box(here, engine):
    """A machine with podman; all of it is gone afterwards."""
    (here.bin / "podman").symlink_to(engine.program)
    here.env["PATH"] += ":/usr/sbin:/usr/bin:/sbin:/bin"
    yield here
    assert engine.containers() == []


def start(box, command, **more):
    return box.start(command, image=podman.IMAGE, **more)


def prepare(box, *requirements, image=podman.IMAGE):
    return box.ask(
        "equip", requirements=list(requirements), key="k", cwd=box.layout.code, image=image, gpu=False
    )  # fmt: skip


def test_the_command_runs_inside_and_its_exit_code_comes_out(box):
    start(
        box,
        'echo "$SIZE ${#TOKEN} $PWD"; ls /; exit 5',
        env={"SIZE": "7"},
        secrets={"TOKEN": "s3cret"},
    )
    assert box.to_the_end()["exit"]["code"] == 5
    said = box.log().decode().split("\n")
    assert said[0] == f"7 6 {box.layout.code}"
    assert "usr" in said
    assert "boot" not in said


def test_a_secret_is_in_no_command_line(box):
    start(box, "echo up; sleep 600", secrets={"TOKEN": "s3cret-of-podman"})
    wait_for(lambda: box.log() == b"up\n")
    lines = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    assert [line for line in lines if "podman" in line]
    assert not [line for line in lines if "s3cret-of-podman" in line]
    box.ask("halt", grace_s=10.0)


@pytest.mark.parametrize("after", ["", "; echo after"])
def test_halt_lets_the_training_save(box, after):
    start(box, f"python3 -c '{SAVES}'{after}", env={"TOWLINE_OUTPUT": box.layout.output})
    wait_for(lambda: box.log() == b"up\n", 20)
    box.ask("halt", grace_s=20.0)
    assert box.wrote("saved") == ["yes"]


def test_what_ignores_the_signal_is_ended(box):
    start(box, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    wait_for(lambda: box.log() == b"up\n")
    assert box.ask("halt", grace_s=0.3)["phase"] in ("ended", "running")
    assert box.to_the_end()["exit"]["code"] == 137


def test_a_command_that_is_killed_did_not_end_well(box):
    start(box, "kill -9 $$")
    assert box.to_the_end()["exit"]["code"] == 137


def test_leaving_removes_the_container(box):
    start(box, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    wait_for(lambda: box.log() == b"up\n")
    assert box.ask("leave") == {"processes_left": 0, "folder_gone": True}


def test_requirements_are_installed_by_the_images_python(box):
    index = make_wheel(Path(box.layout.root) / "index")
    made = prepare(box, "--no-index", f"--find-links {index}", "towtiny")
    assert made["tool"] == f"pip in {podman.IMAGE}"
    start(
        box, "python -c 'import towtiny; print(towtiny.ANSWER)'", env={"VIRTUAL_ENV": made["venv"]}
    )
    box.to_the_end()
    assert box.log() == b"42\n"


def test_an_image_that_is_nowhere_is_named(box):
    with pytest.raises(Refused) as caught:
        prepare(box, image="localhost/no-such-image:1")
    assert "no-such-image" in caught.value.body["message"]


def test_a_gpu_that_the_engine_can_not_hand_over_is_told_before_the_training(box):
    if shutil.which("nvidia-smi"):
        pytest.skip("here it might")
    asked = {"venv": None, "env": {}, "gpu": True, "image": podman.IMAGE, "cwd": box.layout.code}
    box.ask("preflight", **{**asked, "gpu": False})
    with pytest.raises(Refused) as caught:
        box.ask("preflight", **asked)
    assert "nvidia.com/gpu=all" in caught.value.body["message"]
    assert "nvidia-container-toolkit" in caught.value.body["hint"]
