"""Name what a picture shows, or predict a column of a table, with Keras 3.

Reads one folder of pictures for each class (in train/ and val/, or not split), or a CSV file, from
TOWLINE_DATASET; writes best.keras, last.keras, labels.json or columns.json, and metrics.json into
TOWLINE_OUTPUT. Settings come as JSON in TOWLINE_SETTINGS; what is not given there is as in DEFAULTS.
Needs keras with one of its backends, Pillow, pandas and numpy.
"""

import json
import math
import os
import random
import sys
from pathlib import Path

DATASET = Path(os.environ.get("TOWLINE_DATASET", "dataset"))
OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))
DEFAULTS = {
    "epochs": 20,
    "batch": 32,
    "imgsz": 96,
    "lr": 0.001,
    "target": "auto",
    "backend": "tensorflow",
    "patience": 0,
    "val_share": 0.2,
    "seed": 0,
}
SET = {**DEFAULTS, **json.loads(os.environ.get("TOWLINE_SETTINGS", "{}"))}
os.environ["KERAS_BACKEND"] = SET["backend"]  # before keras is imported
if sys.path and Path(sys.path[0]) == Path(__file__).parent:
    del sys.path[0]  # this file may be called keras.py itself

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from keras import layers  # noqa: E402
from PIL import Image, ImageOps  # noqa: E402

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
TEST_NAMES = ("val", "valid", "validation", "test")
TARGET_NAMES = ("target", "label", "class", "y")
MOST_CLASSES = 20


# -- pictures ---------------------------------------------------------------------------------------


def pictures_of(folder):
    """{class: its files} of a folder that holds one folder for each class."""
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._"):
        files = sorted(
            p for p in path.rglob("*") if p.suffix.lower() in ENDINGS and p.name[0] != "."
        )
        if files:
            found[path.name] = files
    return found


def find_pictures():
    """Classes, and (file, class number) to train on and to test on."""
    root = DATASET
    while not (root / "train").is_dir():
        inner = [p for p in root.iterdir() if p.is_dir() and p.name[0] not in "._"]
        if len(inner) != 1 or not any(p.is_dir() for p in inner[0].iterdir()):
            break
        root = inner[0]
    is_split = (root / "train").is_dir()
    train = pictures_of(root / "train" if is_split else root)
    classes = sorted(train)
    if len(classes) < 2:
        stop(
            f"{root} must hold at least two folders of pictures, one for each class; found {classes}"
        )
    place = next((root / n for n in TEST_NAMES if (root / n).is_dir()), None) if is_split else None
    if place is not None:
        test = pictures_of(place)
    else:
        test = {}
        for name, files in train.items():
            shuffled = random.Random(SET["seed"]).sample(files, len(files))
            count = min(len(files) - 1, max(1, round(len(files) * SET["val_share"])))
            test[name], train[name] = shuffled[:count], shuffled[count:]
    rows = [
        [(f, n) for n, name in enumerate(classes) for f in part.get(name, [])]
        for part in (train, test)
    ]
    if not rows[1]:
        stop("there is no picture to test on: give each class two or more, or a folder val/")
    return classes, *rows


def decode(file):
    """A picture as bytes of imgsz x imgsz x 3; black for one that can't be read."""
    side = SET["imgsz"]
    try:
        with Image.open(file) as image:
            image = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(ImageOps.fit(image, (side, side)))
    except Exception as error:  # Pillow raises almost anything over a broken file
        print(f"can't be read, black instead: {file} ({error})", flush=True)
        return np.zeros((side, side, 3), np.uint8)


class Pictures(keras.utils.PyDataset):
    """Batches of pictures, read when they are needed."""

    def __init__(self, rows, *, shuffle):
        super().__init__(workers=2)
        self.rows, self.shuffle, self.random = list(rows), shuffle, random.Random(SET["seed"])
        self.on_epoch_end()

    def __len__(self):
        return math.ceil(len(self.rows) / SET["batch"])

    def __getitem__(self, number):
        rows = self.rows[number * SET["batch"] : (number + 1) * SET["batch"]]
        return np.stack([decode(file) for file, _n in rows]), np.array([n for _file, n in rows])

    def on_epoch_end(self):
        if self.shuffle:
            self.random.shuffle(self.rows)


def picture_model(class_count):
    """A small network of separable convolutions."""
    start = keras.Input((SET["imgsz"], SET["imgsz"], 3))
    x = layers.Rescaling(1 / 127.5, -1)(start)
    x = layers.Conv2D(32, 3, 2, "same", activation="relu")(x)
    for width in (64, 128, 256):
        x = layers.SeparableConv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(start, layers.Dense(class_count, activation="softmax")(x))


def train_pictures():
    """Classes from folders."""
    classes, train, test = find_pictures()
    print(f"{len(classes)} classes: {', '.join(classes[:20])}")
    print(f"training on {len(train)} pictures, testing on {len(test)} others")
    write_json("labels.json", {"classes": classes})
    model = picture_model(len(classes))
    fit(model, Pictures(train, shuffle=True), Pictures(test, shuffle=False), classify=True)


# -- a table ----------------------------------------------------------------------------------------


def read_table():
    """The table, and the name of its target."""
    files = [DATASET] if DATASET.is_file() else sorted(DATASET.rglob("*.csv"))
    train = [file for file in files if file.stem.lower() == "train"] or files
    if len(train) != 1:
        stop(f"{DATASET} must hold one CSV file, or train.csv; found {len(files)}")
    table = pd.read_csv(train[0], sep=None, engine="python", encoding="utf-8-sig")
    table.columns = [str(name).strip() for name in table.columns]
    if len(table) < 5 or table.shape[1] < 2:
        stop(f"{train[0].name} has {len(table)} rows and {table.shape[1]} columns: too few")
    target = SET["target"]
    if target == "auto":
        small = {str(name).lower(): name for name in table.columns}
        target = next((small[n] for n in TARGET_NAMES if n in small), table.columns[-1])
    if target not in table.columns:
        stop(f"there is no column {target!r}; columns: {', '.join(table.columns[:40])}")
    print(f"{len(table)} rows from {train[0].name}; target: column {target!r}")
    return table[table[target].notna()], target


def as_numbers(table, target):
    """Features as a matrix, with what must be known to make it again from new rows."""
    about, parts = {"target": target, "numbers": [], "categories": {}}, []
    for name in table.columns.drop(target):
        column = table[name]
        if pd.api.types.is_numeric_dtype(column):
            middle = float(column.median()) if column.notna().any() else 0.0
            about["numbers"].append({"name": name, "missing": middle})
            parts.append(column.astype(float).fillna(middle).to_numpy()[:, None])
        elif 1 < column.nunique() <= 50:
            values = sorted(column.dropna().astype(str).unique())
            about["categories"][name] = values
            parts.append(
                np.stack([column.astype(str) == value for value in values], 1).astype(float)
            )
        else:
            print(f"left out: column {name!r} ({column.nunique()} different texts)")
    if not parts:
        stop("no column is left to predict from")
    return np.concatenate(parts, 1).astype("float32"), about


def train_table():
    """Classes or a number from the columns of a table."""
    table, target = read_table()
    x, about = as_numbers(table, target)
    values = table[target]
    numeric = pd.api.types.is_numeric_dtype(values)
    classify = not numeric or bool((values % 1 == 0).all() and values.nunique() <= MOST_CLASSES)
    y = values.to_numpy()
    if classify:
        names, y = np.unique(values.astype(str) if not numeric else values, return_inverse=True)
        about["classes"] = names.tolist()
        if len(names) < 2:
            stop(f"column {target!r} has one value only: nothing to tell apart")
    order = np.random.default_rng(SET["seed"]).permutation(len(y))
    count = max(1, round(len(y) * SET["val_share"]))
    train, test = order[count:], order[:count]
    print(f"predicting {len(about['classes'])} classes" if classify else "predicting a number")
    print(f"training on {len(train)} rows, testing on {len(test)} others")
    write_json("columns.json", about)
    start = keras.Input((x.shape[1],))
    scale = layers.Normalization()
    scale.adapt(x[train])
    inner = layers.Dropout(0.1)(layers.Dense(128, activation="relu")(scale(start)))
    inner = layers.Dense(64, activation="relu")(inner)
    if classify:
        end = layers.Dense(len(about["classes"]), activation="softmax")(inner)
    else:
        mean, spread = float(np.mean(y[train])), float(np.std(y[train])) or 1.0
        end = layers.Rescaling(spread, mean)(layers.Dense(1)(inner))
    data = [(x[rows], y[rows].astype("int32" if classify else "float32")) for rows in (train, test)]
    fit(keras.Model(start, end), *data, classify=classify)


# -- training ---------------------------------------------------------------------------------------


class Report(keras.callbacks.Callback):
    """Tells towline how far it is; Keras' own lines are for people."""

    def __init__(self):
        super().__init__()
        self.best = None

    def on_epoch_end(self, epoch, logs=None):
        found = {name: round(float(value), 5) for name, value in (logs or {}).items()}
        progress = {"epoch": epoch + 1, "total_epochs": SET["epochs"], "metrics": found}
        print("\n" + json.dumps({"type": "progress", "data": progress}), flush=True)
        if self.best is None or found["val_loss"] < self.best["val_loss"]:
            self.best = {**found, "epoch": epoch + 1}


def fit(model, train, test, *, classify):
    """Train, keep the best, and save."""
    loss = "sparse_categorical_crossentropy" if classify else "mse"
    metrics = ["accuracy"] if classify else ["mae"]
    model.compile(optimizer=keras.optimizers.Adam(SET["lr"]), loss=loss, metrics=metrics)
    report = Report()
    best = keras.callbacks.ModelCheckpoint(str(OUTPUT / "best.keras"), save_best_only=True)
    callbacks = [report, best]
    if SET["patience"]:
        callbacks.append(keras.callbacks.EarlyStopping(patience=SET["patience"]))
    if isinstance(train, tuple):
        train, more = train[0], {"y": train[1], "batch_size": SET["batch"]}
    else:
        more = {}
    model.fit(
        train, **more, validation_data=test, epochs=SET["epochs"], verbose=2, callbacks=callbacks
    )
    model.save(OUTPUT / "last.keras")
    write_json("metrics.json", report.best)
    print(f"best: {report.best}; saved {OUTPUT / 'best.keras'}")


def write_json(name, value):
    """Write a small file beside the model."""
    (OUTPUT / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main():
    """See what the data is, and train on it."""
    keras.utils.set_random_seed(SET["seed"])
    OUTPUT.mkdir(parents=True, exist_ok=True)
    print(f"Keras {keras.__version__} on {SET['backend']}")
    has_pictures = DATASET.is_dir() and any(p.suffix.lower() in ENDINGS for p in DATASET.rglob("*"))
    train_pictures() if has_pictures else train_table()


def stop(why):
    """End with a plain reason."""
    sys.exit(f"error: {why}")


if __name__ == "__main__":
    main()
