"""Promise 5: bad input gets a clear error that names the next step; nothing is half done."""

import os
import shutil

import pytest


def refused(job, done, code, *words):
    """The exit code, the words, a hint, and nothing left."""
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    for word in words:
        assert word in done.stderr, said
    assert "hint:" in done.stderr, said
    assert "Traceback" not in said
    assert job.left() == []


def test_missing_dataset(job):
    job.task(dataset="nowhere")
    refused(job, job.run("train", "-y"), 2, "nowhere", "does not exist")


def test_empty_dataset(job):
    (job.project / "dataset" / "a.txt").unlink()
    refused(job, job.run("train", "-y"), 2, "dataset")


def test_unknown_key(job):
    (job.project / "towline.yaml").write_text("dataset: dataset\ncommand: 'true'\nepochs: 3\n")
    refused(job, job.run("train", "-y"), 2, "towline.yaml:3", "epochs")


def test_dataset_larger_than_the_far_disk(job):
    with (job.project / "dataset" / "huge.bin").open("wb") as file:
        file.truncate(1 << 42)  # 4 TiB, all of it a hole
    refused(job, job.run("train", "-y"), 5, "the instance has", "free")
    assert job.receipt()["release"]["gone"] is True


def test_command_that_does_not_exist(job):
    job.task("no-such-program --train")
    refused(job, job.run("train", "-y"), 3, "no such command", "no-such-program")


def test_training_that_exits_3(job):
    job.task("echo partial > $TOWLINE_OUTPUT/notes.txt; echo it broke; exit 3")
    done = job.run("train", "-y")
    refused(job, done, 3, "exit code 3")
    assert "it broke" in done.stdout + done.stderr
    # outputs and log are brought home first
    results = job.project / "runs" / "job"
    assert (results / "output" / "notes.txt").read_text() == "partial\n"
    assert (results / "training.log").read_text() == "it broke\n"
    assert job.receipt()["exit_code"] == 3


def test_model_never_written(job):
    job.task("echo 1 > $TOWLINE_OUTPUT/metrics.txt")
    refused(job, job.run("train", "-y"), 3, "left no model", "output/metrics.txt")
    assert (job.project / "runs" / "job" / "output" / "metrics.txt").exists()


def test_no_terminal_without_yes(job):
    refused(job, job.run("train"), 2, "-y")
    assert not (job.project / "runs").exists()


def test_results_folder_is_a_file(job):
    (job.project / "runs").write_text("")
    refused(job, job.run("train", "-y"), 2, "results folder")


# root reads and writes everything, unless it gives those two powers away
POWERLESS = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] * (os.geteuid() == 0)
needs_setpriv = pytest.mark.skipif(
    bool(POWERLESS) and shutil.which("setpriv") is None,
    reason="no setpriv to give up root's powers",
)


@needs_setpriv
def test_unreadable_file(job):
    (job.project / "dataset" / "b.txt").write_text("b")
    (job.project / "dataset" / "b.txt").chmod(0)
    refused(job, job.run("train", "-y", prefix=POWERLESS), 2, "b.txt")


@needs_setpriv
def test_read_only_output_folder(job):
    job.project.chmod(0o555)
    refused(job, job.run("train", "-y", prefix=POWERLESS), 2, "results folder", "runs/job")
