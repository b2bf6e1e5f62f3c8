import sys

from fastai.tabular.all import load_learner
from sklearn.datasets import load_breast_cancer

learner = load_learner(sys.argv[1])
frame = load_breast_cancer(as_frame=True).frame.astype({"target": str})
_row, label, _chances = learner.predict(frame.iloc[0])
print(f"says {learner.dls.vocab[label]} of the first row")
assert learner.dls.vocab[label] == frame["target"][0]
