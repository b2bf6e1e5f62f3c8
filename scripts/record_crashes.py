"""Let real trainings die of the usual causes and record what they print: tests/data/crashes.

    python scripts/record_crashes.py [PYTHON] [CASE ...]

PYTHON runs the cases; one with torch records more of them, and one with a GPU the CUDA ones. A case
that can't happen here (it ended well, or lacks a module) is not recorded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "crashes"
TAIL = 16 * 1024
TORCH = "import torch\n"
SMALL_SHM = [
    "unshare",
    "-m",
    "sh",
    "-c",
    'mount -t tmpfs -o size=1m none /dev/shm && exec "$@"',
    "sh",
]
WORKERS = """
import torch
from torch.utils.data import DataLoader, Dataset
class Images(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return torch.zeros(3, 640, 640)
if __name__ == "__main__":
    for batch in DataLoader(Images(), batch_size=8, num_workers=2):
        pass
"""
RANKS = """
import os
print("rank", os.environ["RANK"], flush=True)
if os.environ["RANK"] == "0":
    import cv2_not_here
"""

#: name -> the cause it stands for, and the script
CASES = {
    "module": ("import_error", "print('loading')\nfrom cv2_not_here.data import load\n"),
    "name": ("import_error", "from json import not_there\n"),
    "memory": ("memory", ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))\n"
               "data = [bytearray(1 << 24) for _ in range(100)]\n")),
    "memory_numpy": ("memory", "import numpy\nprint(numpy.zeros((1 << 21, 1 << 21)).sum())\n"),
    "disk": ("disk_full", "file = open('/dev/full', 'wb', buffering=0)\nfile.write(b'weights')\n"),
    "file_size": ("file_too_large", ("import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
                  "open('model.pt', 'wb').write(bytes(100_000))\n")),
    "dataset": ("dataset_missing", "import os\nopen(os.environ['TOWLINE_DATASET'] + '/train.csv')\n"),
    "file": ("file_missing", "open('configs/model.yaml')\n"),
    "permission": ("permission_denied", "import os\nos.setuid(65534)\nopen('/root/model.pt', 'wb')\n"),
    "port": ("port_in_use", ("import socket\na = socket.socket()\na.bind(('127.0.0.1', 0))\na.listen()\n"
             "socket.socket().bind(a.getsockname())\n")),
    "hub": ("hub_offline", "import urllib.request\nurllib.request.urlopen('https://huggingface.invalid/yolo.pt')\n"),
    "value": ("exception", ("def fit(rate):\n    raise ValueError(f'rate {rate} is too high')\n"
              "try:\n    int('a')\nexcept ValueError:\n    fit(3)\n")),
    "nan_sklearn": ("nan_loss", "from sklearn.linear_model import Ridge\nRidge().fit([[float('nan')], [1]], [1, 2])\n"),
    "torch_memory": ("memory", TORCH + "torch.zeros(1 << 42)\n"),
    "torch_shared_memory": ("shared_memory", WORKERS),
    "torch_no_cuda": ("no_cuda", TORCH + "torch.zeros(3, device='cuda')\n"),
    "torch_ranks": ("import_error", RANKS),
    "cuda_memory": ("cuda_out_of_memory", TORCH + "held = [torch.ones(1 << 30, device='cuda') for _ in range(64)]\n"),
    "cuda_memory_jax": ("cuda_out_of_memory", "import jax.numpy as n\nheld = [n.ones(1 << 32) for _ in range(64)]\nprint(sum(h.sum() for h in held))\n"),
    "cuda_hidden": ("no_cuda", "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = ''\n" + TORCH + "torch.zeros(3).cuda()\n"),
}  # fmt: skip


def main() -> None:
    """Record the wanted cases."""
    python, *wanted = sys.argv[1:] or [sys.executable]
    FOLDER.mkdir(parents=True, exist_ok=True)
    index_file = FOLDER / "index.json"
    index = json.loads(index_file.read_text()) if index_file.exists() else {}
    for name, (kind, script) in CASES.items():
        if not wanted or name in wanted:
            record(python, name, kind, script, index)
    index_file.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


def record(python: str, name: str, kind: str, script: str, index: dict[str, dict]) -> None:
    """Let one case die and keep what it printed."""
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        (Path(folder) / "train.py").write_text(script)
        dataset = str(Path(folder) / "dataset")
        argv = [python, "train.py"]
        if name == "torch_shared_memory":
            argv = [*SMALL_SHM, *argv]
        if name == "torch_ranks":
            argv = [python, "-m", "torch.distributed.run", "--nproc-per-node=2", "train.py"]
        done = subprocess.run(
            argv, cwd=folder, env=os.environ | {"TOWLINE_DATASET": dataset}, timeout=300,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    text = done.stdout.decode("utf-8", "replace").replace(folder, "/home/user/towline/run/code")
    text = text.replace(str(Path(python).parents[1]), "/home/user/venv")
    text = text.replace(os.path.realpath(sys.base_prefix), "/usr")
    lacking = "No module named" in text and kind != "import_error"
    if done.returncode == 0 or lacking:
        print(f"{name}: not recorded ({'a module is lacking' if lacking else 'it ended well'})")
        return
    signum = max(0, -done.returncode)
    code = 128 + signum if signum else done.returncode
    (FOLDER / f"{name}.log").write_text(text[-TAIL:])
    index[name] = {"kind": kind, "code": code, "signal": signum}
    print(f"{name}: exit code {code}, {len(text)} characters")


main()
