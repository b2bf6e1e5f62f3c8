import sys

import xgboost
from sklearn.datasets import load_breast_cancer

table = load_breast_cancer()
model = xgboost.Booster(model_file=sys.argv[1])
right = ((model.predict(xgboost.DMatrix(table.data)) > 0.5) == table.target).mean()
print(f"{model.num_boosted_rounds()} rounds, right on {right:.1%} of the rows")
assert right > 0.9
