"""Provider `ssh` keeps the providers' contract, against a real OpenSSH server."""

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.contracts.provider_suite import ProviderSuite, Subject, gone, key_pair, rented
from towline import errors
from towline.bundle import onboard_pyz
from towline.clock import RealClock
from towline.core.instance import parse_tag
from towline.core.task import Resources
from towline.line import Line
from towline.providers import make
from towline.ssh.client import SshDialer

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(SSHD is None, reason="needs OpenSSH's server (sshd)"),
]

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/id.pub
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
SetEnv HOME={folder}/home
"""


class Sshd:
    """A private server whose logins have a home folder of their own."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None
        self.home = folder / "home"
        self.home.mkdir()
        for name in ("host", "id"):
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
            subprocess.run(keygen, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "config").write_text(CONFIG.format(port=self.port, folder=folder))
        key = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}")
        self.need = Resources(
            provider="ssh",
            host=f"{getpass.getuser()}@127.0.0.1:{self.port}",
            identity=str(folder / "id"),
            known_hosts=str(folder / "known_hosts"),
        )

    def start(self, prefix=()):
        with contextlib.suppress(PermissionError):
            Path("/run/sshd").mkdir(exist_ok=True)  # where it drops its privileges, as root
        argv = [*prefix, SSHD, "-D", "-f", self.folder / "config", "-E", self.folder / "log"]
        self.process = subprocess.Popen(argv)
        deadline = time.monotonic() + 5
        while not self.accepts():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.02)

    def accepts(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        """End the listener and every connection that it serves."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGSTOP)  # so that no new one comes while they are listed
        children = psutil.Process(self.process.pid).children(recursive=True)
        serving = []
        for process in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.name().startswith("sshd"):
                    process.kill()
                    serving.append(process)
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(serving, timeout=5)  # they write to the log to their last moment
        self.process = None


@contextlib.contextmanager
def serving():
    """A server, its folder gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tl-"))
    server = Sshd(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def sshd():
    with serving() as server:
        yield server


@pytest.fixture
def subject(sshd):
    towline_home = sshd.folder / "towline-home"

    def fresh():
        return make("ssh", home=towline_home, settings={}, dialer=SshDialer(), clock=RealClock())

    return Subject(
        fresh=fresh,
        need=sshd.need,
        expect={"host_key_grade": "U", "rented": False, "end_self_argv": None},
        private_key=None,
        public_key="",
    )


class TestSsh(ProviderSuite):
    pass


async def boarded(sshd, instance):
    """A line over which the run has arrived on the machine, as `connect` does it."""
    run_id = parse_tag(instance.tag)
    line = Line(SshDialer(), instance.address, None, run_id, 3, RealClock())
    await line.board(onboard_pyz())
    entered = sshd.folder / "towline-home" / "runs" / run_id / "entered"
    entered.parent.mkdir(parents=True)
    entered.touch()
    return line


def test_a_line_that_breaks_before_our_program_is_there_is_dialled_anew(sshd, subject):
    """Promise 1: else every later try would talk to the dead connection."""

    async def scenario():
        made = await rented(subject, subject.fresh())
        line = Line(SshDialer(), made.address, None, parse_tag(made.tag), 3, RealClock())
        await line.dial_once()
        for process in psutil.Process(sshd.process.pid).children():
            process.kill()
        with pytest.raises(errors.ConnectionLost):
            await line.board(onboard_pyz())
        assert (await line.board(onboard_pyz()))["home"] == str(sshd.home)
        await line.hang_up()

    asyncio.run(scenario())


def test_release_ends_what_the_run_started_and_removes_its_folder_only(sshd, subject):
    async def scenario():
        made = await rented(subject, subject.fresh())
        line = await boarded(sshd, made)
        (sshd.home / "mine.txt").write_text("the user's own")
        other = subprocess.Popen(["sleep", "60"])
        remote = await line.dial_once()
        script = f"TOWLINE_RUN_ID={line.run_id} setsid sleep 61 >/dev/null 2>&1 & echo $!"
        daemon = int((await remote.run(["sh", "-c", script])).stdout)
        locked = Path(line.layout.dataset)
        locked.mkdir()
        (locked / "data").write_text("x")
        locked.chmod(0o500)
        await line.hang_up()
        try:
            await gone(subject.fresh(), made.id)
            with contextlib.suppress(psutil.NoSuchProcess):
                assert psutil.Process(daemon).status() == psutil.STATUS_ZOMBIE
            assert other.poll() is None
        finally:
            other.kill()
            other.wait()
        assert (sshd.home / "mine.txt").exists()
        assert list((sshd.home / "towline").iterdir()) == []

    asyncio.run(scenario())


def test_a_machine_that_can_not_be_reached_is_not_proven_clean(sshd, subject):
    async def scenario():
        made = await rented(subject, subject.fresh())
        await (await boarded(sshd, made)).hang_up()
        sshd.stop()
        provider = subject.fresh()
        with pytest.raises(errors.ProviderUnavailable, match=r"127\.0\.0\.1"):
            await provider.terminate(made.id)
        assert await provider.get(made.id) == made
        sshd.start()
        await gone(provider, made.id)
        assert list((sshd.home / "towline").iterdir()) == []

    asyncio.run(scenario())


def test_a_machine_that_refuses_us_after_we_were_there_is_an_error(sshd, subject):
    async def scenario():
        made = await rented(subject, subject.fresh())
        await (await boarded(sshd, made)).hang_up()
        (sshd.folder / "id.pub").write_text("")
        with pytest.raises(errors.RemoteAuthError):
            await subject.fresh().terminate(made.id)
        (sshd.folder / "known_hosts").write_text("")
        with pytest.raises(errors.HostKeyUnknown):
            await subject.fresh().terminate(made.id)
        stranger = f"[127.0.0.1]:{sshd.port} {key_pair()[1]}\n"
        (sshd.folder / "known_hosts").write_text(stranger)
        with pytest.raises(errors.HostKeyMismatch):
            await subject.fresh().terminate(made.id)
        (sshd.folder / "id").unlink()
        with pytest.raises(errors.RemoteError):
            await subject.fresh().terminate(made.id)
        assert await subject.fresh().get(made.id) == made

    asyncio.run(scenario())


@pytest.mark.parametrize("spoil", ["known_hosts", "id.pub", "listener", "identity"])
def test_a_machine_that_never_let_us_in_is_clean(sshd, subject, spoil):
    async def scenario():
        made = await rented(subject, subject.fresh())
        if spoil == "listener":
            sshd.stop()
        elif spoil == "identity":
            (sshd.folder / "id").write_text("no key")
        else:
            (sshd.folder / spoil).write_text("")
        await gone(subject.fresh(), made.id)

    asyncio.run(scenario())


def test_a_machine_without_python_is_left_clean(sshd, subject):
    async def scenario():
        made = await rented(subject, subject.fresh())
        config = sshd.folder / "config"
        empty = sshd.folder / "bin"
        empty.mkdir()
        for tool in ("sh", "mkdir", "head", "mv", "rm", "env"):
            (empty / tool).symlink_to(shutil.which(tool))
        config.write_text(config.read_text().strip() + f" PATH={empty}\n")  # one SetEnv counts
        sshd.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.3)
        line = Line(SshDialer(), made.address, None, parse_tag(made.tag), 1, RealClock())
        with pytest.raises(errors.CommandFailed):
            await line.board(onboard_pyz())
        await line.hang_up()
        await gone(subject.fresh(), made.id)
        assert list((sshd.home / "towline").iterdir()) == []

    asyncio.run(scenario())
