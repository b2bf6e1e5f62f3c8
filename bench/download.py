"""A model on its way home over an emulated wide area link: towline's engine, scp and rsync, in turn.

    python bench/download.py [--repeat N] > download.json
    python bench/download.py --table download.json

One JSON object. The model does not shrink. towline's seconds hold what the step `gather` does: the
instance hashes the file, its parts come over as many connections as help, are hashed here and
brought to the disk. A peer's seconds hold its own SSH login. Needs root: network namespaces, TUN.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from _link import BOX_ADDRESS, Link, missing

from towline import collect
from towline.bundle import onboard_pyz
from towline.clock import RealClock
from towline.core.artifact import FoundFile
from towline.core.instance import Address, RunId
from towline.line import Line
from towline.ssh.client import SshDialer

SIZE = 100_000_000
LINKS = {
    "model-100": {"mbit": 100, "rtt_ms": 50},
    "model-lossy": {"mbit": 100, "rtt_ms": 50, "loss": 0.001},
    "model-400": {"mbit": 400, "rtt_ms": 100},
}
PEERS = {
    "scp": "scp -q {ssh} root@{address}:towline/bench/output/model.bin {into}",
    "rsync -az": 'rsync -az -e "ssh {ssh}" root@{address}:towline/bench/output/model.bin {into}',
}


async def fetch(folder, into):
    """Do what the step gather does; prints seconds and connections."""
    address = Address(
        host=BOX_ADDRESS, port=22, user="root", host_key=None,
        identity=f"{folder}/id", known_hosts=f"{folder}/known_hosts",
    )  # fmt: skip
    line = Line(SshDialer(), address, None, RunId("bench"), 1, RealClock())
    await line.board(onboard_pyz())
    model = FoundFile(path="output/model.bin", size_bytes=SIZE, mode=0o644, mtime_ns=0)
    began = time.perf_counter()
    done, _hashes = await collect.fetch(line, [model], Path(into), lambda _progress: None)
    print(json.dumps({"seconds": time.perf_counter() - began, "connections": done.connections}))
    await line.hang_up()


def towline(link, into):
    argv = ["ip", "netns", "exec", link.laptop, sys.executable, __file__, "--fetch"]
    done = subprocess.run([*argv, str(link.folder), into], check=True, capture_output=True)
    return json.loads(done.stdout)


def measure(options, repeat):
    """Run one link: seconds of each, medians last."""
    own, peers = [], {name: [] for name in PEERS}
    with Link(**options) as link:
        far = link.home() / "towline" / "bench" / "output" / "model.bin"
        link.run(f"ssh {link.ssh} root@{BOX_ADDRESS} mkdir -p towline/bench/output")
        content = random.Random(5).randbytes(SIZE)
        far.write_bytes(content)
        for turn in range(repeat):
            into = link.folder / f"home-{turn}"
            own.append(towline(link, str(into)))
            assert (into / "output" / "model.bin").read_bytes() == content
            for name, command in PEERS.items():
                into = link.folder / "peer.bin"
                argv = command.format(ssh=link.ssh, address=BOX_ADDRESS, into=into)
                peers[name].append(link.run(argv)[0])
                assert into.read_bytes() == content
                into.unlink()
    seconds = statistics.median(one["seconds"] for one in own)
    limit = SIZE * 8 / options["mbit"] / 1e6
    medians = {name: statistics.median(times) for name, times in peers.items()}
    return {
        "link": options, "bytes": SIZE, "seconds": round(seconds, 2), "limit_s": round(limit, 2),
        "of_limit": round(seconds / limit, 3), "connections": [one["connections"] for one in own],
        "peers": {
            name: {"seconds": round(median, 2), "ratio": round(seconds / median, 3)}
            for name, median in medians.items()
        },
    }  # fmt: skip


def table(result):
    print("| link | towline | limit | peers: seconds, ratio | connections |\n|---|---|---|---|---|")
    for name, row in result["rows"].items():
        peers = "; ".join(
            f"{key} {one['seconds']:.1f} s, {one['ratio']:.2f}" for key, one in row["peers"].items()
        )
        print(
            f"| {name} | {row['seconds']:.2f} s | {row['limit_s']:.1f} s, {row['of_limit']:.2f}"
            f" | {peers} | {max(row['connections'])} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--table", type=Path, help="print an earlier result as Markdown")
    parser.add_argument("--fetch", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fetch:
        asyncio.run(fetch(*options.fetch))
    elif options.table:
        table(json.loads(options.table.read_text()))
    elif (why := missing()) is not None:
        print(json.dumps({"bench": "download", "skipped": why}))
    else:
        rows = {name: measure(link, options.repeat) for name, link in LINKS.items()}
        print(json.dumps({"bench": "download", "repeat": options.repeat, "rows": rows}))


if __name__ == "__main__":
    main()
