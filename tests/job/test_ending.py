"""Promise 2 by the command line: the wrong account, no key, and an instance that is kept."""

import contextlib
import json
import signal
import subprocess
import sys
import time

import clouds
from clouds.canopywave import CanopyWave
from clouds.lambda_cloud import LambdaCloud, _refuse
from journal import rows


class TwoAccounts(LambdaCloud):
    """What one key rents the other does not see."""

    who = None

    def authorize(self, request):
        self.who = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        if self.who not in {"key-of-work", "key-of-home"}:
            raise _refuse(401, "global/invalid-api-key", "API key was invalid")

    def make(self, *args, **more):
        machine = super().make(*args, **more)
        machine.data["owner"] = self.who
        return machine

    def seen(self):
        return [one for one in super().seen() if one.data.get("owner") == self.who]


def start(job, *argv):
    """A command that is not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "towline", *argv], cwd=job.project, env=job.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def wait_for(look, limit_s=30):
    deadline = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def waiting_for_release(job, kind=LambdaCloud, key=clouds.FAKES["lambda"][1]["LAMBDA_API_KEY"]):
    """A run whose training is over and whose driver died before anything was ended."""
    with kind(pid_file=job.root / "pid") as cloud:
        (job.root / "config.yaml").write_text(clouds.config({"lambda": cloud}))
        job.environment["LAMBDA_API_KEY"] = key
        job.task(resources={"gpu": "H100:1"})
        cloud.fail("terminate", "kill")
        driver = start(job, "train", "-y")
        (job.root / "pid").write_text(str(driver.pid))
        assert driver.wait(60) == -signal.SIGKILL
        yield cloud


def test_another_accounts_key_ends_nothing_and_proves_nothing(job):
    with waiting_for_release(job, TwoAccounts, "key-of-work") as cloud:
        before = cloud.asked("terminate")
        job.environment["LAMBDA_API_KEY"] = "key-of-home"
        done = job.run("resume", check=6)
        assert "another account" in done.stderr
        assert "LAMBDA_API_KEY" in done.stderr
        assert "key-of-" not in done.stdout + done.stderr
        done = job.run("gc", check=6)
        assert "no orphans" not in done.stdout
        assert "another account" in done.stdout
        swept = json.loads(job.run("gc", "--json", check=6).stdout)
        assert [one["instances"] for one in swept["unreachable"]] == [1]
        assert cloud.asked("terminate") == before
        assert rows(job.home, "SELECT state FROM runs") == [("active",)]
        assert rows(job.home, "SELECT gone_at FROM instances") == [(None,)]
        job.environment["LAMBDA_API_KEY"] = "key-of-work"
        job.run("resume", check=0)
        assert cloud.alive() == []


def test_another_base_url_ends_nothing_and_proves_nothing(job):
    with waiting_for_release(job) as cloud, clouds.fake("lambda", boxes=False) as elsewhere:
        config = (job.root / "config.yaml").read_text()
        (job.root / "config.yaml").write_text(clouds.config({"lambda": elsewhere}))
        done = job.run("resume", check=6)
        assert f"base_url: {cloud.base_url}" in done.stderr
        assert elsewhere.asked("terminate") == 0
        (job.root / "config.yaml").write_text(config)
        job.run("resume", check=0)
        assert cloud.alive() == []


def test_a_release_without_the_key_says_so_once(job):
    with waiting_for_release(job) as cloud:
        key = job.environment.pop("LAMBDA_API_KEY")
        tried = "SELECT count(*) FROM attempts WHERE step = 'release'"
        ((before,),) = rows(job.home, tried)
        done = job.run("abort", "-y", check=6)
        assert "may still bill" in done.stderr
        assert "LAMBDA_API_KEY" in done.stderr
        assert rows(job.home, tried) == [(before + 1,)]
        job.run("gc", check=6)
        job.environment["LAMBDA_API_KEY"] = key
        job.run("resume", check=0)
        assert cloud.alive() == []


# -- beside instances -------------------------------------------------------------------------------


class ClosedAtTheEnd(CanopyWave):
    """Once an instance was ended, the key may not list addresses any more."""

    is_closed = True

    def _strike(self, name):
        closed = self.is_closed and name == "list_ips" and self.asked("terminate")
        return "403" if closed else super()._strike(name)


@contextlib.contextmanager
def at_canopywave(job, kind):
    with kind() as cloud:
        (job.root / "config.yaml").write_text(clouds.config({"canopywave": cloud}))
        job.environment |= clouds.FAKES["canopywave"][1]
        job.task(resources={"gpu": "H100:1"})
        yield cloud


def test_addresses_that_can_not_be_listed_at_the_end_may_bill(job):
    with at_canopywave(job, ClosedAtTheEnd) as cloud:
        done = job.run("train", "-y", check=6)
        assert cloud.alive() == []
        assert "keys and addresses of the run at canopywave" in done.stderr
        assert "the instance is gone, but this may still bill" in done.stderr
        assert cloud.left_over() != []
        (failed,) = json.loads(job.run("gc", "--json", check=6).stdout)["failed"]
        assert (failed["kind"], failed["id"]) == ("leftover", None)
        ended = cloud.asked("terminate")
        cloud.is_closed = False
        job.run("resume", check=0)
        assert cloud.asked("terminate") == ended
        assert cloud.left_over() == []


def test_an_address_that_is_refused_once_throws_no_instance_away(job):
    with at_canopywave(job, CanopyWave) as cloud:
        cloud.fail("associate_ip", "402")
        job.run("train", "-y", check=0)
        assert len(cloud.ours()) == 1
        assert cloud.left_over() == []


# -- keep -------------------------------------------------------------------------------------------


def kept(job, keep):
    """A local run that keeps its instance: its driver, and until when."""
    job.task(on_success={"keep": keep})
    driver = start(job, "train", "-y")
    fact = "SELECT value_json FROM facts WHERE key = 'kept_until'"
    ((until,),) = wait_for(lambda: rows(job.home, fact))
    return driver, float(until)


def test_an_instance_whose_keeper_died_is_ended_by_the_next_command_after_the_time(job):
    driver, until = kept(job, "3s")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    job.run("gc", check=0)
    assert job.left() != []
    time.sleep(max(0.0, until - time.time()) + 0.1)
    job.run("ls", check=0)
    wait_for(lambda: rows(job.home, "SELECT state FROM runs") == [("succeeded",)])
    wait_for(lambda: job.left() == [])


def test_the_guard_waits_for_as_long_as_the_instance_is_kept(job):
    driver, _until = kept(job, "9h")
    (orders,) = job.home.glob("local/*/home/towline/*/.towline/guard.json")
    wait_for(lambda: json.loads(orders.read_text())["grace_s"] >= 9 * 3600)
    assert json.loads(orders.read_text())["lifetime_s"] is None  # nothing else ends it
    job.run("stop", check=0)
    assert driver.wait(20) == 0
    assert job.left() == []


def test_a_driver_that_takes_over_a_kept_instance_keeps_it_no_longer(job):
    driver, until = kept(job, "3s")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    job.run("resume", check=0)
    assert until <= time.time() <= until + 30  # a busy machine takes its time
    assert job.left() == []
