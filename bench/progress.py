"""How fast progress is read out of logs: 50 MB made of the recorded ones, in one core's time. Prints JSON.

The recorded trainings are short: a report in each 600 bytes. In trainings of hours the bars are
redrawn ten times a second while a percent lasts minutes; "long" is the same log with each frame
drawn ten times.

    python bench/progress.py [MB]
"""

import json
import sys
import time
from pathlib import Path

from towline.core.progress import ProgressParser

LOGS = Path(__file__).parent.parent / "tests" / "data" / "logs"
PIECE = 64 * 1024
BAR_MB_PER_S = 20.0


def mixed(size, redraws=1):
    """All recordings one after another, again and again."""
    once = b"\n".join(path.read_bytes() for path in sorted(LOGS.glob("*.log")))
    if redraws > 1:
        once = b"\n".join(drawn(line, redraws) for line in once.split(b"\n"))
    return (once * (size // len(once) + 1))[:size]


def drawn(line, redraws):
    """A line, with each frame of a bar in it drawn so many times."""
    frames = [(frame, b"%" in frame or b"/step" in frame) for frame in line.split(b"\r")]
    return b"\r".join(
        one for frame, is_bar in frames for one in [frame] * (redraws if is_bar else 1)
    )


def rate(log):
    parser = ProgressParser()
    events, began = 0, time.process_time()
    for at in range(0, len(log), PIECE):
        events += len(parser.feed(log[at : at + PIECE]))
    events += len(parser.flush())
    return len(log) / 1e6 / (time.process_time() - began), events


def main():
    size = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 50_000_000
    by_log = {}
    for path in sorted(LOGS.glob("*.log")):
        one = path.read_bytes()
        by_log[path.name] = round(rate((one * (1_000_000 // len(one) + 1))[:1_000_000])[0], 1)
    kinds = {"recorded": mixed(size), "long": mixed(size, 10)}
    results = {kind: [rate(log) for _ in range(3)] for kind, log in kinds.items()}
    best = {kind: round(max(mb for mb, _ in runs), 1) for kind, runs in results.items()}
    print(
        json.dumps({
            "bench": "progress",
            "bytes": size,
            "events": {kind: runs[0][1] for kind, runs in results.items()},
            "mb_per_s": best,
            "bar_mb_per_s": BAR_MB_PER_S,
            "passed": best["long"] >= BAR_MB_PER_S,
            "by_log_mb_per_s": by_log,
        })
    )


main()
