"""scikit-learn: a small neural network on the handwritten digits; `verbose=True` is all it prints."""

import os
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))

digits = load_digits()
train_x, test_x, train_y, test_y = train_test_split(
    digits.data / 16, digits.target, test_size=0.2, random_state=7
)
model = MLPClassifier((64,), max_iter=25, verbose=True, random_state=7)
model.fit(train_x, train_y)
print(f"accuracy on {len(test_y)} unseen digits: {model.score(test_x, test_y):.4f}")

OUTPUT.mkdir(exist_ok=True)
joblib.dump(model, OUTPUT / "digits.joblib")
