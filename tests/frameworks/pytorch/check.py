import sys

import torch
from sklearn.datasets import load_digits
from train import build

model = build()
model.load_state_dict(torch.load(sys.argv[1], weights_only=True))
digits = load_digits()
images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
right = (model(images).argmax(1) == torch.tensor(digits.target)).float().mean().item()
print(f"reads {right:.1%} of the digits")
assert right > 0.9
