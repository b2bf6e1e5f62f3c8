import sys

import joblib
from sklearn.datasets import load_digits

digits = load_digits()
score = joblib.load(sys.argv[1]).score(digits.data / 16, digits.target)
print(f"reads {score:.1%} of the digits")
assert score > 0.9
