"""The guard comes back after a reboot, where the instance has something that starts it."""

import os
import shlex
import shutil
import signal
import subprocess

import psutil
import pytest

from tests.onboard.machine import wait_for
from tests.onboard.test_guard import arm, ended, guards
from towline.onboard import reboot

CRONTAB = """#!/bin/sh
case $1 in
-l) test -s ~/crontab || { echo "no crontab for $USER" >&2; exit 1; }; exec cat ~/crontab ;;
-) exec cat > ~/crontab ;;
esac
"""
LOGINCTL = """#!/bin/sh
echo "$@" >> ~/asked
case $1 in
show-user) echo Linger=no ;;
enable-linger) exit 0 ;;
disable-linger) exit 0 ;;
esac
"""


def program(machine, name, text):
    (machine.bin / name).write_text(text)
    (machine.bin / name).chmod(0o755)


@pytest.fixture
def cron(machine):
    """A machine whose cron daemon lives, with a crontab of the user's own."""
    program(machine, "crontab", CRONTAB)
    (machine.home / "crontab").write_text("5 4 * * * true\n")
    shutil.copy(shutil.which("sleep"), machine.home / "crond")
    daemon = subprocess.Popen([machine.home / "crond", "60"])
    yield machine
    daemon.kill()
    daemon.wait()


def die(machine):
    for pid in guards(machine):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not guards(machine))


def boot(machine, command):
    """Run a line as cron or systemd would: with next to nothing in the environment."""
    env = {"HOME": str(machine.home), "PATH": "/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", command], env=env, cwd="/", check=True, timeout=20)


def test_cron_starts_it_again_by_its_orders(cron):
    touch = ["touch", str(cron.home / "instance-ended")]
    assert arm(cron, reboot=True, end_argv=touch)["reboot"] == "cron"
    assert arm(cron, reboot=True, end_argv=touch, epoch=2)["reboot"] == "cron"
    lines = (cron.home / "crontab").read_text().splitlines()
    assert lines[0] == "5 4 * * * true"
    assert len(lines) == 2
    assert lines[1].startswith("@reboot ")
    arm(cron, reboot=True, grace_s=0.5, epoch=3)
    die(cron)
    assert not ended(cron)
    boot(cron, lines[1].removeprefix("@reboot "))
    assert len(guards(cron)) == 1
    wait_for(lambda: ended(cron))


def test_leaving_takes_the_line_away_and_no_other(cron):
    arm(cron, reboot=True)
    cron.ask("leave", epoch=2)
    assert (cron.home / "crontab").read_text() == "5 4 * * * true\n"


def test_nothing_is_set_up_unless_the_machine_is_all_ours(cron):
    assert arm(cron)["reboot"] is None
    assert (cron.home / "crontab").read_text() == "5 4 * * * true\n"


def test_a_crontab_that_cannot_be_read_is_not_written(cron):
    program(cron, "crontab", "#!/bin/sh\ntest $1 = -l && exit 1; cat > ~/crontab\n")
    assert arm(cron, reboot=True)["reboot"] is None
    assert (cron.home / "crontab").read_text() == "5 4 * * * true\n"


def test_without_a_living_cron_or_systemd_it_is_said(here):
    program(here, "crontab", CRONTAB)
    if any(one.info["name"] in reboot._CRONS for one in psutil.process_iter(["name"])):
        pytest.skip("there is a cron here")
    assert arm(here, reboot=True)["reboot"] is None
    assert arm(here, reboot=True, epoch=2)["reboot"] is None


@pytest.fixture
def systemd(here, monkeypatch):
    """A machine that systemd has booted, as far as this process can tell."""
    for name in ("systemctl", "loginctl"):
        program(here, name, LOGINCTL)
    monkeypatch.setattr(reboot, "_SYSTEMD", str(here.home))
    monkeypatch.setattr(reboot, "_cron_lives", lambda: False)
    for name in ("HOME", "PATH"):
        monkeypatch.setenv(name, here.env[name])
    return here


def test_systemd_starts_it_again(systemd):
    arm(systemd)
    die(systemd)
    control = str(systemd.control)
    assert reboot.survive(control, systemd.request()) == "systemd"
    wanted = systemd.home / ".config/systemd/user/default.target.wants"
    (unit,) = wanted.iterdir()
    lines = unit.read_text().splitlines()
    assert "KillMode=process" in lines  # the guard is a child that goes on
    (start,) = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    shell, flag, command = shlex.split(start)
    assert (shell, flag) == ("/bin/sh", "-c")
    boot(systemd, command)
    assert len(guards(systemd)) == 1
    reboot.forget(control, systemd.run)
    assert list(wanted.iterdir()) == list(wanted.parent.glob("*.service")) == []
    asked = (systemd.home / "asked").read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["show-user", "enable-linger", "disable-linger"]


def test_who_may_not_linger_is_told(systemd):
    program(systemd, "loginctl", "#!/bin/sh\nexit 1\n")
    assert reboot.survive(str(systemd.control), systemd.request()) is None
    assert not (systemd.home / ".config").exists()
