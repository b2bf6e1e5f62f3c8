import sys

from catboost import CatBoostClassifier
from sklearn.datasets import load_breast_cancer

table = load_breast_cancer()
model = CatBoostClassifier().load_model(sys.argv[1])
right = (model.predict(table.data) == table.target).mean()
print(f"{model.tree_count_} trees, right on {right:.1%} of the rows")
assert right > 0.9
