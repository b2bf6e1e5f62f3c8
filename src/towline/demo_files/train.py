"""Train a small neural network on handwritten digits: an ordinary script, with nothing of towline's.

The dataset is a folder with one folder for each class, and PNG files in it. The script finds it in
TOWLINE_DATASET and writes into TOWLINE_OUTPUT; without them it uses the folders next to it. The
JSON line it prints after each epoch is how any script can tell towline how far it is.
"""

import json
import os
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

DATASET = Path(os.environ.get("TOWLINE_DATASET", "dataset"))
OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))
EPOCHS = 30
BATCH = 32
SEED = 7


def load(folder):
    """Read the images into rows of 64 numbers between 0 and 1, with the class of each."""
    files = sorted(folder.glob("*/*.png"))
    pixels = [np.asarray(Image.open(file), dtype=np.float32).ravel() / 255 for file in files]
    return np.stack(pixels), np.array([int(file.parent.name) for file in files])


def train(images, labels, test_images, test_labels):
    """Train epoch by epoch; returns the model and the last epoch's metrics."""
    model = MLPClassifier(hidden_layer_sizes=(64,), learning_rate_init=0.003, random_state=SEED)
    shuffle = np.random.default_rng(SEED)
    metrics = {}
    for epoch in range(1, EPOCHS + 1):
        order = shuffle.permutation(len(labels))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            model.partial_fit(images[batch], labels[batch], classes=range(10))
        metrics = {
            "loss": round(float(log_loss(labels, model.predict_proba(images))), 4),
            "accuracy": round(float(model.score(test_images, test_labels)), 4),
        }
        report(epoch, metrics)
    return model, metrics


def report(epoch, metrics):
    """Print one line for people and one for towline."""
    loss, accuracy = metrics["loss"], metrics["accuracy"]
    print(f"pass {epoch} of {EPOCHS}: loss {loss:.4f}, reads {accuracy:.1%} of the test images")
    progress = {"epoch": epoch, "total_epochs": EPOCHS, "metrics": metrics}
    print(json.dumps({"type": "progress", "data": progress}), flush=True)


def main():
    """Load, train, save."""
    images, labels = load(DATASET)
    print(f"{len(labels)} images of {len(set(labels))} digits from {DATASET}")
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=SEED)
    images, test_images, labels, test_labels = parts
    print(f"training on {len(labels)}, testing on {len(test_labels)} that are never trained on")
    model, metrics = train(images, labels, test_images, test_labels)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, OUTPUT / "model.joblib")
    (OUTPUT / "metrics.json").write_text(json.dumps(metrics) + "\n", encoding="utf-8")
    print(f"saved {OUTPUT / 'model.joblib'}")


if __name__ == "__main__":
    main()
