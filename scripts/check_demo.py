"""Check what the demo brought home: the newest run's receipt, its model, and that nothing is left.

Prints one line for each fact; exits 1 at the first that does not hold.
"""

import hashlib
import json
import sys
from pathlib import Path

import joblib
import numpy as np
import psutil
from sklearn.datasets import load_digits

WANTED_ACCURACY = 0.90
RUNS = (Path("runs"), Path("towline-demo") / "runs")


def newest_receipt() -> tuple[Path, dict]:
    """Find the receipt that was written last."""
    found = [file for runs in RUNS for file in runs.glob("digits*/receipt.json")]
    if not found:
        sys.exit("error: no receipt.json of a demo run; run `towline demo` in this folder first")
    file = max(found, key=lambda file: file.stat().st_mtime)
    return file, json.loads(file.read_text("utf-8"))


def check_model(folder: Path, receipt: dict) -> None:
    """Compare the model's hash with the receipt's, load it, let it read every digit."""
    file = folder / Path(receipt["model"]["path"]).name  # the folder may have been moved
    if hashlib.sha256(file.read_bytes()).hexdigest() != receipt["model"]["sha256"]:
        sys.exit(f"error: {file} is not the file that the receipt describes")
    digits = load_digits()
    images = (digits.data * 15 / 255).astype(np.float32)  # as train.py reads them from the PNGs
    accuracy = float((joblib.load(file).predict(images) == digits.target).mean())
    print(f"model {file}: reads {accuracy:.1%} of {len(images):,} digits")
    if accuracy <= WANTED_ACCURACY:
        sys.exit(f"error: that is not more than {WANTED_ACCURACY:.0%}")


def check_nothing_left(receipt: dict) -> None:
    """Look for processes that carry the run's id in their environment or on their command line."""
    run_id = receipt["run"]["id"]
    left = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("TOWLINE_RUN_ID", "")]
        except psutil.Error:
            continue  # it ended meanwhile, or belongs to another user
        if any(run_id in word for word in words):
            left.append(f"{process.pid} {process.name()}")
    if not receipt["release"]["gone"] or left:
        sys.exit(f"error: left behind: {', '.join(left) or 'the instance is not proven gone'}")
    print(f"instance gone ({receipt['release']['proof']}), no process left")


if __name__ == "__main__":
    receipt_file, the_receipt = newest_receipt()
    check_model(receipt_file.parent, the_receipt)
    check_nothing_left(the_receipt)
