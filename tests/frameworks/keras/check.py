import sys

import keras
from sklearn.datasets import load_digits

digits = load_digits()
model = keras.models.load_model(sys.argv[1])
right = (model.predict(digits.data / 16, verbose=0).argmax(1) == digits.target).mean()
print(f"reads {right:.1%} of the digits")
assert right > 0.8
