"""How fast progress is read out of logs: 50 MB made of the recorded ones, in seconds of one core's time. Prints JSON.

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


def mixed(size):
    """All recordings one after another, again and again."""
    once = b"\n".join(path.read_bytes() for path in sorted(LOGS.glob("*.log")))
    return (once * (size // len(once) + 1))[:size]


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
    log = mixed(size)
    results = [rate(log) for _ in range(3)]
    best = max(mb for mb, _ in results)
    print(
        json.dumps({
            "bytes": size,
            "events": results[0][1],
            "mb_per_s": round(best, 1),
            "runs_mb_per_s": [round(mb, 1) for mb, _ in results],
            "bar_mb_per_s": BAR_MB_PER_S,
            "passed": best >= BAR_MB_PER_S,
            "by_log_mb_per_s": by_log,
        })
    )


if __name__ == "__main__":
    main()
