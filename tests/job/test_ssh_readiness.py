"""Promise 2 and 5: an SSH that never becomes ready ends clearly, and nothing is left behind."""

LIMITS = {"ssh_timeout": "2s", "ssh_connect_timeout": "0.7s"}


def test_listener_that_says_nothing_ends_within_the_limit(job):
    job.config(faults={"ssh": "silent"})
    job.task(limits=LIMITS)
    done = job.run("train", "-y", check=5)
    assert "the port is open but sends no SSH banner" in done.stderr
    assert "hint:" in done.stderr
    assert job.left() == []
    receipt = job.receipt()
    assert receipt["release"]["gone"] is True
    assert next(s for s in receipt["steps"] if s["step"] == "connect")["seconds"] < 3.6


def test_banner_without_login_ends_within_the_limit(job):
    job.config(faults={"ssh": "refuse_login"})
    job.task(limits=LIMITS)
    done = job.run("train", "-y", check=5)
    assert "refuses the login" in done.stderr
    assert job.left() == []


def test_late_sshd_is_found_within_a_second(job):
    job.config(ssh_delay_s=3)
    job.run("train", "-y", check=0)
    connect = next(s for s in job.receipt()["steps"] if s["step"] == "connect")
    assert 2.5 < connect["seconds"] < 4.2


def test_instance_that_dies_while_booting_is_ended(job):
    job.config(faults={"boot": "dies"})
    done = job.run("train", "-y")
    assert done.returncode in {4, 5}, done.stdout + done.stderr
    assert job.left() == []
