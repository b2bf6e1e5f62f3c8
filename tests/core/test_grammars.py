"""What each framework prints, line by line, as far as no recording has it."""

import time

import pytest

from towline.core.progress import ProgressParser


def events(text):
    parser = ProgressParser()
    return parser.feed(text.encode()) + parser.flush()


def last(text):
    return events(text)[-1]


def place(one):
    return one.epoch, one.total_epochs, one.step, one.total_steps


# -- Ultralytics and YOLOv5 ------------------------------------------------------------------------

HEADER = "      Epoch    GPU_mem   box_loss   cls_loss    l1_loss  Instances       Size\n"


def test_yolo_losses_are_named_by_the_header():
    row = "\r\x1b[K       7/50      2.41G      1.234      nan      1e-05         17        640: 100% ━━━━ 63/63 9.1it/s 7.0s\n"
    one = last(HEADER + row)
    assert place(one) == (7, 50, 63, 63)
    assert one.metrics == {"train/box_loss": 1.234, "train/cls_loss": None, "train/l1_loss": 1e-05}
    assert one.fraction == pytest.approx(7 / 50)


def test_yolo_tells_masks_from_boxes():
    val = "                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95)     Mask(P          R      mAP50  mAP50-95): 100% ━━━━ 1/1 3it/s 0.3s\n"
    rows = "       1/2      2.4G   1.2   2.3   3.4   17   640: 100% ━━━━ 63/63 9.1it/s 7.0s\n"
    row = "                   all         12         23      0.5      0.6      0.7      0.4      0.3      0.2      0.1     0.05\n"
    found = last(HEADER + rows + val + row).metrics
    assert found["precision"] == 0.5
    assert found["mAP50-95"] == 0.4
    assert found["precision(M)"] == 0.3
    assert found["mAP50-95(M)"] == 0.05
    assert found["train/box_loss"] == 1.2


def test_yolo_classification_has_two_figures():
    log = (
        "      Epoch    GPU_mem       loss  Instances       Size\n"
        "       2/3         0G      1.5         16         64: 100% ━━━━ 10/10 9it/s 1.0s\n"
        "               classes   top1_acc   top5_acc: 100% ━━━━ 2/2 9it/s 0.2s\n"
        "                   all      0.875          1\n"
    )
    assert last(log).metrics == {"train/loss": 1.5, "top1_acc": 0.875, "top5_acc": 1.0}
    assert last(log).epoch == 2


def test_the_validation_of_the_best_model_is_no_epoch():
    log = (
        HEADER
        + "       3/3      0G   1.2   2.3   3.4   17   640: 100% ━━━━ 63/63 9.1it/s 7.0s\n"
        + "                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95): 100% ━━━━ 1/1\n"
        + "                   all         12         23      0.1      0.1      0.1      0.1\n"
        + "\n3 epochs completed in 0.002 hours.\n"
        + "                 Class     Images  Instances      Box(P          R      mAP50  mAP50-95): 100% ━━━━ 1/1\n"
        + "                   all         12         23      0.9      0.9      0.9      0.9\n"
    )
    assert last(log).metrics["mAP50"] == 0.1


def test_yolov5_counts_from_0():
    log = (
        "     Epoch   gpu_mem       box       obj       cls    labels  img_size\n"
        "       0/2     1.05G   0.1234   0.0345   0.0111        22       640: 100%|██████████| 8/8 [00:03<00:00,  2.10it/s]\n"
        "               Class     Images     Labels          P          R     mAP@.5 mAP@.5:.95: 100%|███| 4/4 [00:01<00:00]\n"
        "                 all        128        929      0.611      0.522      0.574      0.369\n"
    )
    one = last(log)
    assert place(one)[:2] == (1, 3)
    assert one.metrics["train/obj"] == 0.0345
    assert one.metrics["mAP50-95"] == 0.369
    assert one.metrics["precision"] == 0.611


# -- Keras -----------------------------------------------------------------------------------------


def test_keras_with_verbose_2_tells_each_epoch_once():
    log = (
        "Epoch 1/2\n12/12 - 1s - 59ms/step - accuracy: 0.5 - loss: 1.2 - val_loss: 1.1000e-04\n"
        "Epoch 2/2\n\nEpoch 2: val_loss improved from 1.10000 to 0.90000, saving model to x.keras\n"
        "12/12 - 0s - 5ms/step - accuracy: 0.6 - loss: nan - val_loss: 0.9\n"
        "6/6 - 0s - 5ms/step - accuracy: 0.1 - loss: 9.9\n"
    )
    rows = [one for one in events(log) if one.metrics]
    assert [(one.epoch, one.total_epochs) for one in rows] == [(1, 2), (2, 2)]
    assert rows[0].metrics["val_loss"] == 1.1e-4
    assert rows[1].metrics == {"accuracy": 0.6, "loss": None, "val_loss": 0.9}
    assert rows[1].fraction == 1.0


def test_keras_2_draws_with_backspaces():
    frame = "\b" * 60 + "\r{}/10 [=====>....] - ETA: 5s - loss: {}"
    log = "Epoch 1/3\n" + "".join(frame.format(n, 2 - n / 10) for n in (1, 5, 9))
    log += "\b" * 60 + "\r10/10 [==========] - 2s 45ms/step - loss: 1.0000 - val_loss: 0.8000\n"
    log += "Epoch 2/3\n"
    found = events(log)
    over = [one for one in found if "val_loss" in one.metrics]
    assert [(one.epoch, one.metrics) for one in over] == [(1, {"loss": 1.0, "val_loss": 0.8})]
    assert (found[-1].epoch, found[-1].fraction) == (2, pytest.approx(1 / 3))


def test_keras_evaluation_after_training_is_no_epoch():
    log = (
        "Epoch 1/1\n"
        " 1/40 ━━━━━ 10s 280ms/step - loss: 2.0\b\b\r40/40 ━━━━━━ 3s 75ms/step - loss: 1.0 - val_loss: 0.9\n"
        " 1/40 ━━━━━ 10s 280ms/step - loss: 7.0\b\b\r40/40 ━━━━━━ 3s 75ms/step - loss: 7.0\n"
    )
    assert events(log)[-1].metrics == {"loss": 1.0, "val_loss": 0.9}


# -- bars ------------------------------------------------------------------------------------------


def bar(desc, done, whole, more="", clock="00:01<00:02"):
    percent = done * 100 // whole
    return f"\r{desc}{percent:3d}%|####      | {done}/{whole} [{clock}, 9.9it/s{more}]"


def test_a_bar_redrawn_ten_times_a_second_is_told_once_a_percent():
    log = "".join(bar("", n, 10_000, ", loss=1.5") for n in range(10_000))
    assert len(events(log)) <= 102


def test_epochs_of_unknown_number_are_not_told_every_percent():
    log = "".join(
        bar(f"Epoch {e}: ", n, 100, ", v_num=0, loss=1.5", f"00:{n // 10:02d}<00:02")
        for e in range(20)
        for n in range(101)
    )
    assert len(events(log)) <= 20 * 4
    assert last(log).epoch == 20


@pytest.mark.parametrize(
    "desc",
    ["Writing model shards: ", "Loading checkpoint shards: ", "Validation DataLoader 0: ", "Map: ",
     "Sanity Checking DataLoader 0: ", "model.safetensors: ", "Downloading data: ", "Testing: ",
     "Tokenizing train dataset: ", "Generating train split: ", "Fetching 4 files: ", "Predicting: "],
)  # fmt: skip
def test_bars_that_do_not_train_are_left_out(desc):
    assert events(bar(desc, 1, 2) + bar(desc, 2, 2) + "\n") == []


def test_a_message_glued_to_a_bar_is_read_too():
    glued = bar("Epoch 0: ", 12, 12, ", v_num=1, val_loss=0.5") + (
        "Epoch 0, global step 12: 'val_loss' reached 0.5 (best 0.5), saving model to 'x' as top 1\n"
    )
    assert last(glued).metrics == {"val_loss": 0.5}
    assert last(bar("Steps: ", 3, 9) + "epoch 2/5 loss=1\n").epoch == 2
    assert last(bar("", 3, 9) + "{'loss': '0.5', 'epoch': '1.5'}\n").epoch == 2


def test_frames_of_unknown_total_and_torn_bars_say_nothing():
    log = "\rValidation: |          | 0/? [00:00<?, ?it/s]\r 10%|#   | 1/\r 10%|\r%|#|1/2\r5it [00:01, 3it/s]\n"
    assert events(log) == []


def test_a_bar_over_the_epochs_counts_those_that_are_over():
    one = last(bar("Epochs: ", 3, 10, ", loss=0.5"))
    assert place(one)[:2] == (3, 10)
    assert one.fraction == 0.3
    assert one.eta_s == 2.0
    assert one.metrics == {"loss": 0.5}


def test_a_bar_of_each_epoch_with_a_total_gives_the_whole_share():
    one = last(bar("Epoch 2/4: ", 5, 10))
    assert one.fraction == pytest.approx(0.375)


def test_values_with_units_are_no_metrics():
    assert last(bar("", 1, 2, ", mem=2.4G, t=12.34ms, loss=1e-3")).metrics == {"loss": 0.001}


def test_other_ranks_are_left_out():
    assert events("[rank1]: epoch 1/2 loss=1\n") == []
    assert last("[rank0]: epoch 1/2 loss=1\n").epoch == 1


def test_lightning_rich_counts_from_0():
    one = last(
        "\r\x1b[2KEpoch 1/9  ━━━╸━━━ 6/12 0:00:01 • 0:00:02 43.2it/s v_num: 0 train_loss: 2.007\n"
    )
    assert place(one) == (2, 10, 6, 12)
    assert one.metrics == {"train_loss": 2.007}
    assert one.fraction == 0.15


# -- Hugging Face ----------------------------------------------------------------------------------


def test_hf_4_prints_bare_numbers_and_nan():
    one = last("{'loss': nan, 'grad_norm': 1.5, 'learning_rate': 5e-05, 'epoch': 1.02}\n")
    assert one.epoch == 2
    assert one.metrics == {"loss": None, "grad_norm": 1.5, "learning_rate": 5e-05}


def test_hf_totals_of_the_opening_give_the_share():
    log = "***** Running training *****\n  Num examples = 1,000\n  Num Epochs = 4\n  Total optimization steps = 500\n"
    one = last(log + "{'eval_loss': '0.5', 'eval_runtime': '3', 'epoch': '1'}\n")
    assert place(one)[:2] == (1, 4)
    assert one.fraction == 0.25
    assert one.metrics == {"eval_loss": 0.5}
    assert events(log + bar("", 7, 50)) == []
    assert last(log + bar("", 250, 500)).fraction == 0.5


def test_a_mapping_that_is_no_trainers_is_nothing():
    assert events("{'epoch': 'many', 'loss': '1'}\n{'a': 1}\n{'epoch'}\n{'loss': 1}\n") == []


# -- boosters and scikit-learn ---------------------------------------------------------------------


def test_lightgbms_repeated_row_is_no_new_round():
    row = "[12]\ttrain's l2: 0.5\tvalid's l2: 0.75\n"
    for ending in (
        "Early stopping, best iteration is:",
        "Did not meet early stopping. Best iteration is:",
    ):
        found = events(row + ending + "\n" + row)
        assert [(one.epoch, one.metrics["valid l2"]) for one in found] == [(12, 0.75)]


def test_cross_validations_of_the_boosters():
    one = last("[0]\ttrain-rmse:0.51+0.01\ttest-rmse:0.61+0.02\n")
    assert (one.epoch, one.metrics) == (1, {"train-rmse": 0.51, "test-rmse": 0.61})
    one = last("[10]\tcv_agg's binary_logloss: 0.25 + 0.01\n")
    assert (one.epoch, one.metrics) == (10, {"cv_agg binary_logloss": 0.25})


def test_catboost_may_have_no_learn_column():
    one = last("4:\ttest: 0.91\tbest: 0.92 (3)\ttotal: 1m 2s\tremaining: 2h 3m\n")
    assert (one.epoch, one.metrics, one.eta_s) == (5, {"test": 0.91}, 7380.0)


def test_scikit_learns_verbose_fits():
    assert last("Iteration 3, loss = 0.5\nValidation score: 0.9\n").metrics == {"val_score": 0.9}
    assert last("Iteration 0, inertia 123.5.\n").epoch == 1
    assert place(last("building tree 5 of 100\n"))[:2] == (5, 100)
    one = last(
        "[3/100] 1 tree, 31 leaves, max depth = 8, train loss: 0.5, val loss: 0.6, in 0.010s\n"
    )
    assert (one.epoch, one.total_epochs, one.metrics["val_loss"]) == (3, 100, 0.6)
    table = "      Iter       Train Loss   Remaining Time \n         2           1.2613            0.30s\n"
    assert (last(table).epoch, last(table).metrics, last(table).eta_s) == (
        2,
        {"train_loss": 1.2613},
        0.3,
    )
    sgd = "-- Epoch 4\nNorm: 1.2, NNZs: 64, Bias: -0.1, T: 100, Avg. loss: 0.5\n"
    assert (last(sgd).epoch, last(sgd).metrics) == (4, {"loss": 0.5})


# -- vision ----------------------------------------------------------------------------------------


def test_timm_with_its_schedule_and_times():
    log = (
        "Scheduled epochs: 300. LR stepped per epoch.\n"
        "Train: 2 [  49/50 (100%)]  Loss: 6.9 (6.5)  Time: 0.5s, 255.9/s  (0.5s, 255.9/s)  LR: 1.0e-03  Data: 0.3 (0.3)\n"
        "Test: [   9/9]  Time: 0.1 (0.1)  Loss:  1.5 (1.25)  Acc@1: 63.9 (64.5)  Acc@5: 90.0 (91.0)\n"
    )
    one = last(log)
    assert place(one) == (3, 300, 50, 50)
    assert one.metrics == {
        "train_loss": 6.5,
        "lr": 0.001,
        "eval_loss": 1.25,
        "eval_top1": 64.5,
        "eval_top5": 91.0,
    }
    assert one.fraction == 0.01


def test_torchvisions_references():
    log = (
        "Epoch: [1]  [ 99/100]  eta: 0:01:02  lr: 0.005  loss: 0.5123 (0.6)  loss_box_reg: 0.1 (0.2)  time: 0.1 (0.1)  data: 0.0 (0.0)  max mem: 100\n"
        "Epoch: [1] Total time: 0:01:02 (0.1 s / it)\n"
        "Test:  [ 0/10]  eta: 0:00:01  loss: 0.4 (0.4)\n"
        "Test:  Acc@1 71.300 Acc@5 90.100\n"
    )
    one = last(log)
    assert place(one) == (2, None, 100, 100)
    assert one.metrics == {
        "loss": 0.6,
        "loss_box_reg": 0.2,
        "lr": 0.005,
        "eval_top1": 71.3,
        "eval_top5": 90.1,
    }
    coco = " Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.370\n"
    assert last(log + coco).metrics == {"mAP50-95": 0.37}


def test_detectron2_says_what_is_left():
    line = "\x1b[32m[11/26 10:00:00 d2.utils.events]: \x1b[0m eta: 1 day, 2:03:04  iter: 19  total_loss: 1.5  loss_cls: nan  time: 0.1  data_time: 0.02  lr: 0.00025  max_mem: 100M\n"
    one = last(line)
    assert (one.step, one.eta_s) == (20, 93_784.0)
    assert one.metrics == {"total_loss": 1.5, "loss_cls": None, "lr": 0.00025}


def test_mmengine_by_epoch_and_by_iteration():
    head = "11/26 10:00:00 - mmengine - INFO - "
    train = (
        head
        + "Epoch(train)  [3][ 50/100]  lr: 1.0e-02  eta: 0:10:00  time: 0.1  data_time: 0.01  loss: 0.5  acc: 90.0\n"
    )
    one = last(train)
    assert (place(one), one.eta_s) == ((3, None, 50, 100), 600.0)
    assert one.metrics == {"lr": 0.01, "loss": 0.5, "acc": 90.0}
    val = head + "Epoch(val) [3][10/10]    coco/bbox_mAP: 0.1230  data_time: 0.1  time: 0.2\n"
    assert last(train + val).metrics["coco/bbox_mAP"] == 0.123
    one = last(head + "Iter(train) [  500/1000]  lr: 1.0e-02  eta: 0:10:00  loss: 0.5\n")
    assert (one.step, one.total_steps, one.fraction) == (500, 1000, 0.5)


# -- scripts ---------------------------------------------------------------------------------------


def test_nanogpt_and_nanochat():
    found = events(
        "step 250: train loss 1.9, val loss 2.1\niter 251: loss 1.8, time 10.2ms, mfu 1.2%\n"
    )
    assert [(one.step, one.metrics) for one in found] == [
        (250, {"train_loss": 1.9, "val_loss": 2.1}),
        (251, {"loss": 1.8}),
    ]  # fmt: skip
    line = "step 00100/05000 (2.00%) | loss: 3.1 | lrm: 1.0 | dt: 100ms | tok/sec: 1,000 | total time: 1.0m | eta: 10.0m\n"
    one = last(line)
    assert (one.step, one.total_steps, one.fraction, one.eta_s) == (100, 5000, 0.02, 600.0)
    assert one.metrics == {"loss": 3.1}
    assert last("Step 00100 | Validation bpb: 1.02\n").metrics == {"val_bpb": 1.02}


def test_habits_of_tutorials():
    one = last("Epoch [3/10], Step [300/600], Loss: 0.1234\n")
    assert (place(one), one.metrics) == ((3, 10, 300, 600), {"Loss": 0.1234})
    assert one.fraction == pytest.approx(0.25)
    one = last("Train Epoch: 3 [12800/60000 (21%)]\tLoss: 0.234\n")
    assert (place(one), one.metrics) == ((3, None, 12_800, 60_000), {"Loss": 0.234})
    log = "Epoch 0/24\n----------\ntrain Loss: 0.58 Acc: 0.69\nval Loss: 0.25 Acc: 0.89\n"
    assert (last(log).epoch, last(log).total_epochs) == (1, 25)
    assert last(log).metrics == {"val_loss": 0.25, "val_acc": 0.89}
    log = "Epoch 7/9\nTrain Loss: 0.5 | Val Loss: 0.4 | Val Acc: 80.5%\n"
    assert (last(log).epoch, last(log).metrics) == (
        7,
        {"train_loss": 0.5, "val_loss": 0.4, "val_acc": 80.5},
    )
    one = last("Epoch 3/9 - Training Loss: 0.5, Validation Loss: 0.4, lr: 1e-3\n")
    assert one.metrics == {"train_loss": 0.5, "val_loss": 0.4, "lr": 0.001}
    log = "Train Epoch: 1 [0/9 (0%)]\tLoss: 0.2\n\nTest set: Average loss: 0.05, Accuracy: 98/100 (98%)\n"
    assert last(log).metrics["test_loss"] == 0.05
    assert [one.epoch for one in events("epoch 0 loss=1\nepoch 1 loss=0.5\n")] == [1, 2]
    assert [
        one.epoch for one in events("epoch 1: loss 1\nepoch 1: loss=1\nepoch: 2, loss=0.5\n")
    ] == [1, 2]


@pytest.mark.parametrize(
    "line",
    ["Epoch 4: val_loss improved from 1.4 to 1.1, saving model to output/epoch=4.keras",
     "EarlyStopping: best results at epoch 5, loss=1", "Restoring weights of the best epoch: 3. loss=2",
     "Loading checkpoint of epoch 7 (loss=0.5)", "Better model found at epoch 3 with valid_loss value: 0.07",
     "10 epochs, lr=0.1", "2026-11-26 10:00:00 INFO seed: 5", "loss", "http://x/?epoch=3&loss=1",
     "[12:00:00] 100% | done", "step 5 of the recipe", "[LightGBM] [Info] Total Bins 4266",
     "iteration: slow", "Class balance: 0.5", "all 12 tests passed", "[5] text", "0.5 0.6 0.7", "1/2",
     "{'a': 'b'}", '{"epoch": 3, "loss": 1}'],
)  # fmt: skip
def test_lines_that_only_look_like_progress(line):
    assert events(line + "\n") == []


def test_a_second_training_in_one_log_counts_anew():
    one = "".join(
        f"Epoch {n}/3\n 5/10 ━━━ 1s 9ms/step - loss: 1.0\r10/10 ━━━ 1s 9ms/step - loss: 0.5\n"
        for n in (1, 2, 3)
    )
    ends = [one.epoch for one in events(one * 3) if one.metrics == {"loss": 0.5}]
    assert ends[-1] == 3
    assert ends.count(3) >= 3


def test_of_many_rows_the_first_thousand_and_the_last_are_told():
    rows = events("".join(f"[{n}]\ttrain-rmse:{1 / (n + 1):.5f}\n" for n in range(10_123)))
    assert 1000 < len(rows) < 3000
    assert [one.epoch for one in rows[:1000]] == list(range(1, 1001))
    assert rows[-1].epoch == 10_123


LONG = [
    "Epoch 1/2 " + "a" * 4000,
    "Epoch" + " " * 4000 + "x",
    HEADER + "  1/2  0G " + "1.0 " * 1000 + "\n",
    HEADER + "Class Images Instances " + "P " * 2000 + "\n" + "all " + "1 " * 2000,
    " 1/2 " + "━" * 1300 + " 3s",
    "[1]\t" + "a:" * 2000,
    "[1]\t" + "a: 1\t" * 800,
    "{'epoch': " + "'" * 4000,
    "{'a': 1, " * 400 + "'epoch'",
    "%|" * 2000,
    " 1%|" + "#" * 4000,
    "9" * 4000 + "%|#| 1/2 [00:00<00:00]",
    "Train: 1 [" + " " * 4000,
    "eta: 1 days, " * 300 + "iter: 5 ",
    "(train) Epoch(train) [" + "1" * 3000,
    "Epoch 0/2 " + "━ " * 1000 + "•",
    "0:\t" + "test: 1\t" * 500 + "total: 1s\tremaining: " + "1m " * 300,
    "\x1b]0;" + "t" * 4000,
]


@pytest.mark.parametrize("line", LONG)
def test_no_odd_line_takes_long(line):
    began = time.process_time()
    events(line + "\n" + line + "\n")
    assert time.process_time() - began < 1.0
