"""timm: its model, optimizer, logging habits and CheckpointSaver, as in its own train.py."""

import logging
import os
from collections import OrderedDict
from pathlib import Path

import timm
import torch
from sklearn.datasets import load_digits
from timm.optim import create_optimizer_v2
from timm.utils import (
    AverageMeter,
    CheckpointSaver,
    accuracy,
    setup_default_logging,
    update_summary,
)
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output")) / "train" / "digits"
EPOCHS = 3
say = logging.getLogger("train").info


def build():
    """The smallest of timm's test models, for grey pictures."""
    return timm.create_model("test_vit", num_classes=10, in_chans=1, img_size=32)


def train_epoch(epoch, model, loader, optimizer):
    """One pass; a line every few batches, in the form of timm's train.py."""
    model.train()
    losses = AverageMeter()
    for number, (images, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(labels))
        if number % 8 == 0 or number == len(loader) - 1:
            percent = 100.0 * number / (len(loader) - 1)
            say(
                f"Train: {epoch} [{number:>4d}/{len(loader)} ({percent:>3.0f}%)]  "
                f"Loss: {losses.val:#.3g} ({losses.avg:#.3g})  "
                f"LR: {optimizer.param_groups[0]['lr']:.3e}"
            )
    return OrderedDict(loss=losses.avg)


@torch.no_grad()
def validate(model, loader):
    """Loss and accuracy on the validation part."""
    model.eval()
    losses, top1 = AverageMeter(), AverageMeter()
    for number, (images, labels) in enumerate(loader):
        output = model(images)
        losses.update(nn.functional.cross_entropy(output, labels).item(), len(labels))
        top1.update(accuracy(output, labels, topk=(1,))[0].item(), len(labels))
        say(
            f"Test: [{number:>4d}/{len(loader) - 1}]  Loss: {losses.val:>7.3f} ({losses.avg:>6.3f})  "
            f"Acc@1: {top1.val:>7.3f} ({top1.avg:>7.3f})"
        )
    return OrderedDict(loss=losses.avg, top1=top1.avg)


def main():
    """Train, with summary.csv, last and best checkpoints."""
    setup_default_logging()
    torch.manual_seed(7)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    images = nn.functional.interpolate(images, size=32)
    train, valid = random_split(TensorDataset(images, torch.tensor(digits.target)), [1437, 360])
    model = build()
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3)
    OUTPUT.mkdir(parents=True)
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=str(OUTPUT), decreasing=False)
    best = None
    for epoch in range(EPOCHS):
        loader = DataLoader(train, batch_size=64, shuffle=True)
        train_metrics = train_epoch(epoch, model, loader, optimizer)
        metrics = validate(model, DataLoader(valid, batch_size=180))
        summary = OUTPUT / "summary.csv"
        update_summary(epoch, train_metrics, metrics, str(summary), write_header=best is None)
        best, best_epoch = saver.save_checkpoint(epoch, metric=metrics["top1"])
    say(f"*** Best metric: {best} (epoch {best_epoch})")


if __name__ == "__main__":
    main()
