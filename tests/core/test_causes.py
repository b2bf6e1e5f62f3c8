"""Promise 5: the end of a log says in one sentence why a training died, and what to do next.

The logs in tests/data/crashes are real: scripts/record_crashes.py let real processes die.
"""

import json
import random
from pathlib import Path

import pytest

from towline.core import causes

FOLDER = Path(__file__).parents[1] / "data" / "crashes"
RECORDED = json.loads((FOLDER / "index.json").read_text())


def tail(name):
    return (FOLDER / f"{name}.log").read_text()


def found(name, before="", after=""):
    entry = RECORDED[name]
    return causes.find(before + tail(name) + after, code=entry["code"], signum=entry["signal"])


@pytest.mark.parametrize("name", RECORDED)
def test_a_real_death_is_explained(name):
    cause = found(name)
    assert cause.kind == RECORDED[name]["kind"]
    assert cause.hint
    assert "\n" not in cause.message + cause.hint
    assert cause.line in [line.strip()[:300] for line in tail(name).splitlines()] or (
        cause.kind == "exception"
    )


@pytest.mark.parametrize("name", RECORDED)
def test_bars_and_chatter_around_it_change_nothing(name):
    chatter = "\x1b[31mepoch 3/10\x1b[0m: 45%|####      | 45/100\r" * 40 + "\n"
    assert found(name, chatter, "wandb: run finished\n\n").kind == RECORDED[name]["kind"]
    windows = tail(name).replace("\n", "\r\n")
    entry = RECORDED[name]
    assert causes.find(windows, code=entry["code"], signum=entry["signal"]).kind == entry["kind"]


def test_the_missing_package_is_named_as_it_is_installed():
    said = "Traceback (most recent call last):\nModuleNotFoundError: No module named '{}'\n"
    for module, package in (
        ("cv2", "opencv-python-headless"), ("sklearn.svm", "scikit-learn"), ("timm", "timm"),
    ):  # fmt: skip
        cause = causes.find(said.format(module), code=1)
        assert f"`{package}`" in cause.hint
        assert module in cause.message


def test_the_data_and_the_file_that_are_missing_are_named():
    assert "/dataset/train.csv" in found("dataset").message
    assert "configs/model.yaml" in found("file").message
    assert "/root/model.pt" in found("permission").message


def test_an_error_that_was_dealt_with_before_is_not_the_cause():
    earlier = tail("disk") + "trying again with another folder\nepoch 2/3 loss=0.4\n"
    assert found("value", earlier).message == "ValueError: rate 3 is too high"


def test_of_two_chained_exceptions_the_last_is_told():
    assert found("value").message == "ValueError: rate 3 is too high"


def test_a_kill_for_memory_needs_more_than_a_signal():
    assert causes.find("epoch 1/2\n", code=137, signum=9) is None
    full = {"memory_bytes": 61_000_000_000, "memory_total_bytes": 62_000_000_000}
    spare = {"memory_bytes": 10_000_000_000, "memory_total_bytes": 62_000_000_000}
    cause = causes.find("epoch 1/2\n", code=137, signum=9, machine=full)
    assert cause.kind == "killed_for_memory"
    assert "62.0 GB" in cause.message
    assert causes.find("epoch 1/2\n", code=137, signum=9, machine=spare) is None
    assert causes.find("epoch 1/2\n", code=137, signum=9, machine=spare, oom_kills=1).kind == (
        "killed_for_memory"
    )
    peak = spare | {"most_memory_bytes": 61_900_000_000}
    assert causes.find("", code=137, signum=9, machine=peak).kind == "killed_for_memory"
    assert causes.find("", code=1, machine=full, oom_kills=1) is None  # it ended by itself


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        # as the drivers, frameworks and tools print them
        (("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total"
         " capacity of 79.10 GiB of which 1.92 GiB is free."), "cuda_out_of_memory"),
        (("RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please"
         " update your GPU driver"), "driver_too_old"),
        ("RuntimeError: CUDA error: no kernel image is available for execution on the device",
         "no_kernel_image"),
        ("RuntimeError: operator torchvision::nms does not exist", "torchvision_mismatch"),
        ("RuntimeError: No CUDA GPUs are available", "no_cuda"),
        (("RuntimeError: DataLoader worker (pid 4242) is killed by signal: Bus error. It is possible"
         " that dataloader's workers are out of shared memory."), "shared_memory"),
        (("torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1331, unhandled"
         " system error"), "nccl"),
        ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", "hub_offline"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "hub_refused"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "memory"),
        ("bash: line 1: ./train.sh: Permission denied", "permission_denied"),
        ("python: can't open file '/home/u/code/train.py': [Errno 2] No such file or directory",
         "file_missing"),
        ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
         "import_error"),
    ],
)  # fmt: skip
def test_known_lines_are_understood_with_and_without_a_traceback(line, kind):
    assert causes.find(f"epoch 1/9\n{line}\n", code=1).kind == kind
    traced = f'Traceback (most recent call last):\n  File "t.py", line 3, in <module>\n{line}\n'
    assert causes.find(traced, code=1).kind == kind


def test_text_that_tells_nothing_has_no_cause():
    assert causes.find("", code=1) is None
    assert causes.find("epoch 3/10 loss=0.1\nstopping\n", code=3) is None


def test_no_text_is_too_odd():
    rng = random.Random(4)
    for _ in range(50):
        text = rng.randbytes(4000).decode("utf-8", "replace")
        causes.find(text + "Traceback (most recent call last):\n" + text, code=1)
    long = "x" * 100_000
    cause = causes.find(f"Traceback (most recent call last):\nValueError: {long}\n", code=1)
    assert len(cause.message) <= 300
