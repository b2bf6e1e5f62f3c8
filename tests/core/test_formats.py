"""Promise 3: what is one model is one artifact, and what is none is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_artifact import left
from towline.core.artifact import rank_models
from towline.core.formats import artifacts, group, looseness, missing_shards

SHARDS = [f"output/m/model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
INDEX = "output/m/model.safetensors.index.json"


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ([*SHARDS, INDEX], "output/m/model"),
        ([*SHARDS, INDEX, "output/m/config.json"], "output/m"),
        (["output/ckpt-5.index", "output/ckpt-5.data-00000-of-00001"], "output/ckpt-5"),
        (["output/best.onnx", "output/best.onnx.data"], "output/best"),
        (["output/best.onnx", "output/best.onnx_data"], "output/best"),
        (["output/e.ckpt/checkpoint/mp_rank_00_model_states.pt", "output/e.ckpt/latest"], "output/e.ckpt"),
        (["output/d/__0_0.distcp", "output/d/.metadata"], "output/d"),
        (["output/pipe/model_index.json", "output/pipe/unet/diffusion_pytorch_model.safetensors",
          "output/pipe/unet/config.json"], "output/pipe"),
        (["output/st/modules.json", "output/st/config.json", "output/st/model.safetensors",
          "output/st/1_Dense/config.json", "output/st/1_Dense/model.safetensors"], "output/st"),
        (["output/ml/MLmodel", "output/ml/model.pkl"], "output/ml"),
        (["output/q-00001-of-00002.gguf", "output/q-00002-of-00002.gguf"], "output/q"),
        (["output/a/adapter_config.json", "output/a/adapter_model.safetensors", "output/a/README.md"],
         "output/a"),
    ],
)  # fmt: skip
def test_files_that_are_one_model_are_one_artifact(files, path):
    found = artifacts(left(*files))
    assert [one.path for one in found] == [path]
    assert {file.path for file in found[0].files} == set(files)


def test_two_tensorflow_checkpoints_in_a_folder_are_two():
    files = [f"output/ckpt-{n}.{part}" for n in (1, 2) for part in ("index", "data-00000-of-00001")]
    assert sorted(one.path for one in group(left(*files))) == ["output/ckpt-1", "output/ckpt-2"]


def test_an_index_without_its_shards_or_data_is_no_model():
    assert artifacts(left(INDEX, "output/ckpt-1.index")) == []


def test_missing_shards_are_counted():
    (whole,) = artifacts(left(*SHARDS, INDEX))
    (lacking,) = artifacts(left(*SHARDS[:1], INDEX))
    assert (missing_shards(whole), missing_shards(lacking)) == (0, 2)


def test_a_checkpoint_inside_a_model_folder_is_its_own():
    top = ["output/t/config.json", "output/t/model.safetensors"]
    step = [path.replace("/t/", "/t/checkpoint-9/") for path in top]
    found = {one.path: {file.path for file in one.files} for one in artifacts(left(*top, *step))}
    assert found == {"output/t": set(top), "output/t/checkpoint-9": set(step)}


@pytest.mark.parametrize(
    "name",
    ["metrics.pkl", "history.pickle", "predictions.npz", "train.bin", "X_test.npz", "vocab.pkl"]
    + ["label_encoder.pkl", "model_metrics.pkl", "best_params.json", "results.json", "config.json"]
    + [
        "requirements.txt",
        "log.txt",
        "args.json",
        "notes.txt",
        "fingerprint.pb",
        "data.pb",
        "a.csv",
    ]
    + ["events.out.tfevents.1.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"],
)
def test_names_that_say_something_else_are_no_model(name):
    assert looseness(f"output/{name}") is None


@pytest.mark.parametrize(
    ("name", "loose"),
    [
        ("model.pkl", 0),
        ("best_clf.joblib", 0),
        ("train_model.pkl", 0),
        ("xgb.pkl", 0),
        ("rf.pkl", 1),
    ]
    + [("m.npz", 1), ("booster.json", 2), ("lgb.txt", 2), ("frozen_graph.pb", 0), ("a.PT", 0)],
)
def test_names_say_how_sure_it_is(name, loose):
    assert looseness(f"output/{name}") == loose


def test_what_is_less_sure_comes_after_what_is_sure_wherever_it_lies():
    files = left("output/booster.json", "output/rf.pkl", "code/checkpoints/e3.pt")
    paths = [one.path for one in rank_models(files, None)]
    assert paths == ["code/checkpoints/e3.pt", "output/rf.pkl", "output/booster.json"]


@given(st.lists(st.text("ab01-/.ockptmdelxfs_", min_size=1, max_size=30), max_size=8, unique=True))
def test_every_file_is_in_one_artifact_at_most(paths):
    found = artifacts(left(*(f"output/{path}" for path in paths)))
    held = [file.path for one in found for file in one.files]
    assert len(held) == len(set(held))
    assert all(one.files for one in found)
