"""Promise 3 on whole runs: no file keeps the model from coming home, and what can't be read ends nothing."""

import os
import subprocess
import sys

from towline.core.units import count_text


def results(job):
    return job.project / "runs" / "job"


#: no process of the training's: it writes from the moment that the output folder is there
RESTLESS = """
import glob, os, sys, time
while not (found := glob.glob(sys.argv[1] + "/local/*/home/towline/*/output/started")):
    time.sleep(0.01)
with open(os.path.dirname(found[0]) + "/mlflow.db", "wb", 0) as file:
    while os.path.exists(found[0]):
        file.seek(0)
        file.write(os.urandom(20000))
        time.sleep(0.002)
"""


def test_an_output_that_never_stops_changing_keeps_nothing_and_nobody_waiting(job):
    job.python("""
import os, time
out = os.environ["TOWLINE_OUTPUT"]
open(out + "/started", "w").close()
while not os.path.exists(out + "/mlflow.db"): time.sleep(0.01)
open(out + "/model.pt", "w").write("model")
open(out + "/other.txt", "w").write("other")
""")
    with subprocess.Popen([sys.executable, "-c", RESTLESS, str(job.home)]) as writer:
        try:
            done = job.run("train", "-y", check=0)
        finally:
            writer.kill()
    assert "output/mlflow.db never stopped changing, and came home as it was read" in done.stdout
    assert done.stdout.index("model:") < done.stdout.index("never stopped")
    assert (results(job) / "model.pt").read_text() == "model"
    assert (results(job) / "output" / "other.txt").read_text() == "other"
    assert (results(job) / "output" / "mlflow.db").stat().st_size == 20_000
    assert job.receipt()["as_read"] == ["output/mlflow.db"]
    assert not job.left()


def test_a_folder_that_can_not_be_looked_into_keeps_the_instance_when_there_is_no_model(job):
    """Its path is longer than any system call takes: that holds for root as well."""
    job.python("""
import os
open(os.environ["TOWLINE_OUTPUT"] + "/notes.md", "w").write("notes")
os.chdir(os.environ["TOWLINE_OUTPUT"])
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
open("best.pt", "w").write("model")
""")
    done = job.run("train", "-y", check=5)
    assert "the model may be in what towline can't read on the instance" in done.stderr
    assert "File name too long" in done.stderr
    assert (results(job) / "output" / "notes.md").read_text() == "notes"
    assert job.status()["state"] == "active"
    assert job.left()
    job.run("abort", check=0)
    assert not job.left()


def test_of_more_files_than_one_frame_holds_the_named_model_is_found_and_all_come_home(job):
    count = 9000
    job.python(f"""
import os
out = os.environ["TOWLINE_OUTPUT"]
os.makedirs(out + "/predictions")
for n in range({count}):
    open(out + f"/predictions/COCO_val2017_{{n:012d}}.jpg.txt", "w").close()
os.makedirs(out + "/.hidden")
open(out + "/.hidden/best.pt", "w").write("the model")
""", artifacts={"model": "output/.hidden/best.pt"})  # fmt: skip
    done = job.run("train", "-y", check=0)
    assert (results(job) / "best.pt").read_text() == "the model"
    assert f"{count_text(count, 'output file')} in" in done.stdout
    assert len(os.listdir(results(job) / "output" / "predictions")) == count


def test_a_log_that_the_training_cuts_off_is_gone_on_with_and_said(job):
    job.python("""
import os, time
print("before " * 100, flush=True)
time.sleep(0.7)
os.truncate("../training.log", 0)
for n in range(5):
    print("after", n, flush=True)
open(os.environ["TOWLINE_OUTPUT"] + "/model.pt", "w").write("model")
""")
    done = job.run("train", "-y", check=0)
    assert "the training truncated its log; reading on from its new beginning" in done.stdout
    log = (results(job) / "training.log").read_text()
    assert log == "before " * 100 + "\n" + "".join(f"after {n}\n" for n in range(5))
