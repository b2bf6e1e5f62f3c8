"""Promise 1 and 3 against a real OpenSSH server: the link is cut in every long step."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.netns.conftest import Box

CUT_S = float(os.environ.get("TOWLINE_CUT_S", "4"))
MODEL_BYTES = 24_000_000

pytestmark = [
    pytest.mark.netns,
    pytest.mark.sshd,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="no OpenSSH server here"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="no iproute2 here"),
]

TRAIN = f"""
    import os, random, time
    out = os.environ["TOWLINE_OUTPUT"]
    with open(os.path.join(out, "starts.txt"), "a") as starts:
        starts.write("started\\n")
    for epoch in range(1, 61):
        print(f"epoch {{epoch}}/60 loss={{1 / epoch:.4f}}", flush=True)
        time.sleep(0.1)
    with open(os.path.join(out, "model.pt"), "wb") as model:
        model.write(random.Random(3).randbytes({MODEL_BYTES}))
"""
LOG = "".join(f"epoch {e}/60 loss={1 / e:.4f}\n" for e in range(1, 61))


class Laptop:
    """A project and a home; towline runs inside the laptop's namespace."""

    def __init__(self, folder, link, box):
        self.folder, self.link, self.box = folder, link, box
        self.project = folder / "p"
        (self.project / "dataset").mkdir(parents=True)
        rng = random.Random(5)
        for number in range(40):
            (self.project / "dataset" / f"{number}.bin").write_bytes(rng.randbytes(700_000))
        (self.project / "train.py").write_text(textwrap.dedent(TRAIN))
        task = {"name": "cut", "dataset": "dataset", "code": ".", "command": "python3 train.py"}
        (self.project / "towline.yaml").write_text(json.dumps(task))
        (folder / "config.yaml").write_text("{}")
        self.env = os.environ | {
            "TOWLINE_HOME": str(folder / "h"),
            "TOWLINE_CONFIG": str(folder / "config.yaml"),
        }

    def command(self, *argv):
        inside = ["ip", "netns", "exec", self.link.laptop]
        return [*inside, sys.executable, "-m", "towline", *argv]

    def start(self):
        argv = self.command("train", "-y", *self.box.host_arguments())
        with (self.folder / "out").open("w") as out:
            return subprocess.Popen(argv, cwd=self.project, env=self.env,
                                    stdin=subprocess.DEVNULL, stdout=out, stderr=out)  # fmt: skip

    def status(self):
        done = subprocess.run([sys.executable, "-m", "towline", "status", "--json"], check=False,
                              env=self.env, capture_output=True, text=True)  # fmt: skip
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_until(self, what, limit_s=60):
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            status = self.status()
            if status is not None and what(status):
                return
            time.sleep(0.1)
        raise AssertionError((self.folder / "out").read_text())

    def check(self):
        said = (self.folder / "out").read_text()
        results = self.project / "runs" / "cut"
        receipt = json.loads((results / "receipt.json").read_text())
        assert receipt["run"]["state"] == "succeeded", said
        assert receipt["release"]["gone"] is True
        assert (results / "output" / "starts.txt").read_text() == "started\n", said
        assert (results / "training.log").read_text() == LOG, said
        model = (results / "model.pt").read_bytes()
        assert model == random.Random(3).randbytes(MODEL_BYTES)
        assert receipt["model"]["sha256"] == hashlib.sha256(model).hexdigest()
        # what stays on the machine is the cache of environments, nothing of the run
        left = self.box.folder / "upper" / "root" / "towline"
        assert [one.name for one in left.iterdir() if one.name != ".cache"] == [], said
        return said


def in_transfer(direction):
    def look(status):
        moved = status["transfer"]
        total = moved["total_bytes"] or 0
        return moved["direction"] == direction and total > 1_000_000 and moved["bytes"] > total / 5

    return look


def training(status):
    return (status["progress"]["epoch"] or 0) >= 3


@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["silence", "reset"])
def test_link_cut_in_upload_training_and_download(folder, link, how):
    with Box(link, folder) as box:
        laptop = Laptop(folder, link, box)
        process = laptop.start()
        try:
            for moment in (in_transfer("upload"), training, in_transfer("download")):
                laptop.wait_until(moment)
                if how == "reset":
                    link.reset()
                else:
                    link.cut(CUT_S)
            assert process.wait(200) == 0, (folder / "out").read_text()
            laptop.check()
        finally:
            process.kill()
            process.wait()


@pytest.mark.timeout(120)
def test_no_tmux_on_the_far_side(folder, link):
    with Box(link, folder, hidden=("tmux",)) as box:
        laptop = Laptop(folder, link, box)
        process = laptop.start()
        try:
            assert process.wait(100) == 0, (folder / "out").read_text()
            assert "no tmux" in laptop.check()
        finally:
            process.kill()
            process.wait()
