"""Promise 5: `towline plan` says of a link of a known rate what that rate is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.conftest import RATE, Box

pytestmark = [
    pytest.mark.netns,
    pytest.mark.sshd,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="no OpenSSH server here"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="no iproute2 here"),
]


def test_the_measured_uplink_is_the_rate_of_the_link(folder, link):
    (folder / "towline.yaml").write_text("command: make\n")
    (folder / "config.yaml").touch()
    env = os.environ | {
        "TOWLINE_HOME": str(folder / "h"),
        "TOWLINE_CONFIG": str(folder / "config.yaml"),
    }
    with Box(link, folder) as box:
        inside = ["ip", "netns", "exec", link.laptop]
        argv = [*inside, sys.executable, "-m", "towline", "plan", "--json", *box.host_arguments()]
        done = subprocess.run(argv, check=True, cwd=folder, env=env, capture_output=True, text=True)
    way = json.loads(done.stdout)["uplink"]
    mbit = way["bytes_per_s"] * 8 / 1e6
    # headers of TCP and SSH take a few percent
    assert mbit == pytest.approx(float(RATE.removesuffix("mbit")), rel=0.12)
    assert way["source"] == "measured"
