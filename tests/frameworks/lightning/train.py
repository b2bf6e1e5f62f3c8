"""Lightning: its own bar, its own folder (lightning_logs), the best checkpoint by val_loss."""

import logging

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Digits(lightning.LightningModule):
    """One hidden layer over the pixels."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pixels):
        return self.net(pixels)

    def training_step(self, batch):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch):
        output = self(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(output, batch[1]), prog_bar=True)
        self.log("val_acc", (output.argmax(1) == batch[1]).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main():
    """Train on the handwritten digits."""
    said = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    said.addFilter(lambda record: "Tip:" not in record.getMessage())  # its advertisements
    lightning.seed_everything(7)
    digits = load_digits()
    pixels = torch.tensor(digits.data / 16, dtype=torch.float32)
    train, valid = random_split(TensorDataset(pixels, torch.tensor(digits.target)), [1437, 360])
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="auto",
        logger=[CSVLogger("."), TensorBoardLogger(".")],
        callbacks=[ModelCheckpoint(monitor="val_loss", filename="{epoch}-{val_loss:.3f}")],
        log_every_n_steps=5,
    )
    trainer.fit(
        Digits(), DataLoader(train, batch_size=128, shuffle=True), DataLoader(valid, batch_size=180)
    )


if __name__ == "__main__":
    main()
