import sys

import torch
from sklearn.datasets import load_digits
from train import build

state = torch.load(sys.argv[1], map_location="cpu", weights_only=False)
model = build().eval()
model.load_state_dict(state["state_dict"])
digits = load_digits()
images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
images = torch.nn.functional.interpolate(images, size=32)
right = (model(images).argmax(1) == torch.tensor(digits.target)).float().mean().item()
print(f"epoch {state['epoch']}, reads {right:.1%} of the digits")
assert right > 0.5
