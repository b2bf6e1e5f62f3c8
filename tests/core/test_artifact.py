"""Promise 3: of all files a training left, the model is the one people mean."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.core.artifact import FoundFile, is_output, matches, places_text, rank_models, search


def left(*paths, sizes=None, ages=None):
    """Files of one size and age, but for those named."""
    return [
        FoundFile(
            path=path,
            size_bytes=(sizes or {}).get(path, 1000),
            mode=0o644,
            mtime_ns=10**18 - (ages or {}).get(path, 0),
        )
        for path in paths
    ]


def ranked(files, explicit=None):
    return [artifact.path for artifact in rank_models(files, explicit)]


def test_nothing_found_is_an_empty_list():
    assert rank_models([], None) == []
    assert rank_models(left("output/results.csv", "code/train.py", "output/a.png"), None) == []
    assert rank_models(left("output/best.pt"), "output/other.pt") == []


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("output/best.pt", "output/last.pt"),
        ("output/best.pt", "output/epoch9.pt"),
        ("output/model_best.pth.tar", "output/checkpoint.pth.tar"),
        ("output/BEST.onnx", "output/final.onnx"),
        ("output/last.pt", "output/epoch10.pt"),
        ("output/final.keras", "output/weights-12.keras"),
        ("output/a/b/best.pt", "output/last.pt"),
        ("output/epoch3.pt", "code/best.pt"),
        ("output/model.pkl", "code/runs/train/weights/best.pt"),
        ("code/runs/train/best.pt", "code/best.pt"),
        ("code/runs/exp/weights/best.pt", "code/weights/best.pt"),
        ("code/checkpoints/last.ckpt", "code/other/best.ckpt"),
    ],
)
def test_best_is_before_last_is_before_the_rest_within_a_place(better, worse):
    for order in ([better, worse], [worse, better]):
        for newer in (better, worse):
            other = worse if newer == better else better
            files = left(*order, ages={other: 10**9}, sizes={newer: 9})
            assert ranked(files) == [better, worse]


def test_the_newest_wins_then_the_largest_then_the_name():
    files = left("output/e1.pt", "output/e2.pt", "output/e3.pt", ages={"output/e3.pt": 5})
    assert ranked(files) == ["output/e1.pt", "output/e2.pt", "output/e3.pt"]
    files = left("output/e1.pt", "output/e2.pt", ages={"output/e1.pt": 5})
    assert ranked(files) == ["output/e2.pt", "output/e1.pt"]
    files = left("output/e1.pt", "output/e2.pt", sizes={"output/e2.pt": 2000})
    assert ranked(files) == ["output/e2.pt", "output/e1.pt"]


@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth", "rng_state_0.pth"]
    + ["scaler.pt", "training_args.bin", "random_states_0.pkl", "optimizer_best.pt"],
)
def test_state_of_the_trainer_is_never_the_model(name):
    assert ranked(left(f"output/{name}", f"code/ckpt/{name}")) == []
    assert ranked(left(f"output/{name}", "output/z.pt")) == ["output/z.pt"]


@pytest.mark.parametrize(
    "name",
    ["m.pt", "m.pth", "m.pth.tar", "m.ckpt", "m.safetensors", "m.keras", "m.h5", "m.hdf5", "m.onnx"]
    + ["m.engine", "m.tflite", "m.torchscript", "m.gguf", "m.pkl", "m.joblib", "m.cbm", "m.ubj"]
    + ["m.npz", "m.bin", "M.PT"],
)
def test_every_promised_format_is_known(name):
    assert ranked(left(f"output/{name}", "output/log.txt")) == [f"output/{name}"]


SAVED_MODEL = [
    "output/export/saved_model.pb",
    "output/export/variables/variables.index",
    "output/export/variables/variables.data-00000-of-00001",
    "output/export/assets/vocab.txt",
]
CHECKPOINT = [
    "output/checkpoint-500/config.json",
    "output/checkpoint-500/model-00001-of-00002.safetensors",
    "output/checkpoint-500/model-00002-of-00002.safetensors",
    "output/checkpoint-500/model.safetensors.index.json",
    "output/checkpoint-500/optimizer.pt",
    "output/checkpoint-500/tokenizer.json",
]


@pytest.mark.parametrize("files", [SAVED_MODEL, CHECKPOINT])
def test_a_folder_model_is_one_with_all_its_files(files):
    found = rank_models(left(*files, "output/results.csv"), None)
    assert [artifact.path for artifact in found] == ["/".join(files[0].split("/")[:2])]
    assert {file.path for file in found[0].files} == set(files)
    assert found[0].size_bytes == 1000 * len(files)


@pytest.mark.parametrize("files", [SAVED_MODEL, CHECKPOINT])
def test_a_folder_model_right_in_the_output_folder_is_one(files):
    flat = ["output/" + "/".join(path.split("/")[2:]) for path in files]
    found = rank_models(left(*flat), None)
    assert [artifact.path for artifact in found] == ["output"]
    assert len(found[0].files) == len(files)


def test_an_adapter_is_one_folder():
    files = ["output/lora/adapter_config.json", "output/lora/adapter_model.safetensors"]
    assert ranked(left(*files)) == ["output/lora"]


def test_a_config_beside_ordinary_weights_makes_no_folder_model():
    files = left("output/exp/config.json", "output/exp/best.pt", "output/exp/last.pt")
    assert ranked(files) == ["output/exp/best.pt", "output/exp/last.pt"]
    assert ranked(left("output/config.json", "output/best.pt")) == ["output/best.pt"]
    assert ranked(left("output/exp/config.json")) == []


def test_the_working_folder_itself_is_never_the_model():
    files = left("code/config.json", "code/model.safetensors", "code/train.py")
    assert ranked(files) == ["code/model.safetensors"]


def test_of_two_checkpoints_the_newer_is_first():
    older = [path.replace("-500", "-400") for path in CHECKPOINT]
    files = left(*older, *CHECKPOINT, ages=dict.fromkeys(older, 100))
    assert ranked(files) == ["output/checkpoint-500", "output/checkpoint-400"]


@pytest.mark.parametrize(
    ("explicit", "path"),
    [
        ("output/a.bin", "output/a.bin"),
        ("./output/a.bin", "output/a.bin"),
        ("code/my/a.dat", "code/my/a.dat"),
        ("my/a.dat", "code/my/a.dat"),
        ("**/my/a.dat", "code/my/a.dat"),
        ("output/*.bin", "output/a.bin"),
        ("output/?.bin", "output/a.bin"),
        ("output/[a-c].bin", "output/a.bin"),
        ("output/model[1].dat", "output/model[1].dat"),
        ("output/x", "output/x"),
        ("output/x/", "output/x"),
        ("my", "code/my"),
    ],
)
def test_an_explicit_path_or_glob_decides_alone(explicit, path):
    files = left("output/a.bin", "code/my/a.dat", "output/best.pt", "output/x/1", "output/x/y/2")
    files += left("output/model[1].dat")
    assert ranked(files, explicit) == [path]
    assert explicit in rank_models(files, explicit)[0].why


def test_an_explicit_glob_with_several_hits_ranks_them():
    files = left("output/a/last.pt", "output/b/best.pt", "output/c/e.pt")
    assert ranked(files, "output/**/*.pt")[0] == "output/b/best.pt"
    assert ranked(files, "output/**/best.pt") == ["output/b/best.pt"]


def test_an_explicit_glob_of_folders_keeps_them_apart():
    files = left("output/ck-1/w", "output/ck-1/sub/v", "output/ck-2/w", ages={"output/ck-2/w": -5})
    found = rank_models(files, "output/ck-*")
    assert [artifact.path for artifact in found] == ["output/ck-2", "output/ck-1"]
    assert [file.path for file in found[0].files] == ["output/ck-2/w"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("ab*?[]!-^\\/.", min_size=1, max_size=8), max_size=4, unique=True),
    st.text("ab*?[]!-^\\/.", max_size=8) | st.text(max_size=8),
)
def test_no_pattern_raises(paths, pattern):
    files = left(*("output/" + path for path in paths), *paths)
    rank_models(files, pattern)
    rank_models(files, "output/" + pattern)
    rank_models(files, None)
    for file in files:
        assert matches(file.path, file.path) or file.path.startswith("./")


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        ("output/**", ["output/a", "output/a/b/c"], ["output", "outputs/a", "x/output/a"]),
        ("**/best.pt", ["best.pt", "a/best.pt", "a/b/best.pt"], ["a/notbest.pt", "best.pt/a"]),
        ("output/**/best.pt", ["output/best.pt", "output/a/b/best.pt"], ["best.pt"]),
        ("*.pt", ["a.pt", ".pt"], ["a/b.pt", "a.ptx"]),
        ("a?c", ["abc"], ["ac", "a/c", "abbc"]),
        ("[ab].pt", ["a.pt", "b.pt"], ["c.pt", "ab.pt"]),
        ("[!ab].pt", ["c.pt"], ["a.pt", "/.pt"]),
        ("[z-a].pt", [], ["z.pt", "a.pt", "-.pt"]),
        ("a.pt", ["a.pt"], ["abpt"]),
        ("a+(b).pt", ["a+(b).pt"], ["aab.pt"]),
        ("line\nbreak*", ["line\nbreak\n"], ["line"]),
        ("runs/*", ["code/runs/a"], ["output/runs/a"]),
    ],
)
def test_globs_mean_what_people_know(pattern, hits, misses):
    assert [path for path in hits if not matches(path, pattern)] == []
    assert [path for path in misses if matches(path, pattern)] == []


def test_outputs_are_those_of_any_pattern():
    assert is_output("output/a/b", ["output/**"])
    assert is_output("code/runs/x.png", ["output/**", "runs/*.png"])
    assert not is_output("code/train.py", ["output/**"])
    assert not is_output("output/a", [])


def test_the_order_of_listing_changes_nothing():
    files = left(*SAVED_MODEL, *CHECKPOINT, "output/best.pt", "output/last.pt", "code/w/a.pt")
    first = [artifact.row() for artifact in rank_models(files, None)]
    for seed in range(10):
        mixed = random.Random(seed).sample(files, len(files))
        assert [artifact.row() for artifact in rank_models(mixed, None)] == first


def test_every_candidate_says_why():
    for artifact in rank_models(left("output/best.pt", "output/last.pt", "code/x.pt"), None):
        assert artifact.why
        assert set(artifact.row()) == {"path", "size_bytes", "why"}


def test_five_other_places_at_least_are_named():
    assert places_text().startswith("$TOWLINE_OUTPUT, ")
    assert places_text().count("./") >= 5


def test_a_large_output_folder_is_ranked_quickly():
    files = left(*(f"output/{n % 100}/{n}.png" for n in range(20_000)), "output/best.pt")
    assert ranked(files) == ["output/best.pt"]


START_NS = 10**18 - 10**9


@pytest.mark.parametrize(
    "path",
    ["code/yolo11n.pt", "output/yolov8s-seg.pt", "code/yolo26n.pt", "output/yolov5nu.pt"]
    + ["code/yolo11x-world.pt", "code/sam2.1_b.pt", "output/resnet18-f37072fd.pth", "code/RN50.pt"]
    + ["code/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "code/rtdetr-l.pt"]
    + ["output/.cache/torch/hub/checkpoints/x.pth", "code/models--org--name/snapshots/a/model.pt"],
)
def test_a_pre_trained_download_is_never_the_model(path):
    found = search(left(path, "output/e1.pt"), None, since_ns=START_NS)
    assert [one.path for one in found.ranked] == ["output/e1.pt"]
    assert [one.path for one in found.left_out] == [path]
    assert found.left_out[0].why
    assert ranked(left(path), path) == [path]  # but it may be named


@pytest.mark.parametrize(
    "name",
    [
        "yolo_best.pt",
        "best.pt",
        "yolo11n_shapes.pt",
        "my-yolo.pt",
        "resnet18.pth",
        "n.pt",
        "model-20260101.pth",
    ]
    + ["resnet_best.pth", "yolo.pt", "small.pt"],
)
def test_a_name_of_ones_own_is_a_candidate(name):
    assert ranked(left(f"output/{name}")) == [f"output/{name}"]


def test_what_is_older_than_the_training_was_not_made_by_it():
    files = left("output/wget.pt", "output/own.pt", ages={"output/wget.pt": 10**10})
    found = search(files, None, since_ns=START_NS)
    assert [one.path for one in found.ranked] == ["output/own.pt"]
    assert "older" in found.left_out[0].why


def test_what_came_with_the_upload_is_left_out_even_when_named():
    files = left("output/best.pt", "output/e1.pt")
    for explicit in (None, "output/best.pt"):
        found = search(files, explicit, uploaded={"output/best.pt"})
        assert "output/best.pt" not in [one.path for one in found.ranked]
        assert [one.path for one in found.left_out] == ["output/best.pt"]


def test_the_receipts_lines_rank_the_candidates_and_name_the_others():
    files = left("output/best.pt", "output/last.pt", "output/yolo11n.pt")
    rows = search(files, None).rows(10)
    assert [(row["path"], row["rank"]) for row in rows] == [
        ("output/best.pt", 1),
        ("output/last.pt", 2),
        ("output/yolo11n.pt", None),
    ]
    assert len(search(files, None).rows(2)) == 2


def test_an_explicit_glob_over_shards_is_one_model():
    shards = [f"output/m-0000{n}-of-00002.safetensors" for n in (1, 2)]
    found = rank_models(left(*shards, "output/best.pt"), "output/*.safetensors")
    assert [(one.path, len(one.files)) for one in found] == [("output/m", 2)]
