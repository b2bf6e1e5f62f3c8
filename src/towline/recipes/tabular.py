"""Predict one column of a table from the others: gradient boosting by scikit-learn or XGBoost.

Reads a CSV file, or a folder with one (or with train.csv and val.csv), from TOWLINE_DATASET; writes
model.joblib, columns.json and metrics.json into TOWLINE_OUTPUT. Settings come as JSON in
TOWLINE_SETTINGS; what is not given there is as in DEFAULTS. Needs scikit-learn and pandas.

    model = joblib.load("model.joblib")
    model.predict(pandas.read_csv("new.csv"))
"""

import copy
import csv
import json
import os
import re
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn import metrics as score
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

DATASET = Path(os.environ.get("TOWLINE_DATASET", "dataset"))
OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))
DEFAULTS = {
    "target": "auto",
    "task": "auto",
    "model": "sklearn",
    "epochs": 100,
    "lr": 0.1,
    "max_depth": 6,
    "patience": 20,
    "drop": "none",
    "max_categories": 200,
    "val_share": 0.2,
    "seed": 0,
}
SET = {**DEFAULTS, **json.loads(os.environ.get("TOWLINE_SETTINGS", "{}"))}
TARGET_NAMES = ("target", "label", "class", "y")
MOST_CLASSES = 20  # a whole number with more different values is a quantity, not a class


# -- reading ----------------------------------------------------------------------------------------


def find_files(path):
    """The table to train on, and the one to test on or None."""
    if path.is_file():
        return path, None
    tables = [
        p for p in sorted(path.rglob("*")) if re.search(r"\.(csv|tsv)(\.gz)?$", p.name.lower())
    ]
    by_stem = {p.name.split(".")[0].lower(): p for p in tables}
    train = by_stem.get("train") or (tables[0] if len(tables) == 1 else None)
    if train is None:
        names = ", ".join(p.name for p in tables[:8]) or "none"
        stop(f"{path} must hold one CSV file, or train.csv and val.csv; CSV files there: {names}")
    return train, next(
        (by_stem[n] for n in ("val", "valid", "validation", "test") if n in by_stem), None
    )


def read_table(path):
    """Read a CSV with whatever separator, decimal sign and encoding it has."""
    with open(path, "rb") as file:
        start = file.read(65536) if path.suffix != ".gz" else b""
    encoding = "utf-8-sig"
    try:
        text = start.decode("utf-8-sig", "strict" if len(start) < 65536 else "ignore")
    except UnicodeDecodeError:
        encoding, text = "cp1252", start.decode("cp1252", "replace")
    try:
        comma = csv.Sniffer().sniff(text, delimiters=",;\t|").delimiter
    except csv.Error:
        comma = "\t" if ".tsv" in path.name else ","
    decimal = "," if comma == ";" and re.search(r"\d,\d", text) else "."
    first = next(csv.reader([text.partition("\n")[0]], delimiter=comma), [])
    headless = bool(first) and all(is_number(cell) for cell in first)
    table = pd.read_csv(
        path,
        sep=comma,
        decimal=decimal,
        encoding=encoding,
        header=None if headless else "infer",
        skipinitialspace=True,
        low_memory=False,
    )
    if headless:
        print(f"{path.name} has no header line: its columns are called c1, c2, ...")
        table.columns = [f"c{number}" for number in range(1, table.shape[1] + 1)]
    table.columns = [str(name).strip() for name in table.columns]
    return table


def is_number(text):
    """Whether a cell holds a number."""
    try:
        float(text.strip())
    except ValueError:
        return False
    return True


# -- looking at the columns -------------------------------------------------------------------------


def choose_target(table):
    """The column to predict."""
    names = list(table.columns)
    if SET["target"] != "auto":
        if SET["target"] not in names:
            stop(f"there is no column {SET['target']!r}; columns: {', '.join(names[:40])}")
        return SET["target"]
    for wanted in TARGET_NAMES:
        for name in names:
            if name.lower() == wanted:
                print(f"target: column {name!r}, by its name (--set target=NAME says another)")
                return name
    print(f"target: column {names[-1]!r}, the last one (--set target=NAME says another)")
    return names[-1]


def is_classification(values):
    """Whether the target names classes; few different whole numbers are classes too."""
    if SET["task"] != "auto":
        return SET["task"] == "classification"
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return True
    different = values.nunique()
    return bool((values % 1 == 0).all()) and different <= min(
        MOST_CLASSES, max(2, len(values) // 5)
    )


def choose_columns(table, target):
    """Names of the number columns and of the category columns that are worth looking at."""
    dropped = {} if SET["drop"] == "none" else dict.fromkeys(SET["drop"].split(","), "as told")
    numbers, categories = [], []
    for name in table.columns.drop(target):
        different = table[name].nunique()
        is_text = not pd.api.types.is_numeric_dtype(table[name])
        if name in dropped:
            continue
        if different < 2:
            dropped[name] = "the same everywhere"
        elif is_text and different > SET["max_categories"]:
            dropped[name] = f"{different} different texts"
        elif is_text:
            categories.append(name)
        else:
            numbers.append(name)
    for name, why in dropped.items():
        print(f"left out: column {name!r} ({why})")
    if not numbers and not categories:
        stop("no column is left to predict from")
    return numbers, categories


def make_columns(numbers, categories):
    """Turn a table into numbers: categories are numbered; what is missing or unknown stays empty."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    return ColumnTransformer([
        ("categories", encode, categories),
        ("numbers", "passthrough", numbers),
    ])


# -- training ---------------------------------------------------------------------------------------


def train_sklearn(x, y, x_test, y_test, category_count, classify):
    """Add one tree at a time; returns the model as it was at its best round."""
    kind = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
    model = kind(
        learning_rate=SET["lr"],
        max_depth=SET["max_depth"],
        categorical_features=list(range(category_count)) or None,
        early_stopping=False,
        warm_start=True,
        random_state=SET["seed"],
    )
    best, best_loss, best_round = None, np.inf, 0
    for number in range(1, SET["epochs"] + 1):
        model.set_params(max_iter=number).fit(x, y)
        found = measure(model, x_test, y_test, classify)
        report(number, found)
        if best is None or found["loss"] < best_loss:
            best, best_loss, best_round = copy.deepcopy(model), found["loss"], number
        if SET["patience"] and number - best_round >= SET["patience"]:
            print(f"no gain for {SET['patience']} rounds: stopped")
            break
    print(f"best round: {best_round}")
    return best


def train_xgboost(x, y, x_test, y_test, category_count, classify):
    """The same with XGBoost, on the GPU where there is one."""
    import xgboost

    class Report(xgboost.callback.TrainingCallback):
        def after_iteration(self, _model, epoch, evals_log):
            losses = {n: v[-1] for n, v in next(iter(evals_log.values())).items()}
            report(epoch + 1, {"loss": next(iter(losses.values())), **losses})
            return False

    kind = xgboost.XGBClassifier if classify else xgboost.XGBRegressor
    model = kind(
        n_estimators=SET["epochs"],
        learning_rate=SET["lr"],
        max_depth=SET["max_depth"],
        early_stopping_rounds=SET["patience"] or None,
        enable_categorical=True,
        feature_types=["c"] * category_count + ["q"] * (x.shape[1] - category_count),
        tree_method="hist",
        device="cuda" if Path("/dev/nvidia0").exists() else "cpu",
        random_state=SET["seed"],
        callbacks=[Report()],
    )
    model.fit(x, y, eval_set=[(x_test, y_test)], verbose=False)
    model.set_params(callbacks=None)  # not part of what is saved
    return model


def measure(model, x, y, classify):
    """How well a model does on rows it was not trained on; the loss is what is to fall."""
    if classify:
        shares = model.predict_proba(x)
        loss = score.log_loss(y, shares, labels=model.classes_)
        found = model.classes_[shares.argmax(axis=1)]
        return {"loss": loss, "accuracy": score.accuracy_score(y, found)}
    found = model.predict(x)
    squared = score.mean_squared_error(y, found)
    return {"loss": squared, "rmse": squared**0.5, "mae": score.mean_absolute_error(y, found)}


def report(number, metrics):
    """Print one line for people and one for towline."""
    metrics = {name: round(float(value), 6) for name, value in metrics.items()}
    print(
        f"round {number} of {SET['epochs']}: {', '.join(f'{k} {v:g}' for k, v in metrics.items())}"
    )
    progress = {"epoch": number, "total_epochs": SET["epochs"], "metrics": metrics}
    print(json.dumps({"type": "progress", "data": progress}), flush=True)


# -- the whole --------------------------------------------------------------------------------------


def split(table, target, test_file, classify):
    """Rows to train on and rows to test on."""
    if test_file is not None:
        test = read_table(test_file)
        missing = [name for name in table.columns if name not in test.columns]
        if missing:
            stop(f"{test_file.name} lacks the columns {', '.join(missing)}")
        print(f"testing on {test_file.name}")
        return table, test[test[target].notna()]
    counts = table[target].value_counts()
    even = table[target] if classify and counts.min() > 1 else None
    wanted = max(1, round(len(table) * SET["val_share"]))
    if even is not None and wanted < len(counts):
        even = None  # too few rows to hold back one of each class
    return train_test_split(table, test_size=wanted, stratify=even, random_state=SET["seed"])


def load():
    """The rows to train on, the rows to test on, the target's name, and whether it names classes."""
    train_file, test_file = find_files(DATASET)
    table = read_table(train_file)
    if table.shape[1] < 2 or len(table) < 5:
        stop(f"{train_file.name} has {len(table)} rows and {table.shape[1]} columns: too few")
    target = choose_target(table)
    known = table[target].notna()
    if not known.all():
        print(f"{(~known).sum()} rows without a {target} are left out")
    table = table[known]
    classify = is_classification(table[target])
    if classify and table[target].nunique() < 2:
        stop(f"column {target!r} has one value only: nothing to tell apart")
    if not classify and not pd.api.types.is_numeric_dtype(table[target]):
        stop(f"column {target!r} holds text; regression needs numbers")
    train, test = split(table, target, test_file, classify)
    what = f"{table[target].nunique()} classes" if classify else "a number"
    print(f"{len(table)} rows from {train_file.name}; predicting {target!r}: {what}")
    return train, test, target, classify


def main():
    """Load, train, measure, save."""
    train, test, target, classify = load()
    numbers, categories = choose_columns(train, target)
    columns = make_columns(numbers, categories)
    x = columns.fit_transform(train).astype(float)
    x_test = columns.transform(test).astype(float)
    print(f"{len(numbers)} number columns, {len(categories)} category columns")
    print(f"training on {len(train)} rows, testing on {len(test)} that are never trained on")
    y, y_test, classes = train[target].to_numpy(), test[target].to_numpy(), None
    if classify:
        y, y_test, classes = number_classes(train[target], test[target])
        x_test, y_test = x_test[y_test >= 0], y_test[y_test >= 0]
    teach = train_xgboost if SET["model"] == "xgboost" else train_sklearn
    model = teach(x, y, x_test, y_test, len(categories), classify)
    found = measure(model, x_test, y_test, classify)
    if classify:
        found["f1_macro"] = score.f1_score(y_test, model.predict(x_test), average="macro")
    else:
        found["r2"] = score.r2_score(y_test, model.predict(x_test))
    if classify and SET["model"] == "sklearn":
        model.classes_ = np.asarray(classes)  # it answers with the names, not their numbers
    about = {"target": target, "numbers": numbers, "categories": categories, "classes": classes}
    save(Pipeline([("columns", columns), ("model", model)]), found, about)


def number_classes(train, test):
    """Classes as numbers from 0; -1 in the test rows for one that the training never saw."""
    classes = sorted(train.unique().tolist(), key=lambda value: (str(type(value)), value))
    numbers = {value: number for number, value in enumerate(classes)}
    unseen = test[~test.isin(classes)]
    if len(unseen):
        print(f"{len(unseen)} test rows have a class that no training row has: left out")
    return train.map(numbers).to_numpy(), test.map(numbers).fillna(-1).to_numpy(int), classes


def save(pipeline, found, about):
    """Write the model and what is to be known of it."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    found = {name: round(float(value), 6) for name, value in found.items()}
    joblib.dump(pipeline, OUTPUT / "model.joblib")
    (OUTPUT / "columns.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    (OUTPUT / "metrics.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    print("on the test rows: " + ", ".join(f"{k} {v:g}" for k, v in found.items()))
    if about["classes"] and SET["model"] == "xgboost":
        print("the model answers with numbers of classes; columns.json has their names, from 0")
    print(f"saved {OUTPUT / 'model.joblib'}")


def stop(why):
    """End with a plain reason."""
    sys.exit(f"error: {why}")


if __name__ == "__main__":
    main()
