"""PyTorch: the loop that everybody writes, with a best and a last checkpoint."""

import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))
EPOCHS = 6


def build():
    """A small convolutional network for 8x8 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
    )


def train_epoch(model, loader, optimizer):
    """One pass over the training part; returns its mean loss."""
    model.train()
    total = 0.0
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    """Mean loss and accuracy on the validation part."""
    model.eval()
    loss = right = 0.0
    for images, labels in loader:
        output = model(images)
        loss += nn.functional.cross_entropy(output, labels, reduction="sum").item()
        right += (output.argmax(1) == labels).sum().item()
    return loss / len(loader.dataset), right / len(loader.dataset)


def main():
    """Train, and keep the best."""
    torch.manual_seed(7)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    train, valid = random_split(TensorDataset(images, torch.tensor(digits.target)), [1437, 360])
    train_loader = DataLoader(train, batch_size=64, shuffle=True)
    valid_loader = DataLoader(valid, batch_size=256)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    OUTPUT.mkdir(exist_ok=True)
    best = 0.0
    for epoch in range(1, EPOCHS + 1):
        loss = train_epoch(model, train_loader, optimizer)
        val_loss, accuracy = evaluate(model, valid_loader)
        print(
            f"Epoch {epoch}/{EPOCHS}  loss={loss:.4f}  val_loss={val_loss:.4f}"
            f"  accuracy={accuracy:.4f}"
        )
        torch.save(model.state_dict(), OUTPUT / "last.pt")
        if accuracy > best:
            best = accuracy
            torch.save(model.state_dict(), OUTPUT / "best.pt")


if __name__ == "__main__":
    main()
