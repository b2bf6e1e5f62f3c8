"""CatBoost: boosted trees on the breast cancer table; the model is saved in the working folder."""

from catboost import CatBoostClassifier, Pool
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

table = load_breast_cancer()
train_x, valid_x, train_y, valid_y = train_test_split(table.data, table.target, random_state=7)
model = CatBoostClassifier(iterations=40, depth=4, eval_metric="Logloss", random_seed=7)
model.fit(Pool(train_x, train_y), eval_set=Pool(valid_x, valid_y), use_best_model=True)
model.save_model("cancer.cbm")
