"""A log that is fast or has a line without end: is the driver's time linear, is its memory bounded,
and when is the end noticed. On `local`; prints JSON.

    python bench/log.py [MB of the line without end, at its largest] [seconds of the fast log]
"""

import json
import re
import sys

from _drive import Drive

LINES_PER_S = 100_000
SAVE = """
import os, time
print("T_END", time.time(), flush=True)
open(os.environ["TOWLINE_OUTPUT"] + "/model.pt", "w").write("final")
"""
LINE = """
import sys
for _ in range({mb}): sys.stdout.write("z" * 1_000_000)
print()
"""
LINES = """
import sys, time
began, n = time.time(), 0
while time.time() - began < {seconds}:
    sys.stdout.write("".join(f"epoch {{n // 1000000}}/100 step {{n + i:09d}} loss=0.12345 acc=0.9\\n" for i in range(1000)))
    n += 1000
    ahead = n / {per_s} - (time.time() - began)
    if ahead > 0: time.sleep(ahead)
print("N", n)
"""


def measured(script):
    """One run: what it wrote, and how far the driver was behind its end."""
    with Drive(script + SAVE) as drive:
        drive.run()
        log = drive.results / "training.log"
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 500))
            end = file.read().decode()
        printed = float(re.search(r"T_END ([0-9.]+)", end)[1])
        told = [
            json.loads(one)
            for (one,) in drive.rows("select data_json from events where kind = 'progress'")
        ]
        ended = [at for at, one in drive.rows("select at, data_json from events where kind = 'note'")
                 if "the training has ended" in one]  # fmt: skip
        followed, took = drive.step("follow")
        return {
            "exit": drive.code,
            "mb": round(log.stat().st_size / 1e6, 1),
            "follow_s": round(took, 1),
            "mb_per_s": round(log.stat().st_size / 1e6 / took, 1),
            "end_noticed_after_s": round((ended[0] if ended else followed) - printed, 2),
            "last_byte_after_s": round(followed - printed, 2),
            "driver_most_mb": round(drive.most_mb),
            "reports": len(told),
            "last_epoch_told": told[-1]["epoch"] if told else None,
        }


def main():
    mb = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60
    result = {
        "bench": "log",
        "line_without_end": [measured(LINE.format(mb=one)) for one in (mb // 4, mb // 2, mb)],
        "lines": measured(LINES.format(seconds=seconds, per_s=LINES_PER_S))
        | {"lines_per_s": LINES_PER_S},
    }
    print(json.dumps(result))


main()
