"""From sshd accepting to the first command run, and from a printed log line to `towline logs -f`.

Both on the local provider over loopback; one JSON object, seconds.
"""

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from towline.bundle import onboard_pyz
from towline.clock import RealClock
from towline.core.instance import Order, RunId, run_id_from, tag_for
from towline.core.task import Resources
from towline.line import Line
from towline.providers import make
from towline.ssh.client import SshDialer, new_key_pair

CONNECTS, LINES = 40, 150
TRAIN = f"""
import time
for n in range({LINES}):
    print("at", time.time(), flush=True)
    time.sleep(0.05)
"""


def p95(values):
    return sorted(values)[int(len(values) * 0.95)]


async def connects(home):
    """Log in, put our program there and run it, on an instance whose sshd answers."""
    dialer, clock = SshDialer(), RealClock()
    provider = make("local", home=home, settings={}, dialer=dialer, clock=clock)
    private, public = new_key_pair("bench")
    tag = tag_for(run_id_from(os.urandom(8)))
    made = await provider.create(
        (await provider.offers(Resources()))[0], Order(tag=tag, public_key=public)
    )
    try:
        while not (await dialer.probe(made.address, 1)).text:
            await clock.sleep(0.02)
        times = []
        for n in range(CONNECTS):
            line = Line(dialer, made.address, private, RunId(f"bench{n}"), 1, clock)
            began = time.perf_counter()
            await line.board(onboard_pyz())
            times.append(time.perf_counter() - began)
            await line.hang_up()
        return times
    finally:
        await provider.terminate(made.id)


def log_lines(root):
    """Ages of log lines as `towline logs -f` prints them."""
    (root / "train.py").write_text(TRAIN)
    task = {"name": "lines", "code": ".", "command": "python train.py"}
    (root / "towline.yaml").write_text(json.dumps(task))
    (root / "config.yaml").write_text("{}")
    env = os.environ | {
        "TOWLINE_HOME": str(root / "h"),
        "TOWLINE_CONFIG": str(root / "config.yaml"),
    }
    towline = [sys.executable, "-m", "towline"]
    run = {"cwd": root, "env": env, "stdin": subprocess.DEVNULL}
    subprocess.run([*towline, "train", "-y", "--detach"], check=True, capture_output=True, **run)
    ages = []
    with subprocess.Popen(
        [*towline, "logs", "-f"], stdout=subprocess.PIPE, text=True, **run
    ) as logs:
        shown = (line for line in logs.stdout if line.startswith("at "))
        ages.extend(time.time() - float(line.split()[1]) for line in shown)
    subprocess.run([*towline, "wait"], check=False, capture_output=True, **run)
    return ages[20:]  # the first ones were printed before `logs` had started


def main():
    root = Path(tempfile.mkdtemp(prefix="tl-bench-"))
    try:
        times = asyncio.run(connects(root / "c"))
        ages = log_lines(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    result = {
        "bench": "line",
        "first_command_s": round(statistics.median(times), 4),
        "first_command_p95_s": round(p95(times), 4),
        "log_line_s": round(statistics.median(ages), 4),
        "log_line_p95_s": round(p95(ages), 4),
        "connects": CONNECTS,
        "lines": len(ages),
    }
    print(json.dumps(result))


main()
