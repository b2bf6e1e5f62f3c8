"""Ultralytics: YOLO11n from random weights, 3 epochs; all files where it puts them by default."""

import os
from pathlib import Path

import yaml
from ultralytics import YOLO

DATASET = Path(os.environ.get("TOWLINE_DATASET", "dataset")).absolute()


def main():
    """Train on the data set's absolute path: a relative one means another folder to Ultralytics."""
    data = yaml.safe_load((DATASET / "data.yaml").read_text())
    Path("data.yaml").write_text(yaml.safe_dump({**data, "path": str(DATASET)}))
    YOLO("yolo11n.yaml").train(
        data="data.yaml", epochs=3, imgsz=96, batch=8, workers=0, plots=False, seed=7
    )


if __name__ == "__main__":
    main()
