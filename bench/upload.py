"""Uploads over an emulated wide area link: towline's engine and its peers, on the same data.

    python bench/upload.py [--rows NAME,...] [--repeat N] [--all-peers] > upload.json
    python bench/upload.py --table upload.json

One JSON object. Each row names its data, its link, and the bars it has to meet. towline and the
peer that a bar names are run in turn, N times each; medians count. Peers that take minutes are
run once. A peer's seconds hold its own SSH login; towline has logged in before its upload begins,
in a step of its own, so both figures are given. Needs root: network namespaces and TUN.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import _data
from _link import Link, missing
from _peers import PEERS, SAID, available

HERE = Path(__file__).parent
HUNDRED = {"mbit": 100, "rtt_ms": 50}
LOSSY = HUNDRED | {"loss": 0.001}
LONG = {"mbit": 400, "rtt_ms": 100}


@dataclass(frozen=True)
class Row:
    """One line of the table: bars are the most that towline's seconds may be of a peer's."""

    data: str
    link: dict
    bars: dict = field(default_factory=dict)
    once: tuple = ()  # peers that are run once, for they take long
    of_limit: float | None = None  # the most of bytes / rate
    delivery: str = "first"


ROWS = {
    "mixed-100": Row("mixed", HUNDRED, {"rsync": 1.0, "zip": 0.75, "sftp": 0.08}, ("sftp",), 1.15),
    "mixed-lossy": Row("mixed", LOSSY, {"rsync": 0.2}, ("rsync",)),
    "mixed-400": Row("mixed", LONG, {"rsync": 0.6}),
    "single-100": Row("single", HUNDRED, {"rsync": 1.0, "zip": 0.75}, ("zip",), 1.15),
    "single-lossy": Row("single", LOSSY, {"rsync": 0.2}, ("rsync",)),
    "single-400": Row("single", LONG, {"rsync": 0.6}),
    "small-100": Row("small", HUNDRED, {"rsync": 1.0, "tar": 1.3}),
    "again-100": Row("mixed", HUNDRED, {"rsync": 0.5}, delivery="again"),
    "changed-100": Row("mixed", HUNDRED, {"rsync": 0.5}, delivery="changed"),
    "half-cpu": Row("half", {}, {"tar": 1.25}),
    "tiny-cpu": Row("tiny", {}),
    "million-cpu": Row("million", {}),
}
MEMORY_MB = 200  # on each side, whatever the data


def say(text):
    print(text, file=sys.stderr, flush=True)


class Watch(threading.Thread):
    """The most memory that any of our programs on the far side has had, MB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.most_mb = 0.0
        self._ended = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_exc):
        self._ended.set()
        self.join()

    def run(self):
        while not self._ended.wait(0.1):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    if b"onboard.pyz" not in (folder / "cmdline").read_bytes().split(b"sh\0-c")[0]:
                        continue
                    lines = (folder / "status").read_text().splitlines()
                except OSError:
                    continue  # it has ended
                peak = [line.split()[1] for line in lines if line.startswith("VmHWM")]
                self.most_mb = max([self.most_mb, *(int(kb) / 1024 for kb in peak)])


def towline(row, link, source):
    """One run: figures of the delivery that counts."""
    far = link.home() / "towline"
    link.run(f"ssh {link.ssh} root@198.18.0.2 rm -rf towline")
    (link.folder / "hashes.db").unlink(missing_ok=True)
    deliveries = ["first"] if row.delivery == "first" else ["first", row.delivery]
    argv = ["ip", "netns", "exec", link.laptop, sys.executable, str(HERE / "_towline.py")]
    with Watch() as watch, subprocess.Popen(
        [*argv, str(source), str(link.folder), *deliveries],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for delivery in deliveries:
            if delivery == "changed":
                _data.touch_one_percent(source)
            process.stdin.write("\n")
            process.stdin.flush()
            figures = json.loads(process.stdout.readline())
    same(source, far / "bench" / "dataset")
    return figures | {"far_rss_mb": watch.most_mb}


def peer(name, row, link, source):
    """One run of a peer: seconds of the delivery that counts."""
    link.run(f"ssh {link.ssh} root@198.18.0.2 rm -rf {name}")
    seconds, _said = link.run(PEERS[name](link, source))
    if row.delivery == "changed":
        _data.touch_one_percent(source)
    if row.delivery != "first":
        seconds, _said = link.run(PEERS[name](link, source))
    same(source, link.home() / name)
    return seconds


def same(source, arrived):
    done = subprocess.run(
        ["diff", "-rq", source, arrived], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[:500]


def measure(name, row, source, repeat, names):
    """Run one row: its figures."""
    own, others = [], {one: [] for one in names}
    with Link(**row.link) as link:
        login_s = statistics.median(
            link.run(f"ssh {link.ssh} root@198.18.0.2 true")[0] for _ in range(3)
        )
        for turn in range(repeat):
            own.append(towline(row, link, source))
            say(f"{name}: towline {own[-1]['seconds']:.2f} s")
            for one, times in others.items():
                if turn == 0 or one not in row.once:
                    times.append(peer(one, row, link, source))
                    say(f"{name}: {one} {times[-1]:.2f} s")
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    return judged(row, own, others, size) | {"ssh_login_s": round(login_s, 2)}


def judged(row, own, others, size):
    """Medians, ratios, and whether the bars are met."""
    seconds = statistics.median(one["seconds"] for one in own)
    result = {
        "data": _data.KINDS[row.data], "link": row.link, "delivery": row.delivery, "bytes": size,
        "seconds": round(seconds, 3),
        "all_seconds": [round(one["seconds"], 3) for one in own],
        "connect_s": round(statistics.median(one["connect_s"] for one in own), 3),
        "connections": [one["connections"] for one in own],
        "sent_bytes": own[-1]["sent_bytes"],
        "rss_mb": round(max(one["rss_mb"] for one in own)),
        "far_rss_mb": round(max(one["far_rss_mb"] for one in own)),
        "peers": {},
    }  # fmt: skip
    met = [result["rss_mb"] <= MEMORY_MB, result["far_rss_mb"] <= MEMORY_MB]
    for name, times in others.items():
        median = statistics.median(times)
        ratio = seconds / median
        bar = row.bars.get(name)
        met += [ratio <= bar] if bar else []
        result["peers"][name] = {
            "seconds": round(median, 3), "all_seconds": [round(t, 3) for t in times],
            "ratio": round(ratio, 3), "bar": bar,
            "ratio_with_connect": round((seconds + result["connect_s"]) / median, 3),
        }  # fmt: skip
    if "mbit" in row.link and row.delivery == "first":
        limit = size * 8 / row.link["mbit"] / 1e6
        result |= {"limit_s": round(limit, 2), "of_limit": round(seconds / limit, 3)}
        met += [seconds / limit <= row.of_limit] if row.of_limit else []
    return result | {"met": all(met)}


def table(result):
    """The rows as Markdown."""
    print(
        "| row | towline | limit | peers: seconds, ratio (bar) | connections | memory here, there | met |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, row in result["rows"].items():
        peers = "; ".join(
            f"{SAID[key]} {one['seconds']:.1f} s, {one['ratio']:.2f}"
            + (f" ({one['bar']:g})" if one["bar"] else "")
            for key, one in row["peers"].items()
        )
        limit = f"{row['limit_s']:.1f} s, {row['of_limit']:.2f}" if "limit_s" in row else ""
        print(
            f"| {name} | {row['seconds']:.2f} s | {limit} | {peers} | {max(row['connections'])}"
            f" | {row['rss_mb']}, {row['far_rss_mb']} MB | {'yes' if row['met'] else '**no**'} |"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    # what a whole run would take is 40 minutes, most of it the peers'
    parser.add_argument("--rows", default="mixed-100,mixed-lossy,mixed-400,small-100,again-100,changed-100,half-cpu",
                        help="names, or `all`")  # fmt: skip
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--all-peers", action="store_true", help="also those that no bar names")
    parser.add_argument("--table", type=Path, help="print an earlier result as Markdown")
    options = parser.parse_args()
    if options.table:
        table(json.loads(options.table.read_text()))
        return
    if (why := missing()) is not None:
        print(json.dumps({"bench": "upload", "skipped": why}))
        return
    names = ROWS if options.rows == "all" else options.rows.split(",")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="tl-data-", dir=memory))
    rows = {}
    try:
        for name in names:
            row = ROWS[name]
            source = folder / row.data
            if not source.exists():
                for old in folder.iterdir():
                    shutil.rmtree(old)
                _data.make(row.data, source)
            wanted = PEERS if options.all_peers else row.bars
            rows[name] = measure(
                name, row, source, options.repeat, [n for n in wanted if available(n)]
            )
    finally:
        shutil.rmtree(folder)
    print(json.dumps({"bench": "upload", "repeat": options.repeat, "rows": rows}))


if __name__ == "__main__":
    main()
