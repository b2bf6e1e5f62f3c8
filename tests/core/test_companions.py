"""Promise 3: what belongs to a model comes home next to it."""

from tests.core.test_artifact import left
from towline.core.artifact import rank_models
from towline.core.companions import companions

RUN = "code/runs/detect/train"


def beside(*paths, sizes=None):
    files = left(*paths, sizes=sizes)
    ranked = rank_models(files, None)
    return set(companions(ranked[0], files, ranked))


def test_a_trainers_settings_tables_and_plots_come_along():
    names = ["args.yaml", "results.csv", "labels.jpg", "val/PR_curve.png", "events.out.tfevents.9"]
    weights = [f"{RUN}/weights/best.pt", f"{RUN}/weights/last.pt", f"{RUN}/weights/best.onnx"]
    others = ["code/train.py", "output/notes.txt", "code/runs/detect/train2/args.yaml"]
    paths = [f"{RUN}/{name}" for name in names] + weights + others
    assert beside(*paths) == set(names)


def test_known_names_beside_any_model_come_along():
    paths = ["output/exp/best.pt", "output/exp/classes.txt", "output/exp/tokenizer.json"]
    paths += ["output/exp/prompts.txt", "output/exp/deep/labels.txt", "output/labels.txt"]
    assert beside(*paths) == {"classes.txt", "tokenizer.json"}


def test_a_folder_of_weights_has_its_companions_one_folder_up():
    paths = [
        "output/exp/weights/best.pt",
        "output/exp/config.yaml",
        "output/exp/weights/labels.txt",
    ]
    assert beside(*paths) == {"config.yaml", "labels.txt"}


def test_a_folder_model_holds_its_own():
    assert (
        beside("output/m/config.json", "output/m/model.safetensors", "output/m/vocab.txt") == set()
    )


def test_what_is_large_stays_and_no_more_than_some_come():
    paths = [f"{RUN}/weights/best.pt", f"{RUN}/args.yaml", f"{RUN}/huge.csv"]
    paths += [f"{RUN}/p{n}.png" for n in range(500)]
    found = beside(*paths, sizes={f"{RUN}/huge.csv": 10**9})
    assert "huge.csv" not in found
    assert len(found) == 200


def test_another_checkpoints_files_are_not_this_ones():
    folder = "output/t/checkpoint-"
    names = ["config.json", "model.safetensors", "trainer_state.json"]
    paths = [f"{folder}{step}/{name}" for step in (1, 2) for name in names]
    assert beside(*paths, "output/t/eval_results.json") == {"eval_results.json"}
