"""The storm on real processes: python -m tests.storm_real [--lives N] [--seed SEED] [--strikes 0,2]

Each life has namespaces of its own (mounts, network, processes), so it needs root on Linux. Two at a time.
Exits 1 when an invariant broke; then prints the story of each such life and the command that repeats it.
"""

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.storm_real.scenario import strike_text
from tests.storm_real.world import PIDS

AT_ONCE = 2
_OVER_S = 120  # a life ends itself after 60 s; this is for one that can't
_NOTHING = {"scenario": None, "story": [], "seconds": 0, "struck": []}
UNSHARE = (
    "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
)  # fmt: skip


def can_run():
    """Say what is missing; "" when nothing is."""
    if os.geteuid() != 0:
        return "namespaces need root"
    missing = [name for name in ("unshare", "iptables", "ip", "ss") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def live(seed, strikes=None):
    """One life in its namespaces; its report. Whatever becomes of it, nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="tl-s-") as root:
        argv = [sys.executable, "-m", "tests.storm_real.life", root, str(seed)]
        argv += [strikes] if strikes is not None else []
        try:
            # a shell as process 1: it reaps what is left to it
            done = subprocess.run(
                [*UNSHARE, "bash", "-c", '"$@"; exit $?', "life", *argv], stdin=subprocess.DEVNULL,
                capture_output=True, timeout=_OVER_S, check=True,
            )  # fmt: skip
        except subprocess.SubprocessError as error:
            said = (error.stderr or b"").decode(errors="replace")[-3000:]
            return dict(_NOTHING, seed=seed, wrong=[f"the storm itself failed: {error}: {said}"])
        finally:
            for group in PIDS.glob(f"{Path(root).name}-*"):
                group.rmdir()
        return json.loads(done.stdout)


def told(report):
    """The story of a life that went wrong."""
    scenario = report["scenario"]
    lines = [
        f"seed {report['seed']} ({report['seconds']} s):",
        *(f"  WRONG {one}" for one in report["wrong"]),
    ]
    if scenario:
        strikes = [f"{n}: {strike_text(one)}" for n, one in enumerate(scenario["strikes"])]
        rest = {key: value for key, value in scenario.items() if key != "strikes" and value}
        lines += [f"  {rest}", *(f"  strike {one}" for one in strikes)]
    lines += [f"  {one}" for one in report["story"]]
    lines.append(f"  repeat it: make storm-real N=1 SEED={report['seed']}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.storm_real")
    parser.add_argument("--lives", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strikes", help="numbers of the strikes to keep, by commas")
    parser.add_argument("--stories", action="store_true", help="tell the good ones too")
    asked = parser.parse_args()
    if why_not := can_run():
        print(f"the storm on real processes can't run here: {why_not}")
        return 2
    began = time.monotonic()
    struck, bad = collections.Counter(), []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        seeds = range(asked.seed, asked.seed + asked.lives)
        for report in pool.map(lambda seed: live(seed, asked.strikes), seeds):
            struck.update(report["struck"])
            bad += [report["seed"]] * bool(report["wrong"])
            if report["wrong"] or asked.stories:
                print(told(report), flush=True)
    spent = time.monotonic() - began
    print(f"{asked.lives} lives in {spent:.0f} s; struck: {dict(struck.most_common())}")
    print(f"{len(bad)} lives broke an invariant" + (f": seeds {bad}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
