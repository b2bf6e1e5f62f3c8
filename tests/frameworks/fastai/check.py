import sys

from fastai.tabular.all import load_learner
from sklearn.datasets import load_breast_cancer

learner = load_learner(sys.argv[1])
frame = load_breast_cancer(as_frame=True).frame.astype({"target": str})
chances, _none = learner.get_preds(dl=learner.dls.test_dl(frame.drop(columns="target")))
answers = [learner.dls.vocab[number] for number in chances.argmax(1)]
right = (frame["target"] == answers).mean()
print(f"right on {right:.1%} of the rows")
assert right > 0.9
