"""Promise 1: trouble beside a healthy training, on a real SSH server, is no end of it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.contracts.test_ssh import SSHD, Sshd
from tests.journal import rows

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's server (sshd)"),
]

TRAIN = """
import os, pathlib, time
out = pathlib.Path(os.environ["TOWLINE_OUTPUT"])
go = pathlib.Path(os.environ["GO"])
epoch = 0
while not go.exists():
    epoch += 1
    print(f"epoch {epoch}/100 loss={1 / epoch:.4f}", flush=True)
    time.sleep(0.1)
(out / "model.pt").write_text("final")
"""


class Live:
    """A run on a real sshd whose training goes on until it is told to end."""

    def __init__(self, job, sshd, script):
        self.job, self.sshd, self.go = job, sshd, job.root / "go"
        job.python(
            script,
            env={"GO": str(self.go)},
            resources={
                "provider": "ssh",
                "host": sshd.need.host,
                "identity": sshd.need.identity,
                "known_hosts": sshd.need.known_hosts,
            },
        )
        self.drivers = []

    def drive(self, *argv):
        """A driver in the foreground."""
        out = (self.job.root / "said").open("ab")
        driver = subprocess.Popen(
            [sys.executable, "-m", "towline", *argv], cwd=self.job.project,
            env=self.job.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
        out.close()
        self.drivers.append(driver)
        return driver

    def said(self):
        return (self.job.root / "said").read_text()

    def until(self, fact, within_s=30):
        deadline = time.monotonic() + within_s
        while not fact():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def epochs(self):
        return rows(self.job.home, "SELECT count(*) FROM events WHERE kind = 'progress'")[0][0]

    def until_more(self):
        """Until the training has reported more than it has now."""
        now = self.epochs()
        self.until(lambda: self.epochs() > now + 3)

    def until_broken(self):
        broken = "SELECT 1 FROM facts WHERE key = 'unreachable_since' AND value_json != 'null'"
        self.until(lambda: rows(self.job.home, broken))

    def cut(self):
        """End every connection; the server, and the training, go on."""
        for process in psutil.Process(self.sshd.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def home(self):
        """The run's folder on the far side."""
        return next((self.sshd.home / "towline").glob("[!.]*"))

    def ends_well(self, driver):
        self.go.touch()
        assert driver.wait(60) == 0, self.said()
        results = self.job.project / "runs" / "job"
        assert (results / "model.pt").read_text() == "final"
        lines = (results / "training.log").read_text().splitlines()
        numbers = [int(line.split()[1].split("/")[0]) for line in lines]
        assert numbers == list(range(1, len(numbers) + 1))


def left_by(sshd):
    """Processes of logins, which a failed test leaves."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(sshd.home):
                yield process


@contextlib.contextmanager
def running(job, sshd, script=TRAIN):
    """A project for that server; its drivers, and the server, are ended afterwards."""
    made = Live(job, sshd, script)
    try:
        yield made
    finally:
        made.go.touch()
        for driver in made.drivers:
            driver.kill()
            driver.wait()
        sshd.stop()
        for process in left_by(sshd):
            process.kill()


@pytest.fixture
def live(job, tmp_path):
    sshd = Sshd(tmp_path)
    sshd.start()
    with running(job, sshd) as made:
        yield made


def started(live):
    driver = live.drive("train", "-y")
    live.until(lambda: live.job.home.exists() and rows(live.job.home, "SELECT 1 FROM runs"))
    live.until(lambda: live.epochs() > 2)
    return driver


def test_identity_file_that_is_away_for_a_moment(live):
    driver = started(live)
    identity = Path(live.sshd.need.identity)
    identity.rename(identity.with_suffix(".away"))
    live.cut()
    live.until_broken()
    assert "job" in live.job.run("ls", check=0).stdout  # and starts no release behind our back
    identity.with_suffix(".away").rename(identity)
    live.until_more()
    live.ends_well(driver)


def test_new_driver_without_the_identity_file_ends_nothing(live):
    driver = started(live)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    identity = Path(live.sshd.need.identity)
    identity.rename(identity.with_suffix(".away"))
    again = live.drive("resume")
    live.until_broken()
    again.send_signal(signal.SIGKILL)
    again.wait()
    live.job.run("ls", check=0)
    identity.with_suffix(".away").rename(identity)
    assert live.home().is_dir()
    live.ends_well(live.drive("resume"))


def test_instance_that_can_start_no_process_at_a_reconnect(live):
    """As where a fork is refused: the login's shell comes, our program does not."""
    driver = started(live)
    broken = live.sshd.home / ".bashrc"  # bash reads it for commands that come over SSH
    tried = live.sshd.home / "tried"
    broken.write_text(
        f"echo bash: fork: retry: Resource temporarily unavailable >&2; date >> {tried}; exit 254\n"
    )
    live.cut()
    live.until_broken()
    live.until(lambda: tried.exists() and len(tried.read_text().splitlines()) >= 2)
    broken.unlink()
    live.until_more()
    live.ends_well(driver)


FILL = """
import os, pathlib, time
out = pathlib.Path(os.environ["TOWLINE_OUTPUT"])
print("epoch 1/1 loss=1", flush=True)
for size in (65536, 512):
    with open(out / f"full-{size}", "wb", 0) as filler:
        try:
            while True:
                filler.write(bytes(size))
        except OSError:
            pathlib.Path(os.environ["GO"] + ".full").touch()
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.05)
for filler in out.glob("full-*"):
    filler.unlink()
(out / "model.pt").write_text("final")
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root")
def test_new_driver_boards_an_instance_whose_disk_is_full(job, tmp_path):
    sshd = Sshd(tmp_path)
    mount = 'mount -t tmpfs -o size=100m none "$0" && exec "$@"'
    sshd.start(prefix=["unshare", "-m", "sh", "-c", mount, str(sshd.home)])
    with running(job, sshd, FILL) as live:
        driver = live.drive("train", "-y")
        live.until(live.go.with_suffix(".full").exists)
        driver.kill()
        driver.wait()
        sample = "SELECT value_json FROM facts WHERE key = 'machine'"
        before = rows(job.home, sample)
        again = live.drive("resume")
        live.until(lambda: rows(job.home, sample) != before)  # so it follows again
        assert again.poll() is None
        live.go.touch()
        assert again.wait(60) == 0, live.said()
        assert (job.project / "runs" / "job" / "model.pt").read_text() == "final"
        memory = Path("/dev/shm")
        assert not list(memory.glob(f"towline-{job.status()['id']}*"))
