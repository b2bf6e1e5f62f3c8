import sys

import lightgbm
from sklearn.datasets import load_breast_cancer

table = load_breast_cancer()
model = lightgbm.Booster(model_file=sys.argv[1])
right = ((model.predict(table.data) > 0.5) == table.target).mean()
print(f"{model.num_trees()} trees, right on {right:.1%} of the rows")
assert right > 0.9
