"""A wide area link between two network namespaces: rate, delay, queue and loss, and OpenSSH behind it.

The kernel's own `netem` does this better, where there is one. Here a process relays packets between
two TUN devices: `python _link.py relay ...`, in C where there is a compiler. Nothing leads out of the
namespaces.
"""

import collections
import contextlib
import fcntl
import json
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RELAY = str(Path(__file__).with_name("_relay.c"))
BOX = Path(__file__).parent.parent / "tests" / "netns" / "box.sh"
LAPTOP, BOX_ADDRESS = "198.18.0.1", "198.18.0.2"
QUEUE_S = 0.1  # of drop-tail queue before the link, as a common router has
MTU = 1500
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")


def sh(*argv, check=True):
    return subprocess.run(argv, check=check, capture_output=True, text=True)


def missing():
    """Why no link can be made here, None when it can."""
    for fact, why in (
        (os.geteuid() == 0, "network namespaces need root"),
        (Path("/dev/net/tun").exists(), "this machine has no /dev/net/tun"),
        (shutil.which("ip") is not None, "iproute2 is not installed"),
        (Path("/usr/sbin/sshd").exists(), "OpenSSH's server is not installed"),
    ):
        if not fact:
            return why
    return None


# -- the relay, a process of its own --------------------------------------------------------------


def _tun(name, namespace, address):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    sh("ip", "link", "set", name, "netns", namespace)
    sh("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", name)
    sh("ip", "-n", namespace, "link", "set", name, "mtu", str(MTU), "txqueuelen", "1000", "up")
    return fd


def _use_cubic(namespace):
    """Have TCP in there control congestion as most machines do, whatever this one's default is."""
    allowed = _ALLOWED.read_text().split()
    if "cubic" not in allowed:  # only what is allowed may be the default in a namespace
        _ALLOWED.write_text(" ".join([*allowed, "cubic"]))
    cubic = "net.ipv4.tcp_congestion_control=cubic"
    sh("ip", "netns", "exec", namespace, "sysctl", "-qw", cubic)


class _Way:
    """One direction: packets leave at the rate, arrive after the delay; some are lost."""

    def __init__(self, out, rate, delay_s, loss):
        self.out, self.rate, self.delay_s, self.loss = out, rate, delay_s, loss
        self.packets, self.bytes, self.lost, self.dropped = 0, 0, 0, 0
        self._free = 0.0
        self._under_way = collections.deque()

    def take(self, packet, now):
        if self.loss and random.random() < self.loss:
            self.lost += 1
            return
        start = max(now, self._free)
        if start - now > QUEUE_S:
            self.dropped += 1
            return
        self._free = start + len(packet) * 8 / self.rate
        self._under_way.append((self._free + self.delay_s, packet))

    def give(self, now):
        """Pass on what is due; when the next is."""
        under_way = self._under_way
        while under_way and under_way[0][0] <= now:
            packet = under_way.popleft()[1]
            self.packets += 1
            self.bytes += len(packet)
            with contextlib.suppress(OSError):  # the device is going away
                os.write(self.out, packet)
        return under_way[0][0] if under_way else None


def relay(laptop, box, rate, delay_s, loss):
    here, there = _tun("wan-a", laptop, LAPTOP), _tun("wan-b", box, BOX_ADDRESS)
    for namespace in (laptop, box):
        _use_cubic(namespace)
    program = _compiled()
    if program is None:
        relay_here(here, there, rate, delay_s, loss)
    else:
        for fd in (here, there):
            os.set_inheritable(fd, True)
        figures = (here, there, rate, delay_s, loss, QUEUE_S)
        os.execve(program, ["relay", *map(str, figures)], os.environ)


def _compiled():
    """The relay's loop in C, as an open file; None without a compiler."""
    with tempfile.TemporaryDirectory(prefix="tl-relay-") as folder:
        path = f"{folder}/relay"
        if shutil.which("cc") and sh("cc", "-O2", "-o", path, RELAY, check=False).returncode == 0:
            return os.open(path, os.O_RDONLY)
    return None


def relay_here(here, there, rate, delay_s, loss):
    """Do the same in Python: it takes most of a core at 100 Mbit/s."""
    ways = {here: _Way(there, rate, delay_s, loss), there: _Way(here, rate, delay_s, loss)}
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    print("up", flush=True)
    now = time.perf_counter
    while not ended:
        due = [at for way in ways.values() if (at := way.give(now())) is not None]
        wait = max(0.0, min(due) - now()) if due else 0.2
        for fd in select.select(list(ways), [], [], wait)[0]:
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    ways[fd].take(os.read(fd, MTU), now())
    figures = ("packets", "bytes", "lost", "dropped")
    up, down = ({key: getattr(way, key) for key in figures} for way in ways.values())
    print(json.dumps({"up": up, "down": down}), flush=True)


# -- the link and the machine behind it -----------------------------------------------------------


class Link:
    """Two namespaces, a relay between them, and a machine with sshd, as long as the block lasts.

    Without a rate the two are joined by a plain veth pair: as fast as the processor.
    """

    def __init__(self, mbit=None, rtt_ms=0.0, loss=0.0):
        self.mbit, self.rtt_ms, self.loss = mbit, rtt_ms, loss
        self.laptop, self.box = f"tlb-{os.getpid()}-a", f"tlb-{os.getpid()}-b"
        self.folder = None
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="tl-bench-", dir=_memory()))
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._namespaces(stack)
            self._connect(stack)
            self._serve(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc):
        return self._stack.__exit__(*exc)

    def _namespaces(self, stack):
        for namespace in (self.laptop, self.box):
            sh("ip", "netns", "add", namespace)
            stack.callback(_remove_namespace, namespace)
            sh("ip", "-n", namespace, "link", "set", "lo", "up")

    def _connect(self, stack):
        if self.mbit is None:
            sh("ip", "-n", self.laptop, "link", "add", "wire", "type", "veth", "peer", "name",
               "wire", "netns", self.box)  # fmt: skip
            for namespace, address in ((self.laptop, LAPTOP), (self.box, BOX_ADDRESS)):
                sh("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "wire")
                sh("ip", "-n", namespace, "link", "set", "wire", "up")
                _use_cubic(namespace)
            return
        argv = [sys.executable, __file__, "relay", self.laptop, self.box, str(self.mbit * 1e6),
                str(self.rtt_ms / 2000), str(self.loss)]  # fmt: skip
        relaying = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        stack.callback(_end, relaying)
        assert relaying.stdout.readline() == "up\n"

    def _serve(self, stack):
        for key in ("id", "host_key"):
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key))
        shutil.copy(self.folder / "id.pub", self.folder / "authorized_keys")
        host_key = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"{BOX_ADDRESS} {host_key}")
        log = stack.enter_context((self.folder / "sshd.log").open("w"))
        argv = ["bash", str(BOX), self.box, str(self.folder)]
        box = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(_end, box)
        deadline = time.monotonic() + 20
        while "Server listening" not in (self.folder / "sshd.log").read_text():
            assert box.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)

    @property
    def ssh(self):
        """OpenSSH's options, as one string."""
        return (
            f"-F none -i {self.folder}/id -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes"
            f" -o UserKnownHostsFile={self.folder}/known_hosts"
        )

    def home(self):
        """The far machine's home folder, seen from here."""
        return self.folder / "upper" / "root"

    def run(self, command, **options):
        """Run a shell command on the laptop's side; seconds it took."""
        argv = ["ip", "netns", "exec", self.laptop, "bash", "-euo", "pipefail", "-c", command]
        began = time.perf_counter()
        done = subprocess.run(argv, check=False, capture_output=True, text=True, **options)
        took = time.perf_counter() - began
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return took, done.stdout


def _memory():
    """A folder in memory where there is one, so that no disk is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _end(process):
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def _remove_namespace(namespace):
    for pid in sh("ip", "netns", "pids", namespace, check=False).stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    sh("ip", "netns", "del", namespace, check=False)


if __name__ == "__main__":
    _, _, *names = sys.argv
    relay(names[0], names[1], *map(float, names[2:]))
