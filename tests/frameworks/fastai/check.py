import sys

from fastai.tabular.all import load_learner
from sklearn.datasets import load_breast_cancer

learner = load_learner(sys.argv[1])
frame = load_breast_cancer(as_frame=True).frame
_row, label, _chances = learner.predict(frame.iloc[0])
print(f"says {label.item()} of the first row")
assert label.item() == frame["target"][0]
