"""Name what a picture shows: a small residual network in PyTorch, from random weights.

Reads one folder of pictures for each class from TOWLINE_DATASET, inside train/ and val/ or not split;
writes best.pt, last.pt, labels.json and metrics.json into TOWLINE_OUTPUT. Settings come as JSON in
TOWLINE_SETTINGS; what is not given there is as in DEFAULTS. Needs torch, Pillow and numpy.

    saved = torch.load("best.pt", weights_only=True)
    model = Net(len(saved["classes"]), saved["width"]); model.load_state_dict(saved["model"])
"""

import copy
import json
import os
import random
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn
from torch.utils.data import DataLoader, Dataset, default_collate

DATASET = Path(os.environ.get("TOWLINE_DATASET", "dataset"))
OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))
DEFAULTS = {
    "epochs": 20,
    "batch": 64,
    "imgsz": 64,
    "lr": 0.002,
    "weight_decay": 0.01,
    "width": 32,
    "weights": "none",
    "flip": False,
    "patience": 0,
    "device": "auto",
    "workers": 4,
    "val_share": 0.2,
    "seed": 0,
}
SET = {**DEFAULTS, **json.loads(os.environ.get("TOWLINE_SETTINGS", "{}"))}
ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
TEST_NAMES = ("val", "valid", "validation", "test")
MOST_IN_MEMORY = 2_000_000_000  # bytes of decoded pictures


# -- the data ---------------------------------------------------------------------------------------


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
    while root.is_dir() and not (root / "train").is_dir():
        inner = [p for p in root.iterdir() if p.name[0] not in "._"]
        if (
            len(inner) != 1
            or not inner[0].is_dir()
            or not any(p.is_dir() for p in inner[0].iterdir())
        ):
            break
        root = inner[0]  # dataset/pets/cat, dataset/pets/dog
    if not root.is_dir():
        stop(
            f"{DATASET} is not a folder; this training wants one folder of pictures for each class"
        )
    is_split = (root / "train").is_dir()
    train = pictures_of(root / "train" if is_split else root)
    classes = sorted(
        train, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name)
    )
    if len(classes) < 2:
        stop(
            f"{root} must hold at least two folders of pictures, one for each class; found {classes}"
        )
    test_folder = (
        next((root / n for n in TEST_NAMES if (root / n).is_dir()), None) if is_split else None
    )
    if test_folder is not None:
        test = pictures_of(test_folder)
        for name in sorted(set(test) - set(classes)):
            print(f"left out: {test_folder.name}/{name}, a class that train/ does not have")
        held = {name: test.get(name, []) for name in classes}
    else:
        held = {name: hold_back(train[name]) for name in classes}
        train = {name: [f for f in train[name] if f not in set(held[name])] for name in classes}
    rows = [
        [(file, n) for n, name in enumerate(classes) for file in part[name]]
        for part in (train, held)
    ]
    if not rows[1]:
        stop("there is no picture to test on: give each class two or more, or a folder val/")
    return classes, *rows


def hold_back(files):
    """A random part of one class's files, to test on."""
    count = min(len(files) - 1, max(1, round(len(files) * SET["val_share"])))
    return random.Random(SET["seed"]).sample(files, count)


def decode(file):
    """A picture as a tensor of 3 x imgsz x imgsz bytes; None for one that can't be read."""
    side = SET["imgsz"]
    try:
        with Image.open(file) as image:
            image.draft("RGB", (side, side))  # a JPEG is decoded at about this size
            image = ImageOps.exif_transpose(image).convert("RGB")
            image = ImageOps.fit(image, (side, side), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    except Exception as error:  # Pillow raises almost anything over a broken file
        print(f"left out: {file} ({error})", flush=True)
        return None


class Pictures(Dataset):
    """Pictures that are read when they are needed; kept where all of them fit into memory."""

    def __init__(self, rows):
        self.rows = rows
        self.kept = None
        if len(rows) * SET["imgsz"] ** 2 * 3 <= MOST_IN_MEMORY:
            self.kept = [pair for pair in map(self.read, range(len(rows))) if pair is not None]
            if not self.kept:
                stop("none of the pictures can be read")

    def read(self, number):
        file, label = self.rows[number]
        picture = decode(file)
        return None if picture is None else (picture, label)

    def __len__(self):
        return len(self.rows if self.kept is None else self.kept)

    def __getitem__(self, number):
        return self.read(number) if self.kept is None else self.kept[number]


def collate(pairs):
    """Make a batch of the pictures that could be read; None when there are none."""
    pairs = [pair for pair in pairs if pair is not None]
    return default_collate(pairs) if pairs else None


def batches(pictures, *, shuffle):
    """A loader of batches."""
    workers = 0 if pictures.kept is not None else SET["workers"]
    return DataLoader(
        pictures,
        batch_size=SET["batch"],
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate,
    )


# -- the network ------------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions around which the input is led past."""

    def __init__(self, inner, outer, stride):
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(inplace=True),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        same = stride == 1 and inner == outer
        self.past = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x):
        return torch.relu(self.path(x) + self.past(x))


class Net(nn.Module):
    """Four stages, each half as large and twice as deep as the one before."""

    def __init__(self, class_count, width):
        super().__init__()
        sizes = [width, width * 2, width * 4, width * 8]
        stages = [Block(a, b, 2) for a, b in pairwise(sizes)]
        first = [
            nn.Conv2d(3, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        self.body = nn.Sequential(*first, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(sizes[-1], class_count)

    def forward(self, x):
        return self.head(self.body((x.float() / 255 - 0.5) / 0.25))


def take_weights(model):
    """Go on from weights of an earlier training; a head for other classes is left as it is."""
    if SET["weights"] == "none":
        return
    places = [Path(SET["weights"]), DATASET / SET["weights"], DATASET.parent / SET["weights"]]
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        stop(
            f"weights {SET['weights']!r} are neither in the code nor in the dataset that was uploaded"
        )
    saved = torch.load(path, map_location="cpu", weights_only=True)
    theirs, ours = saved.get("model", saved), model.state_dict()
    fits = {k: v for k, v in theirs.items() if k in ours and v.shape == ours[k].shape}
    if not fits:
        stop(f"{path} does not fit this network; was it made with another `width`?")
    model.load_state_dict(fits, strict=False)
    print(f"{len(fits)} of {len(ours)} weights from {path}")


# -- training ---------------------------------------------------------------------------------------


def shifted(x):
    """Move a batch by a few pixels and mirror it, so that no picture is seen twice alike."""
    pad = max(1, SET["imgsz"] // 16)
    x = nn.functional.pad(x.float(), (pad,) * 4, mode="replicate")
    top, left = random.randint(0, 2 * pad), random.randint(0, 2 * pad)
    x = x[:, :, top : top + SET["imgsz"], left : left + SET["imgsz"]]
    return x.flip(3) if SET["flip"] and random.random() < 0.5 else x


def train_epoch(model, loader, device, optimizer, schedule, scaler):
    """One pass; the mean loss."""
    model.train()
    total, seen = 0.0, 0
    for x, y in filter(None, loader):
        x, y = shifted(x.to(device, non_blocking=True)), y.to(device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
            loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        total, seen = total + loss.item() * len(y), seen + len(y)
    return total / max(seen, 1)


@torch.no_grad()
def test(model, loader, device):
    """Loss and accuracy on pictures that are never trained on, and accuracy by class."""
    model.eval()
    loss, hits, counts = (
        0.0,
        torch.zeros(model.head.out_features),
        torch.zeros(model.head.out_features),
    )
    for x, y in filter(None, loader):
        answers = model(x.to(device)).float().cpu()
        loss += nn.functional.cross_entropy(answers, y, reduction="sum").item()
        counts += torch.bincount(y, minlength=len(counts))
        hits += torch.bincount(y[answers.argmax(1) == y], minlength=len(counts))
    seen = counts.sum().item()
    return {"val_loss": loss / seen, "accuracy": hits.sum().item() / seen}, hits / counts


def report(epoch, metrics, seconds):
    """Print one line for people and one for towline."""
    metrics = {name: round(float(value), 5) for name, value in metrics.items()}
    said = ", ".join(f"{name} {value:g}" for name, value in metrics.items())
    print(f"epoch {epoch} of {SET['epochs']}: {said} ({seconds:.1f} s)")
    progress = {"epoch": epoch, "total_epochs": SET["epochs"], "metrics": metrics}
    print(json.dumps({"type": "progress", "data": progress}), flush=True)


def save(name, model, classes, epoch, metrics):
    """Write the weights in one move, so that whoever fetches them gets all or the ones before."""
    weights = {key: value.cpu() for key, value in model.state_dict().items()}
    about = {"classes": classes, "imgsz": SET["imgsz"], "width": SET["width"], "epoch": epoch}
    torch.save({"model": weights, **about, "metrics": metrics}, OUTPUT / f"{name}.part")
    (OUTPUT / f"{name}.part").replace(OUTPUT / name)


def write_json(name, value):
    """Write a small file beside the model."""
    (OUTPUT / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def choose_device():
    """The GPU where there is one."""
    if SET["device"] == "cuda" and not torch.cuda.is_available():
        stop("device=cuda was asked for, but torch finds no GPU")
    has_gpu = SET["device"] != "cpu" and torch.cuda.is_available()
    name = f"GPU {torch.cuda.get_device_name()}, half precision" if has_gpu else "CPU"
    print(f"training on the {name}")
    return torch.device("cuda" if has_gpu else "cpu")


def main():
    """Load, train epoch by epoch, keep the best."""
    random.seed(SET["seed"])
    torch.manual_seed(SET["seed"])
    OUTPUT.mkdir(parents=True, exist_ok=True)
    classes, train_rows, test_rows = find_pictures()
    print(f"{len(classes)} classes: {', '.join(classes[:20])}{' ...' if len(classes) > 20 else ''}")
    print(f"training on {len(train_rows)} pictures, testing on {len(test_rows)} others")
    write_json("labels.json", {"classes": classes})
    device = choose_device()
    model = Net(len(classes), SET["width"])
    take_weights(model)
    model.to(device)
    train_loader = batches(Pictures(train_rows), shuffle=True)
    test_loader = batches(Pictures(test_rows), shuffle=False)
    optimizer = torch.optim.AdamW(model.parameters(), SET["lr"], weight_decay=SET["weight_decay"])
    steps = SET["epochs"] * len(train_loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, SET["lr"], total_steps=steps)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    best, best_epoch, by_class = {}, 0, None
    for epoch in range(1, SET["epochs"] + 1):
        began = time.monotonic()
        loss = train_epoch(model, train_loader, device, optimizer, schedule, scaler)
        found, hits = test(model, test_loader, device)
        metrics = {"loss": loss, **found}
        report(epoch, metrics, time.monotonic() - began)
        save("last.pt", model, classes, epoch, metrics)
        if not best or (found["accuracy"], -found["val_loss"]) > (
            best["accuracy"],
            -best["val_loss"],
        ):
            best, best_epoch, by_class = copy.deepcopy(metrics), epoch, hits
            save("best.pt", model, classes, epoch, metrics)
        if SET["patience"] and epoch - best_epoch >= SET["patience"]:
            print(f"no gain for {SET['patience']} epochs: stopped")
            break
    shares = {n: round(v, 4) for n, v in zip(classes, by_class.tolist()) if v >= 0}
    write_json("metrics.json", {**best, "epoch": best_epoch, "accuracy_by_class": shares})
    print(f"best epoch: {best_epoch}, accuracy {best['accuracy']:.1%}; saved {OUTPUT / 'best.pt'}")


def stop(why):
    """End with a plain reason."""
    sys.exit(f"error: {why}")


if __name__ == "__main__":
    main()
