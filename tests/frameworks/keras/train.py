"""Keras 3: its bar, a checkpoint of the best, the last model beside it."""

import os
from pathlib import Path

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

OUTPUT = Path(os.environ.get("TOWLINE_OUTPUT", "output"))

keras.utils.set_random_seed(7)
digits = load_digits()
train_x, valid_x, train_y, valid_y = train_test_split(
    digits.data.astype("float32") / 16, digits.target, test_size=0.2, random_state=7
)
model = keras.Sequential([
    keras.Input((64,)),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(10, activation="softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
OUTPUT.mkdir(exist_ok=True)
model.fit(
    train_x,
    train_y,
    batch_size=64,
    epochs=4,
    validation_data=(valid_x, valid_y),
    callbacks=[
        keras.callbacks.ModelCheckpoint(OUTPUT / "best.keras", save_best_only=True, verbose=1),
        keras.callbacks.CSVLogger(OUTPUT / "history.csv"),
    ],
)
model.save(OUTPUT / "last.keras")
