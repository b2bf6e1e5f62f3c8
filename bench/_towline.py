"""towline's side of `upload.py`: the engine that `towline train` calls, over the link.

    python _towline.py SOURCE FOLDER DELIVERY...

FOLDER holds the key and the known hosts. Each DELIVERY is a word that waits for a line on stdin, so
that the data can be changed between them; one JSON object a delivery.
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from _link import BOX_ADDRESS

from towline.bundle import onboard_pyz
from towline.clock import RealClock
from towline.core.instance import Address, RunId
from towline.line import Line
from towline.ssh.client import SshDialer
from towline.transfer.hash_cache import HashCache
from towline.transfer.scan import scan
from towline.transfer.upload import upload


async def deliver(line, source, cache):
    """What the step deliver does."""
    found = await asyncio.to_thread(scan, source)
    return await upload(line, found, "dataset", mode="auto", report=lambda _: None, cache=cache)


async def main(source, folder, *deliveries):
    address = Address(
        host=BOX_ADDRESS, port=22, user="root", host_key=None,
        identity=f"{folder}/id", known_hosts=f"{folder}/known_hosts",
    )  # fmt: skip
    line = Line(SshDialer(), address, None, RunId("bench"), 1, RealClock())
    began = time.perf_counter()
    await line.board(onboard_pyz())
    connect_s = time.perf_counter() - began
    for _ in deliveries:
        sys.stdin.readline()
        began = time.perf_counter()
        done = await deliver(line, Path(source), HashCache(Path(folder) / "hashes.db"))
        figures = {
            "seconds": time.perf_counter() - began,
            "connect_s": connect_s,
            "sent_bytes": done.sent_bytes,
            "connections": done.connections,
            "mode": done.mode,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print(json.dumps(figures), flush=True)
    await line.hang_up()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
