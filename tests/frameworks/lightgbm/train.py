"""LightGBM: boosted trees on the breast cancer table, stopped early by the validation part."""

import os
from pathlib import Path

import lightgbm
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))

table = load_breast_cancer()
train_x, valid_x, train_y, valid_y = train_test_split(table.data, table.target, random_state=7)
train = lightgbm.Dataset(train_x, train_y)
valid = lightgbm.Dataset(valid_x, valid_y, reference=train)
model = lightgbm.train(
    {"objective": "binary", "metric": ["binary_logloss", "auc"], "num_threads": 1, "seed": 7},
    train,
    num_boost_round=60,
    valid_sets=[train, valid],
    valid_names=["train", "valid"],
    callbacks=[lightgbm.log_evaluation(5), lightgbm.early_stopping(15)],
)

OUTPUT.mkdir(exist_ok=True)
model.save_model(OUTPUT / "model.txt")
