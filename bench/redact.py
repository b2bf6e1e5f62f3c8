"""Speed of the redactor over a 100 MB training log with 20 known secrets: MB/s, median of 3."""

import json
import random
import statistics
import time

from towline.core.redact import Redactor

MEGABYTES = 100
BLOCK = 256 * 1024


def main():
    rng = random.Random(1)
    redactor = Redactor([f"secret{n:02d}-{rng.randbytes(12).hex()}" for n in range(20)])
    line = "epoch {}/100 step {} loss={:.4f} acc={:.3f} lr=1e-4 tokens/s {} weights ok [####    ] 45% 12.3it/s\n"
    text = "".join(
        line.format(n % 100, n, rng.random(), rng.random(), rng.randrange(9999))
        for n in range(20_000)
    )
    data = (text.encode() * (MEGABYTES * 1_000_000 // len(text) + 1))[: MEGABYTES * 1_000_000]
    speeds = []
    for _ in range(3):
        stream = redactor.stream()
        began = time.perf_counter()
        for at in range(0, len(data), BLOCK):
            stream.feed(data[at : at + BLOCK])
        stream.flush()
        speeds.append(MEGABYTES / (time.perf_counter() - began))
    print(
        json.dumps({
            "bench": "redact",
            "mb": MEGABYTES,
            "mb_per_s": round(statistics.median(speeds), 1),
        })
    )


main()
