"""Promise 3: each trainer's own best model is found where that trainer puts it."""

import pytest

from tests.core.test_artifact import left
from towline.core.artifact import FoundFile, rank_models
from towline.core.frameworks import TRAINERS


def first(*files, **more):
    found = rank_models(left(*files, **more), None)
    return (found[0].path, found[0].why) if found else (None, "")


RUN = "code/runs/detect/train"


@pytest.mark.parametrize(
    ("files", "best", "word"),
    [
        ([f"{RUN}/weights/{n}.pt" for n in ("last", "best", "epoch3")] + [f"{RUN}/args.yaml"],
         f"{RUN}/weights/best.pt", "Ultralytics"),
        ([f"{RUN}/weights/last.pt", f"{RUN}/results.csv"], f"{RUN}/weights/last.pt", "its last"),
        (["code/runs/train/exp/weights/best.pt", "code/runs/train/exp/opt.yaml", "output/x.pt"],
         "code/runs/train/exp/weights/best.pt", "Ultralytics"),
        (["code/output/checkpoint_best_ema.pth", "code/output/checkpoint_best_total.pth",
          "code/output/last.pth"], "code/output/checkpoint_best_total.pth", "RF-DETR"),
        (["code/lightning_logs/version_0/checkpoints/epoch=4-step=50.ckpt",
          "code/lightning_logs/version_0/hparams.yaml"],
         "code/lightning_logs/version_0/checkpoints/epoch=4-step=50.ckpt", "the one checkpoint"),
        (["output/checkpoints/epoch=1-val_loss=0.90.ckpt", "output/checkpoints/last.ckpt",
          "output/checkpoints/epoch=2-val_loss=0.30.ckpt"],
         "output/checkpoints/epoch=2-val_loss=0.30.ckpt", "best val_loss (0.3)"),
        (["output/checkpoints/epoch=1-val_acc=0.90.ckpt", "output/checkpoints/epoch=2-val_acc=0.30.ckpt"],
         "output/checkpoints/epoch=1-val_acc=0.90.ckpt", "best val_acc"),
        (["code/output/train/x/last.pth.tar", "code/output/train/x/model_best.pth.tar",
          "code/output/train/x/checkpoint-3.pth.tar", "code/output/train/x/summary.csv"],
         "code/output/train/x/model_best.pth.tar", "timm"),
        (["code/output/model_0004999.pth", "code/output/model_final.pth", "code/output/metrics.json"],
         "code/output/model_final.pth", "Detectron2"),
        (["code/work_dirs/c/epoch_9.pth", "code/work_dirs/c/best_coco_bbox_mAP_epoch_7.pth",
          "code/work_dirs/c/last_checkpoint"],
         "code/work_dirs/c/best_coco_bbox_mAP_epoch_7.pth", "MMEngine"),
        (["code/models/model.pth", "code/models/bestmodel.pth", "code/export.pkl"],
         "code/export.pkl", "fastai"),
        (["code/out/ckpt.pt", "code/a.pt"], "code/out/ckpt.pt", "nanoGPT"),
        (["code/base/model_000100.pt", "code/base/meta_000100.json", "code/base/optim_000100_rank0.pt"],
         "code/base/model_000100.pt", "nanochat"),
        (["output/m.cbm", "output/catboost_info/catboost_training.json"], "output/m.cbm", "CatBoost"),
    ],
)  # fmt: skip
def test_a_trainers_best_is_first(files, best, word):
    for order in (files, files[::-1]):
        path, why = first(*order)
        assert path == best
        assert word in why


def test_every_trainer_has_a_case_above():
    here = {
        mark.args[1][n][2] for mark in test_a_trainers_best_is_first.pytestmark for n in range(14)
    }
    assert {one.name for one in TRAINERS} <= here | {"Lightning"}


def test_of_two_runs_the_newest_is_taken():
    old, new = "code/runs/detect/train", "code/runs/detect/train-2"
    names = ("weights/best.pt", "weights/last.pt", "args.yaml")
    files = [f"{run}/{name}" for run in (old, new) for name in names]
    aged = {path: 10**9 for path in files if path.startswith(old + "/")}
    assert first(*files, ages=aged)[0] == f"{new}/weights/best.pt"
    aged = {path: 10**9 for path in files if path.startswith(new + "/")}
    assert first(*files, ages=aged)[0] == f"{old}/weights/best.pt"


def test_a_folder_of_weights_without_the_trainers_files_is_no_trainers():
    assert first("code/runs/train/weights/best.pt", "output/model.pt")[0] == "output/model.pt"


def test_what_the_script_saved_after_mere_checkpoints_is_the_model():
    steps = [f"output/checkpoints/checkpoint_{n}/{name}" for n in (0, 1)
             for name in ("model.safetensors", "optimizer.bin")]  # fmt: skip
    final, other = "output/final/model.safetensors", "output/embedding.pt"
    aged = {path: (3 if "_0/" in path else 2) * 10**9 for path in steps}
    assert first(*steps, final, other, ages=aged)[0] == final
    assert (
        first(*steps, final, ages=aged | {final: 4 * 10**9})[0] == steps[2]
    )  # it came before them
    assert first(*steps, other, ages=aged)[0] == steps[2]  # no name speaks for it


STATE = "trainer_state.json"


def hugging_face(step, folder="output/trainer", **says):
    base = f"{folder}/checkpoint-{step}"
    names = ["config.json", "model.safetensors", "optimizer.pt", "rng_state.pth", STATE]
    return [
        FoundFile(path=f"{base}/{name}", size_bytes=9, mode=0o644, mtime_ns=step,
                  says=says.get("best", "") if name == STATE else "")
        for name in names
    ]  # fmt: skip


def test_hugging_faces_best_checkpoint_is_the_one_its_state_names():
    files = hugging_face(100) + hugging_face(200) + hugging_face(300, best="out/checkpoint-200")
    found = rank_models(files, None)
    assert [one.path[-3:] for one in found] == ["200", "300", "100"]
    assert "best_model_checkpoint" in found[0].why
    assert len(found[0].files) == 5


def test_without_a_best_the_highest_step_is_taken():
    files = hugging_face(900) + hugging_face(1000)
    assert rank_models(files, None)[0].path == "output/trainer/checkpoint-1000"


@pytest.mark.parametrize("where", ["output/trainer", "output/final"])
def test_what_the_script_saved_after_the_checkpoints_is_first(where):
    files = hugging_face(100) + hugging_face(200, best="x/checkpoint-100")
    saved = [
        FoundFile(path=f"{where}/{name}", size_bytes=9, mode=0o644, mtime_ns=300)
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    ]
    found = rank_models(files + saved, None)
    assert [one.path for one in found][:2] == [where, "output/trainer/checkpoint-100"]
    assert {file.path for file in found[0].files} == {file.path for file in saved}


def test_what_last_checkpoint_names_is_before_other_steps():
    files = left("code/o/model_0000009.pth", "code/o/model_0000019.pth", "code/o/metrics.json")
    said = FoundFile(path="code/o/last_checkpoint", size_bytes=9, mode=0o644, mtime_ns=1,
                     says="model_0000009.pth")  # fmt: skip
    assert rank_models([*files, said], None)[0].path == "code/o/model_0000009.pth"


def test_accelerates_states_are_no_better_than_what_the_script_saved_after_them():
    states = [f"output/checkpoints/checkpoint_{n}/model.safetensors" for n in (0, 1)]
    assert first(*states, "output/final/model.safetensors", ages=dict.fromkeys(states, 9))[0] == (
        "output/final/model.safetensors"
    )
