"""XGBoost: boosted trees on the breast cancer table, evaluated after every round."""

import os
from pathlib import Path

import xgboost
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))

table = load_breast_cancer()
train_x, valid_x, train_y, valid_y = train_test_split(table.data, table.target, random_state=7)
train = xgboost.DMatrix(train_x, train_y)
valid = xgboost.DMatrix(valid_x, valid_y)
model = xgboost.train(
    {"objective": "binary:logistic", "eval_metric": ["logloss", "auc"], "eta": 0.2, "seed": 7},
    train,
    num_boost_round=30,
    evals=[(train, "train"), (valid, "valid")],
)

OUTPUT.mkdir(exist_ok=True)
model.save_model(OUTPUT / "model.ubj")
