"""Promise 5: the frameworks that the training will find, listed and tried on the GPU beforehand."""

import pytest

WORKS = """
class Number(list):
    def __matmul__(self, other): return self
    def sum(self): return 64.0 ** 3
def ones(*shape, device): return Number()
class cuda:
    init = staticmethod(lambda: None)
    get_device_name = staticmethod(lambda n: "NVIDIA T4")
"""
FAILS = """
class cuda:
    @staticmethod
    def init(): raise RuntimeError("No CUDA GPUs are available\\n  advice that follows")
"""


def install(machine, version, cuda, code="raise SystemExit(9)"):
    """A stand-in for torch: the metadata and the version file of the real one, and a little code."""
    folder = machine.home / "packages"
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(code)
    (folder / "torch" / "version.py").write_text(
        f"from typing import Optional\n__version__ = '{version}'\ndebug = False\n"
        f"cuda: Optional[str] = {cuda!r}\ngit_version = 'f6e'\nhip: Optional[str] = None\n"
    )
    info = folder / f"torch-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
    return {"PYTHONPATH": str(folder)}


def preflight(machine, env, *, gpu):
    asked = {"venv": None, "env": env, "gpu": gpu, "image": None, "cwd": machine.layout.code}
    return machine.ask("preflight", **asked)["frameworks"]


def test_an_environment_without_frameworks(here):
    assert preflight(here, {}, gpu=True) == {}


@pytest.mark.parametrize(("version", "cuda"), [("2.13.0+cpu", None), ("2.6.0", "12.4")])
def test_the_build_is_read_without_importing_it(here, version, cuda):
    env = install(here, version, cuda)
    assert preflight(here, env, gpu=False) == {"torch": {"version": version, "cuda": cuda}}


def test_a_build_without_cuda_is_not_tried(here):
    env = install(here, "2.13.0+cpu", None)
    assert preflight(here, env, gpu=True)["torch"] == {"version": "2.13.0+cpu", "cuda": None}


def test_the_gpu_is_really_used(here):
    found = preflight(here, install(here, "2.6.0", "12.4", WORKS), gpu=True)["torch"]
    assert (found["works"], found["error"], found["device"]) == (True, None, "NVIDIA T4")


def test_a_failure_is_told_in_the_frameworks_own_words(here):
    found = preflight(here, install(here, "2.6.0", "12.4", FAILS), gpu=True)["torch"]
    assert found["works"] is False
    assert found["error"] == "RuntimeError: No CUDA GPUs are available"


def test_a_framework_that_dies_says_how(here):
    found = preflight(here, install(here, "2.6.0", "12.4"), gpu=True)["torch"]
    assert (found["works"], found["error"]) == (False, "it ended with status 9")
