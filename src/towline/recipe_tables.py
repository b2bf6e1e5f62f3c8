"""The settings of each recipe: name, kind, default, range, and what it does.

The scripts carry the same defaults, so that they run by themselves; a test compares the two.
"""

from __future__ import annotations

from towline.recipe_values import Setting

_SEED = Setting("seed", "whole", 0, "where chance begins: the same seed, the same split", 0,
                1_000_000)  # fmt: skip
_VAL = Setting("val_share", "number", 0.2, "share held back to test on, where no split is given",
               0.01, 0.9)  # fmt: skip
_WORKERS = Setting("workers", "whole", 4, "processes that load pictures", 0, 128)

YOLO = (
    Setting("model", "text", "yolo11n", "yolo11n, yolo11s, ... or the path of weights (.pt) that"
            " you upload; yolo11n.yaml starts from scratch"),
    Setting("task", "text", "auto", "auto looks at the data",
            choices=("auto", "detect", "segment", "classify", "pose")),
    Setting("epochs", "whole", 100, "passes over the data", 1, 100_000),
    Setting("batch", "whole", 16, "pictures in a step; -1 takes what fits the GPU", 1, 65_536,
            auto=-1),
    Setting("imgsz", "whole", 640, "side of a picture in pixels (224 for classify)", 32, 8192),
    Setting("device", "text", "auto", "auto, cpu, or GPUs such as 0 or 0,1"),
    Setting("patience", "whole", 100, "epochs without gain before it stops; 0 never", 0, 100_000),
    Setting("optimizer", "text", "auto", "how weights are changed",
            choices=("auto", "sgd", "adam", "adamw", "nadam", "radam", "rmsprop")),
    Setting("lr0", "number", 0.01, "first learning rate; not used while optimizer is auto",
            1e-7, 1),
    Setting("cos_lr", "switch", False, "learning rate falls along a cosine"),
    Setting("freeze", "whole", 0, "first layers that are kept as they are", 0, 1000),
    Setting("close_mosaic", "whole", 10, "last epochs without mosaic pictures", 0, 100_000),
    Setting("fraction", "number", 1.0, "share of the data to train on", 0.001, 1),
    Setting("single_cls", "switch", False, "treat all classes as one"),
    Setting("amp", "switch", True, "half precision where the GPU can"),
    Setting("cache", "text", "off", "keep decoded pictures", choices=("off", "ram", "disk")),
    Setting("save_period", "whole", -1, "also keep every n-th epoch's weights", 1, 100_000,
            auto=-1),
    _WORKERS,
    Setting("plots", "switch", True, "draw curves and sample pictures"),
    _VAL,
    _SEED,
)  # fmt: skip

IMAGE = (
    Setting("epochs", "whole", 20, "passes over the data", 1, 100_000),
    Setting("batch", "whole", 64, "pictures in a step", 1, 65_536),
    Setting("imgsz", "whole", 64, "side of a picture in pixels", 8, 1024),
    Setting("lr", "number", 0.002, "highest learning rate", 1e-7, 1),
    Setting("weight_decay", "number", 0.01, "pull of weights towards zero", 0, 1),
    Setting("width", "whole", 32, "channels of the first layer; more is larger and slower",
            4, 512),
    Setting("weights", "text", "none", "path of a best.pt of this recipe to go on from, in what"
            " you upload"),
    Setting("flip", "switch", False, "mirror pictures at random"),
    Setting("patience", "whole", 0, "epochs without gain before it stops; 0 never", 0, 100_000),
    Setting("device", "text", "auto", "the GPU where there is one", choices=("auto", "cpu", "cuda")),
    _WORKERS,
    _VAL,
    _SEED,
)  # fmt: skip

TABULAR = (
    Setting("target", "text", "auto", "column to predict; auto takes one named target, label,"
            " class or y, else the last"),
    Setting("task", "text", "auto", "auto looks at the target",
            choices=("auto", "classification", "regression")),
    Setting("model", "text", "sklearn", "histogram gradient boosting of which library",
            choices=("sklearn", "xgboost")),
    Setting("epochs", "whole", 100, "rounds: trees that are added, one a class", 1, 100_000),
    Setting("lr", "number", 0.1, "how much each tree may change", 1e-5, 1),
    Setting("max_depth", "whole", 6, "of a tree", 1, 64),
    Setting("patience", "whole", 20, "rounds without gain before it stops; 0 never", 0, 100_000),
    Setting("drop", "text", "none", "columns to leave out, such as id,name"),
    Setting("max_categories", "whole", 200, "a text column with more different values is left out",
            2, 255),
    _VAL,
    _SEED,
)  # fmt: skip

TEXT = (
    Setting("task", "text", "auto", "auto: classify where there are labels, else write",
            choices=("auto", "classify", "write")),
    Setting("model", "text", "scratch", "a hub name, the path of a model that you upload, or"
            " scratch: a small one from random weights"),
    Setting("text_column", "text", "auto", "auto takes one named text, sentence or content"),
    Setting("label_column", "text", "auto", "auto takes one named label, class, target or y"),
    Setting("epochs", "whole", 3, "passes over the data", 1, 10_000),
    Setting("batch", "whole", 8, "texts in a step", 1, 4096),
    Setting("lr", "number", 0.0, "learning rate; 0 chooses by model and task", 0, 1),
    Setting("max_length", "whole", 256, "tokens of a text; the rest is cut off", 8, 32_768),
    Setting("lora", "switch", False, "train a small adapter, not the whole model"),
    Setting("lora_rank", "whole", 8, "size of the adapter", 1, 512),
    _VAL,
    _SEED,
)  # fmt: skip

KERAS = (
    Setting("epochs", "whole", 20, "passes over the data", 1, 100_000),
    Setting("batch", "whole", 32, "examples in a step", 1, 65_536),
    Setting("imgsz", "whole", 96, "side of a picture in pixels", 8, 1024),
    Setting("lr", "number", 0.001, "learning rate", 1e-7, 1),
    Setting("target", "text", "auto", "column to predict, for a CSV; as in tabular"),
    Setting("backend", "text", "tensorflow", "what Keras computes with",
            choices=("tensorflow", "torch", "jax")),
    Setting("patience", "whole", 0, "epochs without gain before it stops; 0 never", 0, 100_000),
    _VAL,
    _SEED,
)  # fmt: skip
