"""A laptop and a machine with a real OpenSSH server, each in a network namespace of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

BOX = Path(__file__).with_name("box.sh")
RELAY = Path(__file__).parents[2] / "bench" / "_link.py"
RATE = "60mbit"  # slow enough that a cut falls into a transfer


def sh(*argv, check=True):
    return subprocess.run(argv, check=check, capture_output=True, text=True)


class Link:
    """Two namespaces joined by a veth pair with a rate limit; nothing leads out of them."""

    wire = "wire"

    def __init__(self, name):
        self.laptop, self.box = f"tl-{name}-laptop", f"tl-{name}-box"
        self.laptop_address, self.box_address = "198.18.0.1", "198.18.0.2"

    def __enter__(self):
        for namespace in (self.laptop, self.box):
            sh("ip", "netns", "add", namespace)
            sh("ip", "-n", namespace, "link", "set", "lo", "up")
        self._connect()
        return self

    def _connect(self):
        sh("ip", "-n", self.laptop, "link", "add", "wire", "type", "veth", "peer", "name", "wire",
           "netns", self.box)  # fmt: skip
        for namespace, address in (
            (self.laptop, self.laptop_address),
            (self.box, self.box_address),
        ):
            sh("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "wire")
            sh("ip", "-n", namespace, "link", "set", "wire", "up")
            sh("tc", "-n", namespace, "qdisc", "add", "dev", "wire", "root", "tbf", "rate", RATE,
               "burst", "64kb", "latency", "100ms")  # fmt: skip

    def __exit__(self, *_exc):
        for namespace in (self.laptop, self.box):
            for pid in sh("ip", "netns", "pids", namespace, check=False).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            sh("ip", "netns", "del", namespace, check=False)

    def cut(self, seconds):
        """Take the wire away for a while; connections are not told."""
        sh("ip", "-n", self.laptop, "link", "set", self.wire, "down")
        time.sleep(seconds)
        sh("ip", "-n", self.laptop, "link", "set", self.wire, "up")

    def reset(self):
        """Kill the SSH connections as they stand."""
        sh("ip", "netns", "exec", self.box, "ss", "-K", "sport", "=", ":22")


class LossyLink(Link):
    """The same over the benchmark's relay, with delay and loss: there, several connections help."""

    wire = "wan-a"

    def _connect(self):
        argv = [sys.executable, RELAY, "relay", self.laptop, self.box, "60e6", "0.01", "0.01"]
        self._relay = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._relay.stdout.readline() == "up\n"

    def __exit__(self, *exc):
        self._relay.terminate()
        self._relay.communicate(timeout=10)
        super().__exit__(*exc)


class Box:
    """The machine with sshd, as long as the block lasts; ``options`` are box.sh's environment."""

    def __init__(self, link, folder, hidden=(), **options):
        self.link, self.folder, self.hidden, self.options = link, folder, hidden, options
        self.identity, self.known_hosts = folder / "id", folder / "known_hosts"

    def __enter__(self):
        for key in () if self.identity.exists() else ("id", "host_key"):
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key))
        shutil.copy(self.folder / "id.pub", self.folder / "authorized_keys")
        host_key = (self.folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"{self.link.box_address} {host_key}")
        self.log = (self.folder / "sshd.log").open("w")
        self.process = subprocess.Popen(
            ["bash", BOX, self.link.box, self.folder, *self.hidden],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=os.environ | self.options,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while "Server listening" not in (self.folder / "sshd.log").read_text():
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self

    def __exit__(self, *_exc):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def host_arguments(self):
        return ["--host", f"root@{self.link.box_address}", "--identity", str(self.identity),
                "--known-hosts", str(self.known_hosts)]  # fmt: skip


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="tl-net-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def link():
    with Link(f"{os.getpid()}") as made:
        yield made


@pytest.fixture
def lossy_link():
    with LossyLink(f"{os.getpid()}") as made:
        yield made
