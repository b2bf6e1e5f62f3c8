"""Draw the data set: 60 pictures of boxes and discs, with a YOLO label file each."""

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 96
NAMES = ("box", "disc")
SPLITS = {"train": 48, "val": 12}


def draw(image_file, label_file):
    """One picture with one to three shapes; labels are class, centre and size, all 0 to 1."""
    image = Image.new("RGB", (SIZE, SIZE), (20, 40, random.randrange(60, 110)))
    pen = ImageDraw.Draw(image)
    rows = []
    for _ in range(random.randrange(1, 4)):
        side = random.randrange(16, 40)
        left, top = random.randrange(SIZE - side), random.randrange(SIZE - side)
        kind = random.randrange(2)
        shape = (pen.rectangle, pen.ellipse)[kind]
        shape((left, top, left + side, top + side), fill=(random.randrange(150, 256), 180, 60))
        numbers = ((left + side / 2) / SIZE, (top + side / 2) / SIZE, side / SIZE, side / SIZE)
        rows.append(" ".join([str(kind), *(f"{number:.5f}" for number in numbers)]))
    image.save(image_file)
    label_file.write_text("\n".join(rows) + "\n")


def main(folder):
    """Write images, labels and data.yaml."""
    random.seed(7)
    for split, count in SPLITS.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            stem = f"{split}{number:03}"
            image, label = folder / "images" / split, folder / "labels" / split
            draw(image / f"{stem}.png", label / f"{stem}.txt")
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(NAMES))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "dataset"))
