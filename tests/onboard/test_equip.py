"""Promise 5: the environment the requirements ask for, made once, or the installer's own reason."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.onboard.machine import Refused, together, wait_for
from towline.onboard import wire
from towline.onboard.equip import _hint, _reason

UV = shutil.which(
    "uv", path=os.pathsep.join([os.environ["PATH"], str(Path(sys.executable).parent)])
)
needs_uv = pytest.mark.skipif(UV is None, reason="there is no uv here")


def make_wheel(folder):
    """A tiny package in a folder that stands for the package index."""
    folder.mkdir()
    info = "towtiny-1.0.dist-info"
    files = {
        "towtiny/__init__.py": "ANSWER = 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: towtiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / "towtiny-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(name, text)
    return folder


def make_dist(folder, name, version):
    """An installed package, as far as its metadata goes."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text("")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def request(machine, *packages, key="k1"):
    """What the equip verb is asked; the only index is a folder of the machine."""
    index = machine.home / "index"
    if not index.exists():
        make_wheel(index)
    lines = ["--no-index", f"--find-links {index}", *packages]
    return {
        "requirements": lines,
        "key": key,
        "cwd": machine.layout.code,
        "image": None,
        "gpu": False,
    }


def with_uv(machine):
    (machine.bin / "uv").symlink_to(UV)
    return machine


def said_by(frames):
    return b"".join(data for kind, data in frames if kind == wire.DATA).decode()


def check_installed(venv):
    code = "import sys, towtiny; print(towtiny.ANSWER, sys.version_info[:2])"
    return subprocess.check_output([Path(venv) / "bin" / "python", "-c", code], text=True)


@pytest.mark.slow
def test_pip_makes_the_environment_once(machine):
    frames, made = machine.answer(machine.open("equip", **request(machine, "towtiny==1.0")))
    assert (made["tool"], made["cached"]) == ("pip", False)
    assert made["venv"] == f"{machine.home}/towline/.cache/venvs/k1"
    assert check_installed(made["venv"]).startswith("42 ")
    assert "towtiny" in said_by(frames)
    other = machine.another()
    frames, again = machine.answer(other.open("equip", **request(machine, "towtiny==1.0")))
    assert again == {**made, "cached": True}
    assert said_by(frames) == ""


@needs_uv
def test_uv_is_used_where_it_is(here):
    with_uv(here)
    frames, made = here.answer(here.open("equip", **request(here, "towtiny")))
    assert (made["tool"], made["cached"]) == ("uv", False)
    assert check_installed(made["venv"]).startswith("42 ")
    assert "towtiny" in said_by(frames)


@pytest.mark.slow
def test_a_framework_that_the_machine_has_is_not_installed_again(machine):
    folder = machine.home / "site-packages"
    make_dist(folder, "torch", "2.11.0")
    machine.env["PYTHONPATH"] = str(folder)
    asked = request(machine, "torch>=2.0", "towtiny")
    frames, made = machine.answer(machine.open("equip", **asked))
    assert (made["tool"], made["shared"]) == ("pip", ["torch 2.11.0"])
    assert f" in {folder}" in said_by(frames)  # already satisfied
    python = Path(made["venv"]) / "bin" / "python"
    seen = subprocess.check_output([python, "-c", "import torch; print(torch.__file__)"], text=True)
    assert seen == f"{folder}/torch.py\n"
    assert machine.ask("equip", **asked)["shared"] == ["torch 2.11.0"]


FAKE_UV = """#!/bin/sh
echo "$@" >> {calls}
case "$*" in
  *--help*) echo "--torch-backend <TORCH_BACKEND>";;
  *--torch-backend*) exit {status};;
esac
"""


def fake_uv(machine, status):
    """A stand-in that installs nothing and notes what it is asked."""
    calls = machine.home / "calls"
    (machine.bin / "uv").write_text(FAKE_UV.format(calls=calls, status=status))
    (machine.bin / "uv").chmod(0o755)
    return calls


@pytest.mark.parametrize(("status", "installs"), [(0, 1), (2, 2)])
def test_uv_chooses_the_build_of_torch_and_does_without_where_that_fails(here, status, installs):
    calls = fake_uv(here, status)
    (here.home / "towline/.cache/venvs/k").mkdir(parents=True)
    asked = {"requirements": ["torch==2.13.0"], "key": "k", "image": None, "gpu": False}
    here.ask("equip", cwd=here.layout.code, **asked)
    asked_for = [line for line in calls.read_text().splitlines() if "-r" in line.split()]
    assert len(asked_for) == installs
    assert asked_for[0].endswith("--torch-backend auto")
    assert not asked_for[-1].endswith("auto") or status == 0


@pytest.mark.parametrize(
    "own", ["torch==2.6.0+cu118", "--extra-index-url https://index.example", "numpy"]
)
def test_what_the_user_chose_is_not_chosen_again(here, own):
    calls = fake_uv(here, 0)
    asked = {"requirements": [own, "towtiny"], "key": "k", "image": None, "gpu": False}
    here.ask("equip", cwd=here.layout.code, **asked)
    assert "--torch-backend" not in calls.read_text()


@needs_uv
def test_the_environment_is_made_by_the_python_that_runs_towline(here):
    with_uv(here)
    venv = here.ask("equip", **request(here, "towtiny"))["venv"]
    assert str(tuple(sys.version_info[:2])) in check_installed(venv)


@needs_uv
def test_other_requirements_get_another_environment(here):
    with_uv(here)
    one = here.ask("equip", **request(here, "towtiny", key="a"))
    other = here.ask("equip", **request(here, key="b"))
    assert one["venv"] != other["venv"]
    assert not list(Path(other["venv"]).rglob("towtiny"))


@needs_uv
def test_two_runs_at_once_make_it_once(here):
    with_uv(here)
    asked = request(here, "towtiny")
    runs = [here, here.another(), here.another()]
    answers = together([lambda run=run: run.ask("equip", **asked) for run in runs])
    assert sorted(answer["cached"] for answer in answers) == [False, True, True]
    assert len({answer["venv"] for answer in answers}) == 1


@needs_uv
def test_an_attempt_cut_short_is_made_anew(here):
    (here.bin / "uv").write_text(
        f'#!/bin/sh\nmkdir -p "$4/bin"; touch "$4/half" "{here.home}/up"\nsleep 60\n'
    )
    (here.bin / "uv").chmod(0o755)
    asked = request(here, "towtiny")
    process = here.open("equip", **asked)
    wait_for((here.home / "up").exists)
    process.kill()
    process.communicate()
    for left in here.processes():  # the lock goes with the last of them
        left.kill()
    (here.bin / "uv").unlink()
    made = with_uv(here).ask("equip", **asked)
    assert made["cached"] is False
    assert not Path(made["venv"], "half").exists()
    assert check_installed(made["venv"]).startswith("42 ")


@needs_uv
def test_a_package_that_is_not_there_is_named(here):
    with_uv(here)
    with pytest.raises(Refused) as caught:
        here.ask("equip", **request(here, "no-such-package-here"))
    body = caught.value.body
    assert body["kind"] == "equip"
    assert "no-such-package-here" in body["message"]
    assert body["hint"]
    assert here.ask("equip", **request(here, "towtiny"))["cached"] is False  # after the correction


def test_the_output_of_a_failed_installer_comes_home_too(here):
    (here.bin / "uv").write_text(
        "#!/bin/sh\necho preparing\necho ERROR: the real cause >&2\nexit 3\n"
    )
    (here.bin / "uv").chmod(0o755)
    process = here.open("equip", **request(here))
    out, _err = process.communicate(timeout=30)
    assert b"preparing\n" in out
    assert b"ended with status 3: ERROR: the real cause" in out


def test_no_environment_is_left_half_made_by_a_failure(here):
    (here.bin / "uv").write_text('#!/bin/sh\nmkdir -p "$4"\nexit 1\n')
    (here.bin / "uv").chmod(0o755)
    for _ in range(2):
        with pytest.raises(Refused):
            here.ask("equip", **request(here))


PIP = ["Collecting torch==99", "ERROR: Could not find a version that satisfies torch==99"]
PIP += ["ERROR: No matching distribution found for torch==99", "", "WARNING: a new pip is there"]
UV_SAID = ["  x No solution found when resolving dependencies:", "  because there is no torch==99"]
BUILD = [
    "Building wheel",
    "  error: command 'gcc' failed: No such file",
    "note: an error from a tool",
]
SHORT = ['Error: short-name "x" did not resolve to an alias and no search registries are defined']
DENIED = ["Error response from daemon: pull access denied for x, repository does not exist"]
VENV = ["The virtual environment was not created because ensurepip is not available."]


@pytest.mark.parametrize(
    ("tail", "cause", "hint"),
    [
        (PIP, "ERROR: No matching distribution found for torch==99", "name and version"),
        (UV_SAID, "because there is no torch==99", "equip.log"),
        (BUILD, "error: command 'gcc' failed", "equip.log"),
        (VENV, "ensurepip is not available", "python3-venv"),
        (SHORT, "did not resolve to an alias", "registry in front"),
        (DENIED, "pull access denied for x", "a login there"),
        (["OSError: [Errno 28] No space left on device"], "No space left", "disk is full"),
        ([], "printed nothing", "equip.log"),
        (["", "odd last words", ""], "odd last words", "equip.log"),
    ],
)
def test_the_real_cause_is_picked_from_what_installers_print(tail, cause, hint):
    message = _reason(["/v/bin/python", "-m", "pip", "install", "x"], tail, 1)
    assert cause in message
    assert message.startswith("`python -m pip install ...` ended with status 1: ")
    assert hint in _hint(tail)


def test_the_explanation_below_a_complaint_belongs_to_it():
    tail = [
        "error: No solution found",
        "  cause: Because towtiny was not found in the index",
        "bye",
    ]
    message = _reason(["uv", "pip"], tail, 1)
    assert message.endswith(
        "error: No solution found | cause: Because towtiny was not found in the index"
    )


def test_a_cause_printed_in_pieces_is_still_one_line(here):
    script = "printf 'ERROR: first half'; sleep 0.3; printf ', second half\\n'; exit 1\n"
    (here.bin / "uv").write_text("#!/bin/sh\n" + script)
    (here.bin / "uv").chmod(0o755)
    with pytest.raises(Refused, match="ERROR: first half, second half$"):
        here.ask("equip", **request(here))
