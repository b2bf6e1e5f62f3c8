"""Accelerate with a tqdm bar over all steps; state folders on the way, safetensors at the end."""

import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm.auto import tqdm

OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))
EPOCHS = 3

torch.manual_seed(7)
digits = load_digits()
pixels = torch.tensor(digits.data / 16, dtype=torch.float32)
loader = DataLoader(TensorDataset(pixels, torch.tensor(digits.target)), 64, shuffle=True)
accelerator = Accelerator(
    project_config=ProjectConfiguration(str(OUTPUT), automatic_checkpoint_naming=True)
)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

bar = tqdm(range(EPOCHS * len(loader)), desc="Steps")
for epoch in range(EPOCHS):
    total = 0.0
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item()
        bar.update(1)
        bar.set_postfix(loss=loss.item(), epoch=epoch)
    tqdm.write(f"epoch {epoch + 1}/{EPOCHS}: loss={total / len(loader):.4f}")
    accelerator.save_state()
bar.close()
accelerator.save_model(model, OUTPUT / "final")
