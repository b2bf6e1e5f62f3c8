"""Times of whole commands: `towline --help`, a no-op training on `local`, SSH readiness.

Prints one JSON object; seconds, medians unless named otherwise.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELP_RUNS, NOOP_RUNS = 10, 7


def timed(argv, **options):
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, **options)
    return time.perf_counter() - began


def main():
    towline = Path(sys.executable).with_name("towline")
    helps = [timed([towline, "--help"]) for _ in range(HELP_RUNS)]
    root = Path(tempfile.mkdtemp(prefix="tl-bench-"))
    try:
        (root / "config.yaml").write_text("{}")
        task = {"command": "echo model > $TOWLINE_OUTPUT/model.pt", "name": "noop"}
        (root / "towline.yaml").write_text(json.dumps(task))
        env = os.environ | {
            "TOWLINE_HOME": str(root / "h"),
            "TOWLINE_CONFIG": str(root / "config.yaml"),
        }
        runs = [timed([towline, "train", "-y"], cwd=root, env=env) for _ in range(NOOP_RUNS)]
        listed = subprocess.run([towline, "ls", "--json"], check=True, env=env, capture_output=True)
        states = {run["state"] for run in json.loads(listed.stdout)}
        ready = [ssh_ready_s(path) for path in (root / "runs").iterdir()]
    finally:
        shutil.rmtree(root)
    result = {
        "bench": "command_times",
        "help_s": round(statistics.median(helps), 4),
        "noop_run_s": round(statistics.median(runs), 3),
        "noop_run_max_s": round(max(runs), 3),
        "noop_states": sorted(states),
        "connect_step_s": round(statistics.median(ready), 3),
        "connect_step_max_s": round(max(ready), 3),
        "runs": NOOP_RUNS,
    }
    print(json.dumps(result))


def ssh_ready_s(results):
    receipt = json.loads((results / "receipt.json").read_text())
    return next(step["seconds"] for step in receipt["steps"] if step["step"] == "connect")


main()
