"""Promise 3 against a real OpenSSH server: whatever happens to a transfer, it ends whole or resumable."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from journal import rows

from tests.netns.conftest import Box

MB = 1_000_000
CUTS = int(os.environ.get("TOWLINE_CUTS", "4"))  # and the pause between them, seconds
PAUSE_S = float(os.environ.get("TOWLINE_CUT_PAUSE_S", "0.8"))

pytestmark = [
    pytest.mark.netns,
    pytest.mark.sshd,
    pytest.mark.timeout(200),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="no OpenSSH server here"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="no iproute2 here"),
]

TRAIN = """
import hashlib, os, random
out, data = os.environ["TOWLINE_OUTPUT"], os.environ["TOWLINE_DATASET"]
found = []
for folder, _folders, names in os.walk(data):
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "rb") as file:
            found.append(os.path.relpath(path, data) + " " + hashlib.sha256(file.read()).hexdigest())
with open(os.path.join(out, "model.pt"), "w") as model:
    model.write("\\n".join(sorted(found)))
with open(os.path.join(out, "weights.bin"), "wb") as weights:
    weights.write(random.Random(7).randbytes(%d))
"""


class Job:
    """A project; towline runs inside the laptop's namespace, a watcher looks at the far folder."""

    def __init__(self, folder, link, box, *, data_mb=24, output_mb=0):
        self.link, self.box, self.folder = link, box, folder
        self.project = folder / "p"
        self.data = self.project / "dataset"
        (self.data / "sub").mkdir(parents=True)
        rng = random.Random(3)
        for number in range(12):
            (self.data / f"{number}.bin").write_bytes(rng.randbytes(data_mb * MB // 24))
        (self.data / "sub" / "large.bin").write_bytes(rng.randbytes(data_mb * MB // 2))
        for number in range(300):
            (self.data / "sub" / f"{number}.txt").write_text(f"label {number}\n" * 5)
        (self.project / "train.py").write_text(TRAIN % (output_mb * MB))
        task = {"name": "fault", "dataset": "dataset", "code": ".", "command": "python3 train.py"}
        (self.project / "towline.yaml").write_text(json.dumps(task))
        (folder / "config.yaml").write_text("{}")
        self.env = os.environ | {
            "TOWLINE_HOME": str(folder / "h"),
            "TOWLINE_CONFIG": str(folder / "config.yaml"),
        }
        self.partial = None
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._watching.start()
        return self

    def __exit__(self, *_exc):
        self.process.kill()
        self.process.wait()
        self._over.set()
        self._watching.join()

    def _watch(self):
        """Note a dataset that stands under its final name and is not whole."""
        far = self.box.folder / "upper" / "root" / "towline"
        sizes = sum(path.stat().st_size for path in self.data.rglob("*") if path.is_file())
        while not self._over.wait(0.02) and self.partial is None:
            for found in far.glob("*/dataset"):
                try:
                    there = sum(p.stat().st_size for p in found.rglob("*") if p.is_file())
                except OSError:
                    continue  # it was just moved or removed
                if there >= sizes:
                    return  # it came whole; at the end of the run it is removed
                if found.exists():
                    self.partial = there

    def towline(self, *argv, log="out"):
        inside = ["ip", "netns", "exec", self.link.laptop, sys.executable, "-m", "towline"]
        with (self.folder / log).open("w") as out:
            self.process = subprocess.Popen(
                [*inside, *argv], cwd=self.project, env=self.env,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        return self.process

    def start(self):
        return self.towline("train", "-y", *self.box.host_arguments())

    def said(self, log="out"):
        return (self.folder / log).read_text()

    def transfer(self):
        """How far it is, as `status` shows it; from the journal, for a command takes too long."""
        found = rows(self.folder / "h", "SELECT value_json FROM facts WHERE key = 'transfer'")
        return json.loads(found[0][0]) if found else {"direction": None, "bytes": None}

    def wait_for(self, share, direction="upload", files=50):
        """Wait until so much of a large transfer is done."""
        deadline = time.monotonic() + 60
        while True:
            moved = self.transfer()
            large = moved["direction"] == direction and moved["total_bytes"] > files * 1000
            if large and moved["bytes"] >= share * moved["total_bytes"]:
                return
            assert time.monotonic() < deadline, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)

    def check(self, process, limit_s=120):
        """It ended well: the far side has read what was sent; nothing stood there half."""
        assert process.wait(limit_s) == 0, self.said()
        model = (self.project / "runs" / "fault" / "model.pt").read_text()
        here = sorted(
            f"{path.relative_to(self.data)} {hashlib.sha256(path.read_bytes()).hexdigest()}"
            for path in self.data.rglob("*")
            if path.is_file()
        )
        assert model.splitlines() == here
        assert self.partial is None, self.partial
        receipt = json.loads((self.project / "runs" / "fault" / "receipt.json").read_text())
        assert receipt["release"]["gone"] is True
        return receipt

    def far(self, command):
        """Run something on the far machine, over SSH."""
        ssh = ["ssh", "-F", "none", "-i", self.box.identity, "-o", "IdentitiesOnly=yes",
               "-o", f"UserKnownHostsFile={self.box.known_hosts}"]  # fmt: skip
        argv = ["ip", "netns", "exec", self.link.laptop, *ssh, f"root@{self.link.box_address}"]
        return subprocess.run([*argv, command], check=True, capture_output=True, text=True).stdout


def receivers(verb):
    """Pids of our programs on the far side that run a verb."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended
        if verb.encode() in argv and any(word.endswith(b"onboard.pyz") for word in argv):
            found.append(int(folder.name))
    return found


def test_link_is_cut_again_and_again(folder, link):
    data_mb = max(40, round(7 * CUTS * PAUSE_S))  # the link carries 7 MB in a second
    with Box(link, folder) as box, Job(folder, link, box, data_mb=data_mb) as job:
        process = job.start()
        job.wait_for(0.05)
        for number in range(CUTS):
            link.reset() if number % 2 else link.cut(1.0)
            time.sleep(PAUSE_S)
        job.check(process)


def test_cut_at_80_percent_sends_little_twice(folder, link):
    with Box(link, folder) as box, Job(folder, link, box, data_mb=40) as job:
        process = job.start()
        job.wait_for(0.8)
        link.reset()
        upload = job.check(process)["transfers"][0]
        assert upload["sent_bytes"] <= 1.05 * upload["bytes"]


def test_far_machine_is_switched_off_and_on(folder, link):
    with Job(folder, link, box := Box(link, folder)) as job:
        with box:
            process = job.start()
            job.wait_for(0.5)
        time.sleep(1)
        with Box(link, folder, KEEP="1"):
            job.check(process)


@pytest.mark.parametrize("verb", ["receive", "take"])
def test_receiver_is_killed(folder, request, verb):
    own = request.getfixturevalue("lossy_link" if verb == "take" else "link")
    with Box(own, folder) as box, Job(folder, own, box, data_mb=60) as job:
        process = job.start()
        if verb == "receive":
            job.wait_for(0.3)
        deadline = time.monotonic() + 60
        while not (pids := receivers(verb)):  # `take` comes and goes with the upload
            assert time.monotonic() < deadline, job.said()
            time.sleep(0.02)
        os.kill(pids[0], signal.SIGKILL)
        receipt = job.check(process)
        if verb == "take":
            assert receipt["transfers"][0]["connections"] > 1


@pytest.mark.parametrize(
    "options",
    ["-o MaxSessions=1", "-o MaxStartups=3", "-o MaxStartups=1:90:3"],
)
def test_servers_that_allow_little(folder, lossy_link, options):
    with (
        Box(lossy_link, folder, SSHD_OPTIONS=options) as box,
        Job(folder, lossy_link, box, data_mb=12) as job,
    ):
        job.check(job.start())


def test_server_that_runs_nothing_on_a_second_connection(folder, lossy_link):
    wrapper = Path("/usr/local/bin/first-only")
    inner = folder / "upper" / "usr" / "local" / "bin"
    inner.mkdir(parents=True)
    (inner / wrapper.name).write_text(
        "#!/bin/bash\n"
        "first=$(cat /run/first 2>/dev/null || echo none)\n"
        '[ -d "/proc/$first" ] || { first=$PPID; echo $PPID > /run/first; }\n'
        '[ "$first" = $PPID ] || { echo "one connection is allowed" >&2; exit 1; }\n'
        'exec bash -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    (inner / wrapper.name).chmod(0o755)
    with (
        Box(lossy_link, folder, SSHD_OPTIONS=f"-o ForceCommand={wrapper}") as box,
        Job(folder, lossy_link, box, data_mb=12) as job,
    ):
        job.check(job.start())


def test_disk_that_fills_up_on_the_way(folder, link):
    with Box(link, folder, HOME_SIZE="130m") as box, Job(folder, link, box, data_mb=40) as job:
        process = job.start()
        job.wait_for(0.1)
        left = job.far("df --output=avail -B1 /root | tail -1; true")
        job.far(f"fallocate -l {int(left) - 14 * MB} /root/filler")
        assert process.wait(60) == 5, job.said()
        said = job.said()
        assert "disk is full" in said
        assert "had yet to come" in said
        assert "towline resume" in said
        job.far("rm /root/filler")
        job.check(job.towline("resume"))


def test_disk_that_is_too_small_from_the_start(folder, link):
    with Box(link, folder, HOME_SIZE="80m") as box, Job(folder, link, box, data_mb=40) as job:
        assert job.start().wait(60) == 5, job.said()
        assert "needs" in job.said()
        assert "0 B" in (job.transfer()["bytes"] or "0 B")


def test_file_that_changes_while_it_is_sent(folder, link):
    with Box(link, folder) as box, Job(folder, link, box, data_mb=40) as job:
        process = job.start()
        job.wait_for(0.1)
        with (job.data / "sub" / "large.bin").open("ab") as file:
            file.write(b"more")
        job.partial = None
        job.check(process)
        assert "large.bin changed while it was sent" in job.said()


def test_sender_is_killed_and_link_reset_while_the_model_comes_home(folder, link):
    with Box(link, folder) as box, Job(folder, link, box, data_mb=2, output_mb=30) as job:
        process = job.start()
        job.wait_for(0.3, "download", files=10_000)
        for pid in receivers("send"):
            os.kill(pid, signal.SIGKILL)
        job.wait_for(0.5, "download", files=10_000)
        link.reset()
        job.check(process)
        weights = job.project / "runs" / "fault" / "output" / "weights.bin"
        assert weights.read_bytes() == random.Random(7).randbytes(30 * MB)
