"""Why a training died, in one plain sentence, and what to do next: read from its last output.

Pure. The last traceback is asked first, for what came before may have been dealt with; patterns
are tried in order, the surest first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from towline.core.units import size_text

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST = 300
_LAST_LINES = 30
#: exceptions that only say that something else failed
_WRAPPERS = ("ChildFailedError", "CalledProcessError", "SubprocessError", "ProcessRaisedException")
_NEARLY = 0.95
_SIGKILL = 9
_RAISED = re.compile(
    r"^(?:\[rank\d+\]:\s*)?((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*"
    r"(?:Error|Exception|Interrupt|Exit|Warning|Failure|Refused|Missing|NotFound|Timeout))(?::\s?(.*))?$"
)
_TRACEBACK = "Traceback (most recent call last):"

#: import name -> what is to be installed, where the two differ
_PACKAGES = {
    "cv2": "opencv-python-headless", "PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml",
    "skimage": "scikit-image", "bs4": "beautifulsoup4", "dotenv": "python-dotenv",
    "tensorboardX": "tensorboardx", "pytorch_lightning": "pytorch-lightning", "fitz": "pymupdf",
    "google.protobuf": "protobuf", "albumentations": "albumentations", "faiss": "faiss-cpu",
    "sentence_transformers": "sentence-transformers", "hydra": "hydra-core", "umap": "umap-learn",
    "Levenshtein": "python-levenshtein", "serial": "pyserial", "git": "gitpython",
    "pycocotools": "pycocotools", "ruamel": "ruamel.yaml", "attr": "attrs", "dateutil": "python-dateutil",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a training died.

    ``kind`` is a stable word for it, ``message`` goes on after "the training ended with exit code
    1: ", ``hint`` is the next step, ``line`` is the line of the log that says it.
    """

    kind: str
    message: str
    hint: str
    line: str | None = None


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: str
    pattern: re.Pattern[str]
    message: str | Callable[[re.Match[str]], str]
    hint: str | Callable[[re.Match[str]], str]


def _rule(
    kind: str,
    pattern: str,
    message: str | Callable[[re.Match[str]], str],
    hint: str | Callable[[re.Match[str]], str],
) -> _Rule:
    return _Rule(kind, re.compile(pattern), message, hint)


def _module_hint(match: re.Match[str]) -> str:
    module = match["module"]
    root = module.partition(".")[0]
    package = _PACKAGES.get(module) or _PACKAGES.get(root) or root
    return f"add `{package}` to `requirements` (or, if {root} is your own code, check what `code` sends)"


_RULES: tuple[_Rule, ...] = (
    _rule(
        "cuda_out_of_memory",
        r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError: (?:CUDA|HIP)|"
        r"CUDA_ERROR_OUT_OF_MEMORY|CUBLAS_STATUS_ALLOC_FAILED|ResourceExhaustedError|"
        r"RESOURCE_EXHAUSTED: Out of memory|OOM when allocating tensor",
        "the GPU's memory was too small (CUDA out of memory)",
        "use a smaller batch (`--set batch=...`) or image size, mixed precision, or rent a GPU"
        " with more memory (`resources: {gpu: ...}`)",
    ),
    _rule(
        "driver_too_old",
        r"NVIDIA driver on your system is too old|CUDA driver version is insufficient|"
        r"forward compatibility was attempted on non supported HW|"
        r"unsupported display driver / cuda driver combination",
        "the instance's NVIDIA driver is too old for the CUDA that the requirements bring",
        "pin a build for an older CUDA in `requirements` (for torch, with the index of that CUDA from"
        " PyTorch's install page), or take an instance or image with a newer driver",
    ),
    _rule(
        "no_kernel_image",
        r"no kernel image is available for execution|"
        r"is not compatible with the current PyTorch installation",
        "the installed CUDA build has no code for this kind of GPU",
        "pin a newer (or, for an old GPU, an older) build in `requirements`, or rent another GPU",
    ),
    _rule(
        "torchvision_mismatch",
        r"operator torchvision::\w+ does not exist",
        "the installed torchvision does not fit the installed torch",
        "pin the two releases that belong together in `requirements` (PyTorch's install page pairs them)",
    ),
    _rule(
        "no_cuda",
        r"Torch not compiled with CUDA enabled|no CUDA-capable device is detected|"
        r"No CUDA GPUs are available|Found no NVIDIA driver|Invalid CUDA 'device=|"
        r"torch\.cuda\.is_available\(\): False|CUDA_ERROR_NO_DEVICE|Attempting to deserialize object on a CUDA device",
        "the training asked for a CUDA device, but no usable one is there",
        "rent a GPU (`resources: {gpu: ...}`), install a CUDA build of the framework, or let the"
        " script run on the CPU",
    ),
    _rule(
        "shared_memory",
        r"(?i)insufficient shared memory|DataLoader worker .*killed by signal: Bus error|"
        r"unable to (?:open|allocate) shared memory|No space left on device: '?/dev/shm|"
        r"unable to write to file </torch_",
        "the data loader ran out of shared memory (/dev/shm)",
        "use fewer workers (`workers: 0` in the script's settings), or an instance or container with"
        " a larger /dev/shm",
    ),
    _rule(
        "disk_full",
        r"No space left on device|Disk quota exceeded|database or disk is full|\[Errno (?:28|122)\]|ENOSPC",
        "the instance's disk is full",
        "ask for a larger disk (`resources: {disk_gb: ...}`), or keep fewer checkpoints",
    ),
    _rule(
        "file_too_large",
        r"\[Errno 27\] File too large|File size limit exceeded",
        "a file grew beyond what the instance allows",
        "`ulimit -f` on the instance shows the limit; write smaller files",
    ),
    _rule(
        "nccl",
        r"ncclSystemError|ncclInternalError|ncclUnhandledCudaError|ncclRemoteError|NCCL error|"
        r"ProcessGroupNCCL.*(?:timed? ?out|[Tt]imeout)|Watchdog caught collective operation timeout",
        "the GPUs lost touch with each other (NCCL)",
        "one process often died first: look further up in the log; NCCL_DEBUG=INFO in `env` says more",
    ),
    _rule(
        "import_error",
        r"^(?:\[rank\d+\]:\s*)?(?:ModuleNotFoundError|ImportError): No module named '?(?P<module>[\w.]+)'?",
        lambda match: f"Python found no module named {match['module']}",
        _module_hint,
    ),
    _rule(
        "import_error",
        r"^(?:\[rank\d+\]:\s*)?ImportError: (?P<why>(?:lib\S+\.so|cannot import name).*)$",
        lambda match: f"an import failed: {match['why']}",
        "the versions in `requirements` do not fit together, or the instance lacks a system library"
        " (for libGL: use opencv-python-headless)",
    ),
    _rule(
        "port_in_use",
        r"(?i)address already in use|EADDRINUSE|errno 98\b",
        "a network port that the training wants is taken",
        "another process listens there; choose another port (for torchrun: `--master-port`)",
    ),
    _rule(
        "hub_offline",
        r"(?:LocalEntryNotFoundError|OfflineModeIsEnabled|We couldn't connect to 'https://huggingface\.co'|"
        r"(?:HTTPSConnectionPool|Failed to resolve|Name or service not known|NameResolutionError|"
        r"Temporary failure in name resolution).*(?:huggingface|hf\.co|github|download|kaggle|roboflow|pytorch)?|"
        r"Couldn't reach .*on the Hub|urlopen error \[Errno -\d\])",
        "something was to be downloaded, and the instance could not reach it",
        "send what it needs with the dataset or code and name it by its path, or check the"
        " instance's network (`towline ssh`)",
    ),
    _rule(
        "hub_refused",
        r"GatedRepoError|RepositoryNotFoundError|401 Client Error|403 Client Error|"
        r"Cannot access gated repo",
        "a hub refused to give a model or dataset",
        "log in by a token: `secrets: [HF_TOKEN]`, and accept the model's terms on its page",
    ),
    _rule(
        "dataset_missing",
        r"(?:FileNotFoundError|NotADirectoryError)[:\]].*?'(?P<path>[^']*dataset[^']*)'|"
        r"Dataset '(?P<path2>[^']+)' (?:images|error|not found)|"
        r"Dataset .*images not found|Found no valid file for the classes|No images found in|"
        r"No valid images found",
        lambda match: (
            "the training did not find its data"
            + (f": {match['path'] or match['path2']}" if match["path"] or match["path2"] else "")
        ),
        "the dataset is in $TOWLINE_DATASET on the instance; take paths from there (`towline plan`"
        " shows what is sent)",
    ),
    _rule(
        "file_missing",
        r"FileNotFoundError: \[Errno 2\] No such file or directory: '(?P<path>[^']+)'",
        lambda match: f"a file is missing on the instance: {match['path']}",
        "send it with `dataset` or `code`; paths start from the code's folder, the dataset is in"
        " $TOWLINE_DATASET",
    ),
    _rule(
        "file_missing",
        r"can't open file '?(?P<path>[^':]+)'?: \[Errno 2\]",
        lambda match: f"the script is not on the instance: {match['path']}",
        "`code` names the folder that is sent; the command runs inside it (`towline plan` shows"
        " what is sent)",
    ),
    _rule(
        "permission_denied",
        r"PermissionError: \[Errno 1?3\].*?(?:'(?P<path>[^']+)')?$|: Permission denied$",
        lambda match: (
            "the training may not touch a file"
            + (f": {match['path']}" if match.groupdict().get("path") else "")
        ),
        "write under $TOWLINE_OUTPUT; a script needs its executable bit, or `bash script.sh`",
    ),
    _rule(
        "nan_loss",
        r"(?i)loss is nan|nan loss|loss:? (?:is )?(?:nan|inf)[,. ]*stopping|non-finite loss|"
        r"Input (?:\w+ )?contains NaN|found inf or nan|Loss is (?:nan|inf)",
        "the loss or the data became not a number (nan or inf)",
        "lower the learning rate, check the data for empty or broken values, or switch mixed"
        " precision off",
    ),
    _rule(
        "memory",
        r"^(?:\[rank\d+\]:\s*)?(?:numpy\.\S*)?MemoryError|std::bad_alloc|Cannot allocate memory|"
        r"Unable to allocate .* for an array|DefaultCPUAllocator: (?:can't|not enough memory)",
        "the instance's main memory was too small",
        "load less at a time, use fewer workers, or rent an instance with more memory",
    ),
)

_OOM_HINT = "load less at a time, use fewer workers or a smaller batch, or rent more memory"


def find(
    tail: str,
    *,
    code: int,
    signum: int = 0,
    machine: dict[str, Any] | None = None,
    oom_kills: int = 0,
) -> Cause | None:
    """Say why a training died; None when nothing tells it.

    Args:
        tail: The end of its log.
        code: Its exit code.
        signum: The signal that ended it, else 0.
        machine: The last sample of the instance.
        oom_kills: How often the kernel there killed for want of memory since the start.
    """
    lines = [_ANSI.sub("", line).strip() for line in re.split(r"[\r\n]+", tail)]
    lines = [line for line in lines if line]
    block, line = _last_raised(lines)
    for rule in _RULES:
        for said in reversed(block):
            if (match := rule.pattern.search(said)) is not None:
                return _made(rule, match, said)
    was_killed = signum == _SIGKILL or code in (137, -9, 247) or "Killed" in lines[-3:]
    if was_killed and (found := _out_of_memory(machine, oom_kills)):
        return found
    if line is None:
        return None
    hint = "the lines above it in the log say where: `towline logs`"
    return Cause(kind="exception", message=line, hint=hint, line=line)


def _made(rule: _Rule, match: re.Match[str], line: str) -> Cause:
    message = rule.message if isinstance(rule.message, str) else rule.message(match)
    hint = rule.hint if isinstance(rule.hint, str) else rule.hint(match)
    return Cause(kind=rule.kind, message=message[:_LONGEST], hint=hint, line=line[:_LONGEST])


def _out_of_memory(machine: dict[str, Any] | None, oom_kills: int) -> Cause | None:
    sample = machine or {}
    used = max(sample.get("memory_bytes") or 0, sample.get("most_memory_bytes") or 0)
    total = sample.get("memory_total_bytes")
    if not oom_kills and not (total and used >= _NEARLY * total):
        return None
    size = f" of {size_text(total)}" if total else ""
    return Cause(
        kind="killed_for_memory",
        message=f"the kernel killed it because the instance's memory{size} was used up",
        hint=_OOM_HINT,
    )


def _last_raised(lines: Sequence[str]) -> tuple[Sequence[str], str | None]:
    """The last traceback with what follows it, and the exception that it ends with.

    A traceback that only says that another process failed gives way to the one before. Without
    any, the last lines.
    """
    end = len(lines)
    starts = [at for at, line in enumerate(lines) if _TRACEBACK in line]
    for start in reversed(starts):
        block = lines[start:end]
        line = _exception(block)
        if line is not None and not line.startswith(_WRAPPERS):
            return block, line
        end = start
    return (lines[starts[0] :] if starts else lines[-_LAST_LINES:]), None


def _exception(block: Sequence[str]) -> str | None:
    for line in block:
        if (match := _RAISED.match(line)) is not None:
            said = match[1].rpartition(".")[2] + (f": {match[2]}" if match[2] else "")
            return said if len(said) <= _LONGEST else said[: _LONGEST - 3] + "..."
    return None
