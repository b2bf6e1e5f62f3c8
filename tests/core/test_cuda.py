"""Promise 5: a GPU that can't be used is said before the training, with what to do."""

import pytest

from towline.core.cuda import driver_runs, judge

H100 = {"name": "NVIDIA H100 80GB HBM3", "driver": "550.54.15", "memory_mib": "81559"}
CPU_TORCH = {"torch": {"version": "2.13.0+cpu", "cuda": None}}
CUDA_TORCH = {"torch": {"version": "2.13.0", "cuda": "13.0"}}


def only(*args, **kwargs):
    found = judge(*args, **kwargs)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("driver", "cuda", "runs"),
    [
        ("550.54.15", "12.8", True),
        ("525.60.13", "12.0", True),
        ("525.59", "12.0", False),
        ("470.82.01", "12.1", False),
        ("470.82.01", "11.8", True),
        ("580.159.04", "13.0", True),
        ("550.54.15", "13.0", False),
        ("550.54.15", "?", None),
        ("[N/A]", "12.0", None),
        ("550.54.15", "99.0", None),
    ],
)
def test_a_driver_runs_every_minor_version_of_its_major(driver, cuda, runs):
    assert driver_runs(driver, cuda) is runs


def test_nothing_to_say_when_all_fits():
    works = {"torch": {"version": "2.13.0", "cuda": "12.8", "works": True, "error": None}}
    assert judge(works, [H100], {}, gpu_wanted=True) == []
    assert judge({}, [H100], {}, gpu_wanted=True) == []
    assert judge(CPU_TORCH, [], {}, gpu_wanted=False) == []


def test_a_second_framework_that_fails_ends_nothing_while_one_works():
    works = {"version": "2.13.0", "cuda": "12.8", "works": True, "error": None}
    fails = {"version": "0.11.2", "cuda": "12", "works": False, "error": "it timed out"}
    found = only({"torch": works, "jax": fails}, [H100], {}, gpu_wanted=True)
    assert "jax 0.11.2" in found.message
    assert not found.fatal


def test_a_build_without_cuda_beside_a_gpu():
    asked = only(CPU_TORCH, [H100], {}, gpu_wanted=True)
    assert asked.fatal
    assert "torch 2.13.0+cpu is a build without CUDA" in asked.message
    assert "H100" in asked.message
    assert "requirements" in asked.hint
    assert not only(CPU_TORCH, [H100], {}, gpu_wanted=False).fatal


@pytest.mark.parametrize(("name", "package"), [("jax", "jax[cuda12]"), ("tensorflow", "and-cuda")])
def test_each_framework_has_its_own_cure(name, package):
    found = only({name: {"version": "1", "cuda": None}}, [H100], {}, gpu_wanted=True)
    assert package in found.hint


def test_a_driver_that_is_too_old_names_both_versions_and_what_it_would_run():
    failed = {
        "torch": CUDA_TORCH["torch"] | {"works": False, "error": "RuntimeError: driver too old"}
    }
    found = only(failed, [H100], {}, gpu_wanted=True)
    assert found.fatal
    assert (
        "CUDA 13.0, which needs driver 580.65 or newer; the instance has 550.54.15" in found.message
    )
    assert "CUDA 12" in found.hint


def test_an_old_driver_with_a_compatibility_package_works_all_the_same():
    works = {"torch": CUDA_TORCH["torch"] | {"works": True, "error": None}}
    assert judge(works, [H100], {}, gpu_wanted=True) == []


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ("RuntimeError: CUDA error: no kernel image is available for execution", "newer release"),
        ("torch.OutOfMemoryError: CUDA out of memory.", "another process"),
        ("RuntimeError: No CUDA GPUs are available", "not visible"),
        ("it timed out after 180 s", "reboot"),
        ("ImportError: libcudnn.so.9: cannot open shared object file", "incomplete"),
        ("ValueError: never seen before", "towline ssh"),
    ],
)
def test_a_failed_try_is_said_with_a_cure(error, hint):
    facts = {"torch": {"version": "2.6.0", "cuda": "12.4", "works": False, "error": error}}
    found = only(facts, [H100], {}, gpu_wanted=False)
    assert found.fatal
    assert error in found.message
    assert hint in found.hint


@pytest.mark.parametrize("value", ["", "-1", "none"])
def test_a_task_that_hides_the_gpu_from_itself(value):
    found = only(CUDA_TORCH, [H100], {"CUDA_VISIBLE_DEVICES": value}, gpu_wanted=True)
    assert found.fatal
    assert "CUDA_VISIBLE_DEVICES" in found.message
    shown = judge(CUDA_TORCH, [H100], {"CUDA_VISIBLE_DEVICES": "0"}, gpu_wanted=True)
    assert "CUDA_VISIBLE_DEVICES" not in shown[0].message


def test_a_gpu_that_was_asked_for_and_is_not_there():
    found = only({}, [], {}, gpu_wanted=True)
    assert found.fatal
    assert "shows none" in found.message


def test_a_driver_that_fails_matters_to_whoever_uses_a_framework():
    broken = [{"error": "Failed to initialize NVML: Driver/library version mismatch"}]
    assert only(CUDA_TORCH, broken, {}, gpu_wanted=False).fatal
    assert not only({}, broken, {}, gpu_wanted=False).fatal
    assert "NVML" in only({}, broken, {}, gpu_wanted=True).message
