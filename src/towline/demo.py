"""Write the demo project: real handwritten digits, a training script, and a task file.

Knows nothing of runs; what is done with the project is its caller's business.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from towline.errors import SpecError

IMAGE_COUNT = 1797
_FILES = ("train.py", "requirements.txt", "towline.yaml")
_HIGHEST = 16  # the digits' brightest value
_WHITE = 240  # what it becomes in the PNG: whole steps of 15, so that nothing is lost


def write_project(folder: Path) -> Path:
    """Write what is missing of the demo project; returns the folder.

    Files that exist are left as they are, so that a user's changes survive.

    Args:
        folder: Made when it is missing. Afterwards it holds ``dataset/<digit>/<number>.png``,
            1,797 grey images of 8x8 pixels, ``train.py``, ``requirements.txt``, ``towline.yaml``.

    Raises:
        SpecError: scikit-learn or Pillow is missing here, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            if not (folder / name).exists():
                text = (resources.files("towline") / "demo_files" / name).read_bytes()
                (folder / name).write_bytes(text)
        if len(list(folder.glob("dataset/*/*.png"))) < IMAGE_COUNT:
            _write_images(folder / "dataset")
    except OSError as error:
        message = f"the demo project can't be written to {folder}: {error.strerror or error}"
        raise SpecError(message, hint="choose another folder") from error
    return folder


def _write_images(dataset: Path) -> None:
    """Write each digit to the folder of its class; numbers count up inside a class."""
    digits, image_module = _load_digits()
    for label in range(10):
        (dataset / str(label)).mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(range(10), 0)
    for pixels, label in zip(digits.images, digits.target, strict=True):
        counts[int(label)] += 1
        file = dataset / str(label) / f"{counts[int(label)]:04d}.png"
        image = image_module.fromarray((pixels * (_WHITE / _HIGHEST)).astype("uint8"))
        image.save(file)


def _load_digits() -> tuple[Any, Any]:
    """Import at the moment of use: towline itself needs neither library."""
    try:
        from PIL import Image  # noqa: PLC0415
        from sklearn.datasets import load_digits  # noqa: PLC0415
    except ImportError as error:
        message = f"the demo's digits come from scikit-learn, which is not installed: {error}"
        raise SpecError(message, hint="pip install 'towline[demo]'") from error
    return load_digits(), Image
