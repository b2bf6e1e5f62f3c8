"""Promise 5 on whole runs: metrics from side files, causes of death, the machine, a stall."""

import csv
import io
import json

import pytest

from tests.onboard.machine import wait_for

#: prints and writes like Ultralytics; the loss becomes nan in epoch 3
LIKE_ULTRALYTICS = """
    import os
    folder = "runs/detect/train"
    os.makedirs(folder + "/weights")
    with open(folder + "/results.csv", "w") as results:
        results.write("epoch,time,train/box_loss,metrics/mAP50(B),lr/pg0\\n")
    for epoch in range(1, 5):
        loss = 1 / epoch if epoch < 3 else float("nan")
        print(f"epoch {epoch}/4 box_loss={loss:.3f} speed={epoch}", flush=True)
        with open(folder + "/results.csv", "a") as results:
            results.write(f"{epoch},{epoch * 1.5:.4f},{loss:.6g},{epoch / 8:.6g},0.01\\n")
    open(folder + "/weights/best.pt", "w").write("weights")
"""
SMI = """\
#!/bin/sh
echo "0, NVIDIA H100 80GB HBM3, 550.54.15, 39102, 81559, 0, 31, 69.34"
"""


def test_a_side_file_and_the_console_are_one_table(job):
    job.python(LIKE_ULTRALYTICS)
    done = job.run("train", "-y", check=0)
    table = (job.project / "runs" / "job" / "metrics.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["train/box_loss"] for row in rows] == ["1.0", "0.5", "", ""]
    assert [row["metrics/mAP50(B)"] for row in rows] == ["0.125", "0.25", "0.375", "0.5"]
    assert [row["speed"] for row in rows] == ["1.0", "2.0", "3.0", "4.0"]
    assert "box_loss" not in rows[0]
    # nan is said once, and ends nothing
    assert done.stdout.count("is not a number any more") == 1
    status = job.status()
    assert (status["progress"]["epoch"], status["progress"]["fraction"]) == (4, 1.0)
    assert status["progress"]["metrics"]["metrics/mAP50(B)"] == 0.5
    assert status["machine"]["disk_free_bytes"] > 0
    told = json.loads(job.run("metrics", "--json", check=0).stdout)
    assert told["best"]["metrics/mAP50(B)"] == {"value": 0.5, "epoch": 4, "step": None}
    assert [row["epoch"] for row in told["rows"]] == [1, 2, 3, 4]
    lines = job.run("metrics", "--chart", check=0).stdout.splitlines()
    assert lines[0].endswith("epoch 4/4")
    assert lines[1].split()[:2] == ["EPOCH", "metrics/mAP50(B)"]
    assert lines[6].split()[:2] == ["best", "0.5"]
    assert any("⠉" in line or "⠤" in line for line in lines[8:])
    as_csv = job.run("metrics", "--csv", check=0).stdout
    assert as_csv == table


@pytest.mark.parametrize(
    ("script", "said", "hint", "kind"),
    [
        ("import cv2_not_here", "Python found no module named cv2_not_here", "`requirements`",
         "import_error"),
        ("open('/dev/full', 'wb', 0).write(b'x')", "the instance's disk is full", "disk_gb",
         "disk_full"),
    ],
)  # fmt: skip
def test_a_death_is_explained_with_the_next_step(job, script, said, hint, kind):
    job.python(f"print('epoch 1/2 loss=0.5', flush=True)\n{script}\n")
    done = job.run("train", "-y", check=3)
    assert f"error: the training ended with exit code 1: {said}" in done.stderr
    assert hint in done.stderr.partition("hint:")[2]
    error = job.status()["error"]
    assert error["kind"] == "TrainingFailed"
    assert said in error["message"]
    events = [json.loads(line) for line in job.run("events", "--json").stdout.splitlines()]
    (cause,) = [event for event in events if event["type"] == "cause"]
    assert cause["cause"] == kind
    assert job.left() == []


def test_a_training_that_hangs_on_a_gpu_is_said_to_stall_and_goes_on(job, tmp_path):
    (tmp_path / "nvidia-smi").write_text(SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    job.environment["PATH"] = f"{tmp_path}:{job.environment['PATH']}"
    go = tmp_path / "go"
    job.task(
        f"echo 'epoch 1/2 loss=0.5'; until [ -e {go} ]; do sleep 0.05; done;"
        " echo 'epoch 2/2 loss=0.4'; echo w > $TOWLINE_OUTPUT/model.pt",
        limits={"stall_after": "1s"},
    )
    job.run("train", "-y", "--detach", check=0)
    status = wait_for(lambda: (found := job.status())["stalled"] and found, 30)
    assert "GPU 0 is idle and holds 41.0 GB" in status["stalled"]["text"]
    assert status["machine"]["gpus"][0]["temperature_c"] == 31.0
    assert (status["progress"]["fraction"], status["state"]) == (0.5, "active")
    for_people = job.run("status", check=0).stdout
    assert "GPU 0% 41.0/85.5 GB 31 C" in for_people
    assert "\n  stalled " in for_people
    assert "epoch 1/2" in job.run("ls", check=0).stdout
    go.touch()
    job.run("wait", check=0)
    assert job.status()["stalled"] is None
