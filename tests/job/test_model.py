"""Promise 3 on whole runs: the right model, whole, or a plain word that there is none."""

import contextlib
import zipfile
from pathlib import Path

import psutil

from tests.onboard.machine import wait_for

#: what the scripts below save by: a torch-like zip, and a cut one
SAVE = """
import io, os, sys, time, zipfile
out = os.environ["TOWLINE_OUTPUT"]
def model(text, size=2000):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("m/data.pkl", text.ljust(size))
    return made.getvalue()
def save(path, text, cut=0):
    path = os.path.join(out, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(model(text)[: -cut or None])
"""


def script(job, text, **more):
    job.python(SAVE, **more)
    with (job.project / "train.py").open("a") as file:
        file.write("\n" + "\n".join(line.strip("|") for line in text.strip().splitlines()) + "\n")


def results(job):
    return job.project / "runs" / "job"


def content(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read("m/data.pkl").decode().strip()


def candidates(job):
    return {row["path"]: row for row in job.receipt()["model"]["candidates"]}


def test_a_script_that_saves_no_model_fails_and_says_what_there_is(job):
    script(
        job,
        """
open(out + "/history.json", "w").write("{}")
open(out + "/metrics.pkl", "wb").write(b"x")
open(out + "/curve.png", "w").write("x")
print("Results saved to \x1b[1m/somewhere/else/runs/train\x1b[0m", flush=True)
save("yolo11n.pt", "a download")
""",
    )
    done = job.run("train", "-y", check=3)
    assert "left no model" in done.stderr
    assert "curve.png" in done.stderr
    assert "yolo11n.pt (it has the name of a pre-trained download)" in done.stderr
    assert "its log says that it saved to /somewhere/else/runs/train," in done.stderr
    assert "$TOWLINE_OUTPUT" in done.stderr
    home = {path.name for path in (results(job) / "output").iterdir()}
    assert home == {"history.json", "metrics.pkl", "curve.png", "yolo11n.pt"}
    assert job.receipt()["model"]["path"] is None
    assert candidates(job)["output/yolo11n.pt"]["rank"] is None
    assert job.status()["error"]["kind"] == "ArtifactMissing"
    assert not job.left()


def test_of_ten_models_the_right_one_is_home_as_it_ended_and_all_are_listed(job):
    script(
        job,
        """
for n in range(8):
    save(f"epoch_{n}.pt", f"epoch {n}")
save("best.pt", "the best while training")
save("last.pt", "the last")
print("epoch 8/8 loss=0.5", flush=True)
save("best.pt", "stripped at the end")
""",
    )
    job.run("train", "-y", check=0)
    assert content(results(job) / "best.pt") == "stripped at the end"
    rows = job.receipt()["model"]["candidates"]
    assert [row["rank"] for row in rows] == list(range(1, 11))
    assert [row["path"] for row in rows][:2] == ["output/best.pt", "output/last.pt"]
    assert rows[0]["check"] == "whole"
    assert all(row["why"] for row in rows)
    assert content(results(job) / "output" / "epoch_7.pt") == "epoch 7"


def test_uploaded_and_downloaded_weights_are_not_the_model(job):
    script(
        job,
        """
import shutil
shutil.copy("pretrained/backbone.pt", out + "/best.pt")  # uploaded, under a new name and time
os.utime("pretrained/backbone.pt")
save("yolo11n.pt", "a download")
save("old.pt", "unpacked by wget or tar")
os.utime(out + "/old.pt", (1e9, 1e9))
save("epoch_1.pt", "what was trained")
""",
    )
    (job.project / "pretrained").mkdir()
    with zipfile.ZipFile(job.project / "pretrained" / "backbone.pt", "w") as archive:
        archive.writestr("m/data.pkl", "someone else's weights")
    job.run("train", "-y", check=0)
    assert content(results(job) / "epoch_1.pt") == "what was trained"
    why = {path: row["why"] for path, row in candidates(job).items() if row["rank"] is None}
    assert why["output/best.pt"] == "it came with the upload (code/pretrained/backbone.pt)"
    assert "pre-trained" in why["output/yolo11n.pt"]
    assert "older" in why["output/old.pt"]


def test_a_saver_that_goes_on_in_the_background_is_waited_for(job):
    script(
        job,
        """
import subprocess
whole = model("saved to the last byte")
saver = "import sys, time\\\\nf = open(sys.argv[1], 'wb', 0)\\\\nd = bytes.fromhex(sys.argv[2])\\\\n"
saver += "for at in range(0, len(d), 300):\\\\n f.write(d[at:at+300]); time.sleep(0.15)"
save("epoch_1.pt", "an earlier one")
subprocess.Popen([sys.executable, "-c", saver, out + "/best.pt", whole.hex()], start_new_session=True)
while not os.path.exists(out + "/best.pt"): time.sleep(0.01)
""".replace("\\\\", "\\"),
    )
    done = job.run("train", "-y", check=0)
    assert content(results(job) / "best.pt") == "saved to the last byte"
    assert "damaged" not in done.stdout + done.stderr


def test_a_damaged_best_is_said_and_the_next_is_taken(job):
    script(job, 'save("best.pt", "cut", cut=40)\nsave("last.pt", "whole")')
    done = job.run("train", "-y", check=0)
    assert "WARNING: output/best.pt is damaged: it is cut off" in done.stdout
    assert "output/last.pt is taken as the model in its place" in done.stdout
    assert content(results(job) / "last.pt") == "whole"
    assert (results(job) / "output" / "best.pt").stat().st_size > 0
    assert candidates(job)["output/best.pt"]["check"].startswith("damaged: ")
    assert candidates(job)["output/last.pt"]["rank"] == 2


def test_when_every_model_is_damaged_it_is_home_and_the_run_fails(job):
    script(job, 'save("best.pt", "cut", cut=40)\nopen(out + "/last.pt", "w").close()')
    done = job.run("train", "-y", check=3)
    assert "every model it left is damaged" in done.stderr
    assert "output/last.pt is damaged: it is empty" in done.stderr
    assert (results(job) / "best.pt").exists()
    assert job.receipt()["run"]["state"] == "failed"
    assert not job.left()


def test_a_hugging_face_folder_is_home_as_one(job):
    script(
        job,
        """
import json, struct
def tensors(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    raw = json.dumps({"w": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}}).encode()
    open(path, "wb").write(struct.pack("<Q", len(raw)) + raw + bytes(9))
for step in (10, 20):
    folder = f"{out}/run/checkpoint-{step}/"
    for shard in (1, 2):
        tensors(f"{folder}model-0000{shard}-of-00002.safetensors")
    open(folder + "model.safetensors.index.json", "w").write("{}")
    open(folder + "config.json", "w").write("{}")
    open(folder + "trainer_state.json", "w").write('{"best_model_checkpoint": "x/checkpoint-10"}')
    open(folder + "optimizer.pt", "w").write("state")
""",
    )
    job.run("train", "-y", check=0)
    home = {path.name for path in (results(job) / "checkpoint-10").iterdir()}
    assert home == {
        "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
        "model.safetensors.index.json", "trainer_state.json", "optimizer.pt",
    }  # fmt: skip
    model = job.receipt()["model"]
    assert "best_model_checkpoint" in model["why"]
    assert model["check"] == "whole"


def test_a_trainers_own_folder_comes_home_with_its_model(job):
    script(
        job,
        """
out = "runs/detect/train"
save("weights/best.pt", "the best")
save("weights/last.pt", "the last")
open(out + "/args.yaml", "w").write("epochs: 3\\\\n")
open(out + "/results.csv", "w").write("epoch\\\\n1\\\\n")
open(out + "/labels.jpg", "w").write("x")
""".replace("\\\\", "\\"),
    )
    job.run("train", "-y", check=0)
    assert content(results(job) / "best.pt") == "the best"
    beside = Path(job.receipt()["model"]["beside"])
    assert beside.parent.resolve() == results(job).resolve()
    assert {path.name for path in beside.iterdir()} == {"args.yaml", "results.csv", "labels.jpg"}


# -- checkpoints while training -------------------------------------------------------------------

TRAINS_ON = """
for epoch in range(1, 1000):
    print(f"epoch {epoch}/1000 loss={1 / epoch}", flush=True)
    save("last.pt", f"epoch {epoch}")
    if epoch in (1, 5, 8): save("best.pt", f"epoch {epoch}", cut=50 * (epoch == 8))
    time.sleep(0.4)
    while epoch == 7 and not os.path.exists(os.environ["GO"]): time.sleep(0.05)
    if os.path.exists("end"): break
"""


def test_the_newest_whole_checkpoint_is_home_and_named_when_the_instance_is_lost(job):
    go = job.root / "go"
    script(job, TRAINS_ON, artifacts={"checkpoint_every": "1s"}, env={"GO": str(go)})
    job.run("train", "-y", "--detach", check=0)
    home = results(job) / "checkpoints"
    wait_for(lambda: (home / "best.pt").exists() and (home / "last.pt").exists(), 30)
    wait_for(lambda: content(home / "best.pt") == "epoch 5", 30)
    assert int(content(home / "last.pt").split()[1]) <= 7
    go.touch()
    # of epoch 8 the best is damaged, and does not replace the one that is home
    wait_for(lambda: int(content(home / "last.pt").split()[1]) > 10, 30)
    assert content(home / "best.pt") == "epoch 5"
    shown = job.status()["checkpoint"]
    assert Path(shown["path"]).parent == home
    assert shown["size_bytes"] > 1000
    assert shown["epoch"] >= 1
    assert (
        f"checkpoint  runs/job/checkpoints/{Path(shown['path']).name}" in job.run("status").stdout
    )
    for process in job.processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with one that was killed before
            process.kill()
    done = job.run("wait", timeout=60)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "the last checkpoint is home: " in done.stdout + done.stderr
    told = job.status()
    assert told["error"]["kind"] == "InstanceLost"
    assert told["checkpoint"]["path"] in told["error"]["hint"]
    assert content(told["checkpoint"]["path"]).startswith("epoch ")
    assert job.receipt()["checkpoint"] == told["checkpoint"]
    assert sorted(path.name for path in home.iterdir()) == ["best.pt", "last.pt"]


def test_a_checkpoint_that_is_the_model_is_not_sent_again(job):
    more = job.root / "more"
    script(
        job,
        """
import random
body = random.Random(1).randbytes(300_000)
path = out + "/best.pt"
with zipfile.ZipFile(path, "w") as archive: archive.writestr("m/data.pkl", body)
while not os.path.exists(os.environ["MORE"]): time.sleep(0.05)
save("last.pt", "later")
while not os.path.exists("end"): time.sleep(0.05)
""",
        artifacts={"checkpoint_every": "1s"},
        env={"MORE": str(more)},
    )
    job.run("train", "-y", "--detach", check=0)
    home = results(job) / "checkpoints" / "best.pt"
    wait_for(home.exists, 30)
    at = home.stat().st_mtime_ns
    more.touch()
    wait_for((home.parent / "last.pt").exists, 30)  # a later look has met the same best.pt
    assert home.stat().st_mtime_ns == at  # unchanged there, so not fetched again
    end_on_instance(job)
    job.run("wait", check=0)
    sent = [one for one in job.receipt()["transfers"] if one["direction"] == "download"]
    assert sum(one["sent_bytes"] for one in sent) < 10_000
    assert (results(job) / "best.pt").read_bytes() == home.read_bytes()


def end_on_instance(job):
    """Tell the script, from outside, that it may go on."""
    (code,) = (job.home / "local").glob("*/home/towline/*/code")
    (code / "end").touch()
