"""Limits are counted on the instance, by a clock that nobody sets."""

import os
import time

import pytest

from towline.onboard import age, daemon, markers

RUN = "abcdefghij"
TOLD = {"known_s": None, "wall_s": 0.0, "boot_s": 0.0, "own_boot": False}


@pytest.fixture
def control(tmp_path):
    yield str(tmp_path)
    markers.forget(RUN)


@pytest.fixture
def boot(monkeypatch, tmp_path):
    """What the machine says of its boot; to be set."""

    def say(boot_id, up_s):
        file = tmp_path / "boot_id"
        file.write_text(boot_id + "\n")
        monkeypatch.setattr(age, "_BOOT_ID", str(file))
        monkeypatch.setattr(age, "boottime", lambda: up_s)

    return say


def begun(control, **told):
    return age.begin(control, {"run": RUN, "age": TOLD | told}).seconds()


def test_the_age_goes_on_by_itself(control):
    began = time.monotonic()
    assert begun(control, known_s=50.0) == pytest.approx(50.0, abs=1)
    assert age.read(control, RUN).seconds() == pytest.approx(50 + time.monotonic() - began, abs=0.5)


def test_what_is_known_already_is_not_told_anew(control):
    begun(control, known_s=50.0)
    assert begun(control, known_s=5000.0) < 60


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"known_s": 40.0, "wall_s": 3640.0}, 40),  # the laptop's clock was set forward
        ({"known_s": 40.0, "wall_s": 0.0}, 40),  # and back
        ({"known_s": 40.0, "wall_s": 7200.0, "own_boot": True}, 7000),  # the laptop slept
        ({"known_s": 40.0, "wall_s": 45.0, "own_boot": True}, 45),  # a machine that was kept warm
        ({"wall_s": 90.0, "boot_s": 720.0}, 90),  # another driver than the one that rented
        ({"wall_s": 90000.0, "boot_s": 720.0}, 720),
        ({"wall_s": 90000.0, "boot_s": 720.0, "own_boot": True}, 7720),
    ],
)
def test_a_wall_clock_counts_as_far_as_the_machine_bears_it_out(
    control, monkeypatch, told, expected
):
    monkeypatch.setattr(age, "_up_s", lambda: 7000.0)
    assert begun(control, **told) == pytest.approx(expected, abs=1)


def test_a_reboot_does_not_give_time_back(control, boot, monkeypatch):
    boot("one", 1000.0)
    age.note(control, RUN, age.Age(500.0))
    wall = daemon.read_json(os.path.join(control, "age.json"))["wall"]
    boot("one", 1030.0)
    assert age.read(control, RUN).seconds() == 530.0
    boot("two", 20.0)
    monkeypatch.setattr(age.time, "time", lambda: wall + 90.0)
    assert age.read(control, RUN).seconds() == 590.0
    monkeypatch.setattr(age.time, "time", lambda: wall - 90000.0)  # it has lost its clock
    assert age.read(control, RUN).seconds() == 520.0


def test_the_first_process_tells_how_long_the_machine_has_been_up():
    assert 0 <= age._up_s() <= age.boottime()
