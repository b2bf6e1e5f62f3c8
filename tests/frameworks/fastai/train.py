"""fastai: a tabular learner on the breast cancer table; models/ and export.pkl where it puts them."""

from fastai.callback.tracker import SaveModelCallback
from fastai.metrics import accuracy
from fastai.tabular.all import (
    CategoryBlock,
    Normalize,
    RandomSplitter,
    TabularDataLoaders,
    tabular_learner,
)
from sklearn.datasets import load_breast_cancer


def main():
    """Train, keep the best, export."""
    frame = load_breast_cancer(as_frame=True).frame
    frame["target"] = frame["target"].astype(str)
    data = TabularDataLoaders.from_df(
        frame,
        procs=[Normalize],
        cont_names=[name for name in frame.columns if name != "target"],
        y_names="target",
        y_block=CategoryBlock(),
        valid_idx=RandomSplitter(seed=7)(frame)[1],
        bs=64,
    )
    learner = tabular_learner(data, layers=[50], metrics=accuracy)
    learner.fit_one_cycle(4, 1e-2, cbs=SaveModelCallback(monitor="valid_loss"))
    learner.export("export.pkl")


if __name__ == "__main__":
    main()
