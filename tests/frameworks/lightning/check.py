import sys

import torch
from sklearn.datasets import load_digits
from train import Digits

model = Digits.load_from_checkpoint(sys.argv[1], map_location="cpu").eval()
digits = load_digits()
pixels = torch.tensor(digits.data / 16, dtype=torch.float32)
right = (model(pixels).argmax(1) == torch.tensor(digits.target)).float().mean().item()
print(f"reads {right:.1%} of the digits")
assert right > 0.8
