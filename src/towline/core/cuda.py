"""Whether the frameworks of an environment can use the GPUs of an instance: rules only, no I/O.

Judges what `onboard/preflight.py` found. What was tried on the GPU counts more than the tables,
which explain a failure and say what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

#: the lowest Linux driver for each major version of CUDA: within one, any minor version runs.
#: Source: NVIDIA, "CUDA Compatibility", table of minor version compatibility, read 2026-11.
_LEAST_DRIVER = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
_HIDING = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
_HIDDEN = ("", "-1", "none", "void")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that preflight says; ``fatal`` when the training must not begin."""

    message: str
    hint: str
    fatal: bool


def judge(
    frameworks: Mapping[str, Mapping[str, Any]],
    gpus: Sequence[Mapping[str, Any]],
    env: Mapping[str, str],
    *,
    gpu_wanted: bool,
) -> list[Finding]:
    """Say what stands between the frameworks and the GPUs; [] when nothing does.

    Args:
        frameworks: By name (torch, jax, tensorflow): "version"; "cuda", the version it was built
            for, None for a build without; after a try on the GPU also "works" and "error".
        gpus: Rows of the instance's inspection: "name", "driver"; or one with "error".
        env: The task's own environment variables.
        gpu_wanted: Whether the task asks for a GPU; without one a training on the CPU is no error.
    """
    if not gpus or "error" in gpus[0]:
        return _without_gpu(frameworks, gpus, fatal=gpu_wanted)
    hidden = [name for name in _HIDING if env.get(name, "0").strip().lower() in _HIDDEN]
    if hidden:
        message = f"env sets {hidden[0]}={env[hidden[0]]!r}, which hides the GPU from the training"
        hint = f"take {hidden[0]} out of `env`, or `gpu` out of `resources`"
        return [Finding(message=message, hint=hint, fatal=gpu_wanted)]
    found = [
        _framework(name, facts, gpus[0], gpu_wanted=gpu_wanted)
        for name, facts in frameworks.items()
    ]
    # an image may carry frameworks that the training never imports
    one_works = any(facts.get("works") for facts in frameworks.values())
    return [replace(one, fatal=one.fatal and not one_works) for one in found if one is not None]


def driver_runs(driver: str, cuda: str) -> bool | None:
    """Whether a driver runs a build for this version of CUDA; None when that is not known."""
    have, want = _numbers(driver), _numbers(cuda)
    least = _LEAST_DRIVER.get(want[0]) if want else None
    return have >= least if have and least else None


def _without_gpu(
    frameworks: Mapping[str, Mapping[str, Any]], gpus: Sequence[Mapping[str, Any]], *, fatal: bool
) -> list[Finding]:
    if gpus:
        message = f"the instance's GPU driver fails: {gpus[0]['error']}"
        hint = "reboot the instance, or take another image or offer"
        return [Finding(message=message, hint=hint, fatal=fatal or bool(frameworks))]
    if fatal:
        message = "the task asks for a GPU, and the instance shows none (no nvidia-smi)"
        hint = (
            "take another offer, or an image with NVIDIA's driver; without `gpu` in `resources`"
            " the training runs on the CPU"
        )
        return [Finding(message=message, hint=hint, fatal=True)]
    return []


def _framework(
    name: str, facts: Mapping[str, Any], gpu: Mapping[str, Any], *, gpu_wanted: bool
) -> Finding | None:
    if facts.get("works"):
        return None
    label = f"{name} {facts['version']}"
    if facts.get("cuda") is None:
        message = f"{label} is a build without CUDA: it would train on the CPU beside {gpu['name']}"
        return Finding(message=message, hint=_other_build(name), fatal=gpu_wanted)
    if driver_runs(gpu["driver"], facts["cuda"]) is False:
        return _too_old(label, facts["cuda"], gpu, fatal="works" in facts or gpu_wanted)
    if facts.get("error"):
        return _failed(label, facts["error"], gpu)
    return None


def _too_old(label: str, cuda: str, gpu: Mapping[str, Any], *, fatal: bool) -> Finding:
    least = ".".join(map(str, _LEAST_DRIVER[_numbers(cuda)[0]]))
    runs = max((major for major, low in _LEAST_DRIVER.items() if low <= _numbers(gpu["driver"])), default=None)  # fmt: skip
    message = (
        f"{label} is built for CUDA {cuda}, which needs driver {least} or newer;"
        f" the instance has {gpu['driver']}"
    )
    pin = f", or pin a build for CUDA {runs} in `requirements`" if runs else ""
    return Finding(
        message=message, hint=f"take an offer or image with a newer driver{pin}", fatal=fatal
    )


#: what a failed try says -> what to do; the first that matches
_REASONS = (
    (r"no kernel image|sm_\d+ is not compatible", "this build has no code for this GPU's generation: take a newer release of it, or another GPU"),
    (r"out of memory", "another process holds the GPU's memory: end it, or take another instance"),
    (r"driver.*(too old|insufficient)", "take an offer or image with a newer driver, or pin an older build in `requirements`"),
    (r"no CUDA-capable device|No CUDA GPUs|found 0", "the GPU is not visible to programs: reboot the instance, or take another"),
    (r"timed out", "the GPU does not answer: reboot the instance, or take another"),
    (r"(lib\w+\.so|shared object)", "the environment is incomplete: pin the framework in `requirements`, so that it is installed anew"),
)  # fmt: skip


def _failed(label: str, error: str, gpu: Mapping[str, Any]) -> Finding:
    message = f"{label} can't use {gpu['name']} (driver {gpu['driver']}): {error}"
    hints = [hint for pattern, hint in _REASONS if re.search(pattern, error, re.IGNORECASE)]
    hint = hints[0] if hints else "try the same on the instance: `towline ssh`"
    return Finding(message=message, hint=hint, fatal=True)


def _other_build(name: str) -> str:
    if name == "torch":
        return (
            "name torch in `requirements` without `+cpu`; where uv is installed towline lets it"
            " choose the build for the GPU"
        )
    packages = {"jax": "jax[cuda12]", "tensorflow": "tensorflow[and-cuda]"}
    return f"put `{packages[name]}` into `requirements`"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
