"""Promises 1 and 4 in a container: started once, ended with all it has, its secrets in no command line."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.onboard.machine import Refused, wait_for

STAND_IN = Path(__file__).with_name("docker.py")
IMAGE = "pytorch/pytorch"


def put(machine):
    """Give the machine the stand-in as its docker; it runs on the tests' own Python."""
    text = STAND_IN.read_text().replace("/usr/bin/env python3", sys.executable)
    (machine.bin / "docker").write_text(text)
    (machine.bin / "docker").chmod(0o755)
    (machine.bin / "stand-in").mkdir()
    return machine


@pytest.fixture
def docker(here):
    return put(here)


def calls(machine):
    return [json.loads(line) for line in (machine.bin / "stand-in/calls").read_text().splitlines()]


def equip(machine, image=IMAGE, requirements=()):
    return machine.ask(
        "equip", requirements=list(requirements), key="k", cwd=machine.layout.code, image=image, gpu=False
    )  # fmt: skip


def start(machine, command, **more):
    return machine.start(command, image=IMAGE, **more)


def test_an_image_is_fetched_once(docker):
    for _ in range(2):
        assert equip(docker)["venv"] is None
    assert [call for call in calls(docker) if call[0] == "pull"] == [["pull", IMAGE]]


def test_an_image_that_can_not_be_had_is_named(docker):
    with pytest.raises(Refused) as caught:
        equip(docker, "no/such")
    assert "pull access denied for no/such" in caught.value.body["message"]


def test_without_a_tool_it_says_so(here):
    with pytest.raises(Refused) as caught:
        equip(here)
    assert "neither docker nor podman" in caught.value.body["message"]


def test_a_tool_that_refuses_this_user_says_so(here):
    (here.bin / "docker").write_text(
        "#!/bin/sh\necho permission denied at /var/run/docker.sock\nexit 1\n"
    )
    (here.bin / "docker").chmod(0o755)
    with pytest.raises(Refused) as caught:
        equip(here)
    assert "docker does not work here: permission denied" in caught.value.body["message"]


def test_the_command_runs_inside_with_its_environment_and_exit_code(docker):
    equip(docker)
    env = {"TOWLINE_OUTPUT": docker.layout.output, "SIZE": "7"}
    start(docker, 'echo "$SIZE $TOKEN $PWD"; echo x > "$TOWLINE_OUTPUT/m"; exit 5', env=env,
          secrets={"TOKEN": "s3cret-value"})  # fmt: skip
    assert docker.to_the_end()["exit"]["code"] == 5
    assert docker.log().decode() == f"7 s3cret-value {docker.layout.code}\n"
    assert docker.wrote("m") == ["x"]
    assert "s3cret" not in (docker.bin / "stand-in/calls").read_text()
    assert "--gpus" not in str(calls(docker))


def test_a_gpu_is_passed_where_there_is_one(docker):
    equip(docker)
    start(docker, "true", gpu=True)
    docker.to_the_end()
    ran = next(call for call in calls(docker) if call[0] == "run")
    assert ran[ran.index("--gpus") + 1] == "all"


def test_halt_ends_what_runs_inside(docker):
    equip(docker)
    start(docker, "echo up; sleep 1000")
    wait_for(lambda: docker.log() == b"up\n")
    assert docker.ask("halt", grace_s=5.0)["phase"] == "ended"
    assert not list((docker.bin / "stand-in/running").iterdir())


def test_a_container_that_ignores_the_signal_is_removed(docker):
    equip(docker)
    start(docker, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    wait_for(lambda: docker.log() == b"up\n")
    docker.ask("halt", grace_s=0.2)
    wait_for(lambda: not list((docker.bin / "stand-in/running").iterdir()))
    assert calls(docker)[-1][:2] == ["rm", "--force"]


def test_leaving_removes_it(docker):
    equip(docker)
    start(docker, "trap '' TERM; echo up; while :; do sleep 0.05; done")
    wait_for(lambda: docker.log() == b"up\n")
    assert docker.ask("leave") == {"processes_left": 0, "folder_gone": True}
    assert not list((docker.bin / "stand-in/running").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("python3", path="/usr/bin") is None, reason="no system Python here"
)
def test_requirements_are_installed_with_the_images_own_python(docker):
    made = equip(docker, requirements=["--no-index"])
    assert made["tool"] == f"pip in {IMAGE}"
    start(docker, 'echo "$(command -v python)"', env={"VIRTUAL_ENV": made["venv"]})
    docker.to_the_end()
    assert docker.log().decode().strip() == os.path.join(made["venv"], "bin", "python")
