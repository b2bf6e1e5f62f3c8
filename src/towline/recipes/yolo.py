"""Find, outline or name things in pictures with Ultralytics YOLO.

Reads a YOLO dataset from TOWLINE_DATASET: a data.yaml with its pictures and labels, or images/ and
labels/ without one, or one folder of pictures for each class. Whatever paths data.yaml names, they are
looked for in the dataset and written anew, so that a dataset made on another machine works here. Writes
train/weights/best.pt and last.pt, train/results.csv and plots into TOWLINE_OUTPUT. Settings come as
JSON in TOWLINE_SETTINGS; what is not given there is as in DEFAULTS. Needs ultralytics.
"""

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path

import yaml

DATASET = Path(os.environ.get("TOWLINE_DATASET", "dataset")).absolute()
OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output")).absolute()
DEFAULTS = {
    "model": "yolo11n",
    "task": "auto",
    "epochs": 100,
    "batch": 16,
    "imgsz": 640,
    "device": "auto",
    "patience": 100,
    "optimizer": "auto",
    "lr0": 0.01,
    "cos_lr": False,
    "freeze": 0,
    "close_mosaic": 10,
    "fraction": 1.0,
    "single_cls": False,
    "amp": True,
    "cache": "off",
    "save_period": -1,
    "workers": 4,
    "plots": True,
    "val_share": 0.2,
    "seed": 0,
}
SET = {**DEFAULTS, **json.loads(os.environ.get("TOWLINE_SETTINGS", "{}"))}
ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".mpo", ".dng", ".pfm"}
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test",)}
NEW_EPOCHS = []  # trained, not reported yet
SUFFIX = {"detect": "", "segment": "-seg", "classify": "-cls", "pose": "-pose"}


# -- the data ---------------------------------------------------------------------------------------


def pictures_below(folder):
    """All pictures in a folder and the folders in it."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.name[0] != ".")


def label_of(picture):
    """The label file that belongs to a picture: the last `images` of its path becomes `labels`."""
    parts = list(picture.parts)
    for number in range(len(parts) - 2, -1, -1):
        if parts[number] == "images":
            parts[number] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def find_yaml():
    """data.yaml, or the one YAML file that names classes; None without one."""
    if DATASET.is_file():
        stop(f"{DATASET.name} is one file; YOLO wants a folder with pictures and labels")
    files = sorted(p for p in DATASET.rglob("*.y*ml") if len(p.relative_to(DATASET).parts) <= 3)
    named = [p for p in files if p.stem in ("data", "dataset")]
    for path in named + [p for p in files if p not in named]:
        try:
            said = yaml.safe_load(path.read_text("utf-8-sig"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            print(f"{path.name} can't be read: {error}")
            continue
        if isinstance(said, dict) and ("names" in said or "nc" in said):
            return path, said
    return None, {}


def resolve(entry, base, said_path):
    """Where a path of data.yaml lies here: as said, else its longest end that is in the dataset."""
    text = str(entry).replace("\\", "/")
    for place in (base / said_path / text, base / text, DATASET / text):
        if place.exists() and DATASET in (place.resolve(), *place.resolve().parents):
            return place.resolve()
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        for root in (base, DATASET):
            place = root.joinpath(*parts[start:])
            if place.exists():
                return place.resolve()
    return None


def splits_of_yaml(path, said):
    """{split: pictures} of a data.yaml; a path that is nowhere in the dataset is an error."""
    found = {}
    for split in SPLITS:
        entries = said.get(split) or ([] if split != "val" else said.get("valid") or [])
        pictures = []
        for entry in entries if isinstance(entries, list) else [entries]:
            place = resolve(entry, path.parent, str(said.get("path") or "."))
            if place is None:
                if split == "test":
                    continue
                stop(f"{path.name}: {split}: {entry} is not in the dataset")
            pictures += listed(place) if place.suffix == ".txt" else pictures_below(place)
        if pictures:
            found[split] = pictures
    return found


def listed(file):
    """Pictures that a list file names, one a line."""
    lines = file.read_text("utf-8-sig").splitlines()
    places = [resolve(line.strip(), file.parent, ".") for line in lines if line.strip()]
    return [place for place in places if place is not None]


def splits_of_folders():
    """{split: pictures} by the names of folders: images/train, train/images, or all in one."""
    found = {}
    for split, names in SPLITS.items():
        for name in names:
            for folder in (DATASET / "images" / name, DATASET / name / "images", DATASET / name):
                if split not in found and folder.is_dir() and (some := pictures_below(folder)):
                    found[split] = some
    return found or {"train": pictures_below(DATASET)}


def hold_back(splits):
    """Let a part of the training pictures be the ones to test on, where there are none."""
    if "val" in splits or "test" in splits:
        return {"train": splits["train"], "val": splits.get("val") or splits["test"]}
    pictures = list(splits["train"])
    random.Random(SET["seed"]).shuffle(pictures)
    count = min(len(pictures) - 1, max(1, round(len(pictures) * SET["val_share"])))
    if count < 1:
        stop("one picture is too few: there must be one to train on and one to test on")
    print(f"no val split: {count} of {len(pictures)} pictures are held back to test on")
    return {"train": sorted(pictures[count:]), "val": sorted(pictures[:count])}


def read_labels(pictures):
    """Rows of all label files as lists of numbers, and how many pictures have none."""
    rows, bare = [], 0
    for picture in pictures:
        try:
            lines = label_of(picture).read_text("utf-8").splitlines()
            rows += [[float(word) for word in line.split()] for line in lines if line.strip()]
            bare += not lines
        except FileNotFoundError:
            bare += 1
        except ValueError as error:
            print(f"{label_of(picture)}: {error}")
    return rows, bare


def names_of(said, rows):
    """{number: class name}; made up where data.yaml names none."""
    names = said.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        highest = int(max((row[0] for row in rows), default=0))
        count = int(said.get("nc") or highest + 1)
        classes = DATASET / "classes.txt"
        lines = classes.read_text("utf-8").split("\n") if classes.is_file() else []
        made = [line.strip() for line in lines if line.strip()]
        names = (
            dict(enumerate(made)) if len(made) >= count else {n: f"class{n}" for n in range(count)}
        )
    return {int(number): str(name) for number, name in names.items()}


def choose_task(said, rows):
    """Pose where data.yaml says so, segment where rows are outlines, else detect."""
    if SET["task"] != "auto":
        return SET["task"]
    if said.get("kpt_shape"):
        return "pose"
    outlines = sum(len(row) > 6 and len(row) % 2 == 1 for row in rows)
    return "segment" if outlines * 2 > len(rows) else "detect"


def prepare_yolo():
    """Write the data.yaml that is trained with; returns its path and the task."""
    path, said = find_yaml()
    splits = splits_of_yaml(path, said) if path else {}
    if not splits.get("train"):
        splits = {**splits_of_folders(), **{k: v for k, v in splits.items() if k != "train"}}
    if not splits.get("train"):
        stop(f"no pictures to train on in {DATASET}")
    splits = hold_back(splits)
    rows, bare = read_labels(splits["train"])
    if not rows:
        stop(f"none of the {len(splits['train'])} training pictures has labels; looked for"
             f" {label_of(splits['train'][0])} and so on")  # fmt: skip
    names = names_of(said, rows)
    counts = Counter(int(row[0]) for row in rows)
    task = choose_task(said, rows)
    print(f"{task}: {', '.join(f'{len(v)} pictures for {k}' for k, v in splits.items())}")
    print("objects by class: " + ", ".join(f"{n} {counts[k]}" for k, n in sorted(names.items())))
    if bare:
        print(f"{bare} training pictures have no objects: they count as background")
    data = {"path": str(DATASET), "names": names}
    for split, pictures in splits.items():
        file = OUTPUT / f"{split}.txt"
        file.write_text("".join(f"{picture}\n" for picture in pictures), encoding="utf-8")
        data[split] = str(file)
    if task == "pose":
        data |= {key: said[key] for key in ("kpt_shape", "flip_idx", "kpt_names") if key in said}
    file = OUTPUT / "data.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file, task


def has_class_folders(folder):
    """Whether a folder holds one folder of pictures for each class, and no labels."""
    inner = [p for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._"]
    names = {p.name for p in inner}
    return (
        len(inner) > 1
        and not names & {"images", "labels"}
        and all(pictures_below(p) for p in inner)
    )


def prepare_classes():
    """The folder to give to YOLO for naming pictures; None where there are no class folders."""
    train = next((DATASET / n for n in SPLITS["train"] if (DATASET / n).is_dir()), None)
    if (train is not None and has_class_folders(train)) or has_class_folders(DATASET):
        root, splits = DATASET, {}
        if train is not None and has_class_folders(train):
            for split, names in SPLITS.items():
                place = next((root / n for n in names if (root / n).is_dir()), None)
                if place is not None:
                    splits[split] = by_class(place)
        else:
            splits["train"] = by_class(root)
        return link_classes(splits)
    return None


def by_class(folder):
    """{class: pictures} of a folder of class folders."""
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._")
    return {p.name: pictures_below(p) for p in inner}


def link_classes(splits):
    """A folder of links to the pictures as YOLO wants them: train/ and val/, classes below."""
    if "val" not in splits and "test" not in splits:
        held = {name: hold_back({"train": files}) for name, files in splits["train"].items()}
        splits = {
            split: {n: parts[split] for n, parts in held.items()} for split in ("train", "val")
        }
    splits = {"train": splits["train"], "val": splits.get("val") or splits["test"]}
    root = DATASET.parent / "yolo-classes"
    for split, classes in splits.items():
        for name, files in classes.items():
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number, file in enumerate(files):
                link = root / split / name / f"{number}-{file.name}"
                if not link.exists():
                    link.symlink_to(file)
        print(f"{split}: " + ", ".join(f"{name} {len(files)}" for name, files in classes.items()))
    return root


# -- training ---------------------------------------------------------------------------------------


def choose_model(task):
    """Weights or a plan of layers: what was uploaded under this name, else what Ultralytics knows."""
    name = SET["model"]
    for place in (Path(name), DATASET / name, DATASET.parent / name):
        if place.is_file():
            return str(place.absolute())
    if name.startswith((".", "/", "~")) or "/" in name:
        stop(f"model {name!r} is neither in the code nor in the dataset that was uploaded")
    stem, dot, ending = name.rpartition(".")
    if not dot:
        stem, ending = name, "pt"
    if not any(stem.endswith(mark) for mark in ("-seg", "-cls", "-pose", "-obb")):
        stem += SUFFIX[task]
    return f"{stem}.{ending}"


def report(trainer):
    """Tell towline how far it is, once an epoch; Ultralytics' own lines are for people."""
    if not NEW_EPOCHS:
        return  # the last test of the best weights is no epoch of its own
    NEW_EPOCHS.clear()
    losses = trainer.label_loss_items(trainer.tloss, prefix="train")
    found = {**losses, **trainer.metrics}
    metrics = {name.replace("(B)", ""): round(float(value), 5) for name, value in found.items()}
    progress = {"epoch": trainer.epoch + 1, "total_epochs": trainer.epochs, "metrics": metrics}
    print("\n" + json.dumps({"type": "progress", "data": progress}), flush=True)


def main():
    """Prepare the data, train, and say where the model is."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(OUTPUT.parent / "yolo-config"))
    data = prepare_classes() if SET["task"] in ("auto", "classify") else None
    task = "classify"
    if data is None:
        if SET["task"] == "classify":
            stop(f"classify wants one folder of pictures for each class in {DATASET}")
        data, task = prepare_yolo()

    from ultralytics import YOLO  # after the data was looked at: it takes seconds

    own = ("model", "task", "val_share", "device", "cache", "optimizer", "freeze")
    arguments = {name: value for name, value in SET.items() if name not in own}
    if task == "classify" and SET["imgsz"] == DEFAULTS["imgsz"]:
        arguments["imgsz"] = 224
    if SET["device"] != "auto":
        arguments["device"] = SET["device"]
    names = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam",
             "rmsprop": "RMSProp"}  # fmt: skip
    arguments["optimizer"] = names.get(SET["optimizer"], "auto")
    arguments["cache"] = False if SET["cache"] == "off" else SET["cache"]
    arguments["freeze"] = SET["freeze"] or None
    os.chdir(OUTPUT.parent)  # a download of weights lands here, and is not taken for the model
    model = YOLO(choose_model(task), task=task)
    model.add_callback("on_train_epoch_end", lambda trainer: NEW_EPOCHS.append(trainer.epoch))
    model.add_callback("on_fit_epoch_end", report)
    model.train(data=str(data), project=str(OUTPUT), name="train", exist_ok=True, **arguments)
    print(f"saved {OUTPUT / 'train' / 'weights' / 'best.pt'}")


def stop(why):
    """End with a plain reason."""
    sys.exit(f"error: {why}")


if __name__ == "__main__":
    main()
