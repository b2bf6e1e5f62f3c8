"""Data sets, the same bytes each time."""

import random

KINDS = {
    "mixed": "1,000 files, 99 MB: 500 JPEG-like and 500 labels",
    "single": "one file of 500 MB that does not shrink",
    "small": "20,000 files of 1 KB that do not shrink",
    "half": "2,000 files, 1 GB: half does not shrink, half is text",
    "tiny": "200,000 files of 1 KB that do not shrink",
    "million": "1,000,000 files of 1 KB that do not shrink",
}


def make(kind, root):
    """Write a data set."""
    root.mkdir(parents=True)
    rng = random.Random(kind)
    {
        "mixed": _mixed,
        "single": _single,
        "small": _small,
        "half": _half,
        "tiny": _tiny,
        "million": _million,
    }[kind](root, rng)


def _mixed(root, rng):
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for number in range(500):
        size = rng.randint(150_000, 246_000)
        image = b"\xff\xd8\xff\xe0\x00\x10JFIF" + rng.randbytes(size)
        (root / "images" / f"{number:04}.jpg").write_bytes(image)
        boxes = (f"{rng.randint(0, 9)} " + " ".join(f"{rng.random():.6f}" for _ in range(4))
                 for _ in range(rng.randint(1, 8)))  # fmt: skip
        (root / "labels" / f"{number:04}.txt").write_text("\n".join(boxes) + "\n")


def _single(root, rng):
    with (root / "data.bin").open("wb") as file:
        for _ in range(500):
            file.write(rng.randbytes(1_000_000))


def _small(root, rng, folders=20):
    for folder in range(folders):
        (root / f"{folder:03}").mkdir()
        for number in range(1000):
            (root / f"{folder:03}" / f"{number:04}.bin").write_bytes(rng.randbytes(1024))


def _tiny(root, rng):
    _small(root, rng, 200)


def _million(root, rng):
    _small(root, rng, 1000)


def _half(root, rng):
    words = [bytes(rng.choices(b"etaoinshrdlu", k=rng.randint(2, 9))) for _ in range(3000)]
    for number in range(1000):
        (root / f"{number:04}.bin").write_bytes(rng.randbytes(500_000))
        lines = []
        size = 0
        while size < 500_000:
            line = b"%.6f,%s\n" % (rng.random(), b" ".join(rng.choices(words, k=9)))
            lines.append(line)
            size += len(line)
        (root / f"{number:04}.csv").write_bytes(b"".join(lines))


def touch_one_percent(root):
    """Change one file of a hundred."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for number, path in enumerate(files[::100]):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1 + number % 255
        path.write_bytes(data)
