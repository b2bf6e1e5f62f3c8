"""Promise 5, before an upload: the uplink is measured by what arrives, and nothing is left there."""

import asyncio
import shutil

import pytest
from fakes import RUN, LocalDialer

from tests.clock import FakeClock
from towline import errors
from towline.core.instance import Address
from towline.line import Line
from towline.transfer import uplink
from towline.transfer.uplink import measure

HERE = Address(host="fake", port=22, user="me", host_key="ssh-ed25519 AAAA")


@pytest.fixture
def dialer(tmp_path, monkeypatch):
    monkeypatch.setattr(uplink, "_MOST_BYTES", 40_000_000)
    (tmp_path / "home").mkdir()
    return LocalDialer(tmp_path / "home")


def measured(dialer):
    async def go():
        try:
            return await measure(Line(dialer, HERE, None, RUN, 0, FakeClock()))
        finally:
            await dialer.end()

    return asyncio.run(go())


def only(tmp_path, **programs):
    """A PATH with these scripts and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, script in programs.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return str(folder)


def test_a_line_is_measured(dialer):
    found = measured(dialer)
    assert found.bytes_per_s > 1_000_000
    assert 0 < found.rtt_s < 1
    assert found.connections >= 1


def test_what_was_sent_and_did_not_arrive_is_no_speed(dialer, tmp_path, monkeypatch):
    """A machine that takes everything at once and counts slowly."""
    monkeypatch.setattr(uplink, "_MEASURE_S", 1.0)
    slow = uplink._PROGRAM.replace("count += len(part)", "time.sleep(0.01); count += 1000")
    monkeypatch.setattr(uplink, "_ARGV", ["python3", "-c", slow])
    found = measured(dialer)
    assert found.bytes_per_s < 100_000 * 16
    assert dialer.sent > 2_000_000


def test_nothing_is_left_on_the_machine(dialer):
    async def go():
        await measure(Line(dialer, HERE, None, RUN, 0, FakeClock()))
        async with asyncio.timeout(5):
            while any(process.returncode is None for process in dialer.processes):
                await asyncio.sleep(0.01)
        await dialer.end()

    asyncio.run(go())
    assert dialer.processes
    assert list(dialer.home.iterdir()) == []


def test_what_a_login_shell_prints_is_passed_over(dialer, tmp_path):
    python = shutil.which("python3")
    noisy = f'#!/bin/sh\necho welcome\nexec {python} "$@"\n'
    dialer.path = only(tmp_path, python3=noisy) + ":/usr/bin:/bin"
    assert measured(dialer).bytes_per_s > 0


def test_a_machine_without_python_says_so_as_a_run_would(dialer, tmp_path):
    dialer.path = only(tmp_path, python3="#!/bin/sh\necho python3: not found >&2\nexit 127\n")
    with pytest.raises(errors.CommandFailed, match="python3 does not run") as caught:
        measured(dialer)
    assert "install it" in caught.value.hint


def test_a_line_that_breaks_is_said_with_a_way_round(dialer):
    dialer.cuts = [(1_000_000, None)] + [(0, None)] * 100
    with pytest.raises(errors.NotReady, match="me@fake:22 can't be measured") as caught:
        measured(dialer)
    assert "--uplink" in caught.value.hint


def test_a_machine_that_never_answers_ends_in_time(dialer, tmp_path, monkeypatch):
    monkeypatch.setattr(uplink, "_GIVE_UP_S", 0.3)
    dialer.path = only(tmp_path, python3="#!/bin/sh\nexec sleep 20\n") + ":/usr/bin:/bin"
    with pytest.raises(errors.NotReady, match=r"nothing arrived within 0\.3 s"):
        measured(dialer)
