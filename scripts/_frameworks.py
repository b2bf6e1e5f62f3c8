"""The training projects of tests/frameworks: what each must show, and a copy and a venv to run it in.

`frameworks.py` trains them through towline, `record_logs.py` records what they print.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "tests" / "frameworks"
BUILD = ROOT / "build" / "frameworks"
_SHIM = SOURCE / "torchvision_cpu" / "sitecustomize.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One training project, and what a run of it must bring."""

    name: str
    package: str  # whose version the docs name
    last: int  # the epoch or round that the last report must name
    total: int | None  # how many there are, where the training says it
    metrics: tuple[str, ...]
    model: str  # its path on the instance, a glob relative to the run's folder
    sides: tuple[str, ...] = ()  # files with progress that it writes beside its log
    folder: str | None = None  # in tests/frameworks; default: the name
    extra: tuple[str, ...] = ()  # requirements on top of its file's
    borrows: tuple[str, ...] = ()  # files of other projects that belong to it too
    recipe: bool = False  # no script of its own: towline's recipe trains

    @property
    def source(self) -> Path:
        """The folder in the repository."""
        return SOURCE / (self.folder or self.name)


PROJECTS = {
    project.name: project
    for project in (
        Project(
            name="sklearn", package="scikit-learn", last=25, total=None, metrics=("loss",),
            model="output/digits.joblib",
        ),
        Project(
            name="xgboost", package="xgboost", last=30, total=None,
            metrics=("train-logloss", "valid-auc"), model="output/model.ubj",
        ),
        Project(
            name="lightgbm", package="lightgbm", last=50, total=None,
            metrics=("valid auc",), model="output/model.txt",
        ),
        Project(
            name="catboost", package="catboost", last=40, total=40, metrics=("learn", "test"),
            model="code/cancer.cbm",
            sides=("catboost_info/catboost_training.json", "catboost_info/learn_error.tsv"),
        ),
        Project(
            name="pytorch", package="torch", last=6, total=6,
            metrics=("loss", "val_loss", "accuracy"), model="output/best.pt",
        ),
        Project(
            name="lightning", package="lightning", last=3, total=3,
            metrics=("train_loss", "val_loss", "val_acc"),
            model="code/lightning_logs/version_0/checkpoints/epoch=*-val_loss=*.ckpt",
            sides=("lightning_logs/version_0/metrics.csv",
                   "lightning_logs/version_*/events.out.tfevents.*"),
        ),
        Project(
            name="lightning-rich", folder="lightning", extra=("rich==15.0.0",),
            package="lightning", last=3, total=3, metrics=("train_loss", "val_loss", "val_acc"),
            model="code/lightning_logs/version_0/checkpoints/epoch=*-val_loss=*.ckpt",
        ),
        Project(
            name="huggingface", package="transformers", last=3, total=3,
            metrics=("loss", "eval_loss"), model="output/final",
            sides=("output/checkpoint-60/trainer_state.json",),
        ),
        Project(
            name="keras", package="keras", last=4, total=4,
            metrics=("accuracy", "loss", "val_accuracy", "val_loss"), model="output/best.keras",
            sides=("output/history.csv",),
        ),
        Project(
            name="accelerate", package="accelerate", last=3, total=3, metrics=("loss",),
            model="output/final*",
        ),
        Project(
            name="timm", package="timm", last=3, total=None, metrics=("eval_top1",),
            model="output/train/digits/model_best.pth.tar",
            sides=("output/train/digits/summary.csv",),
        ),
        Project(
            name="fastai", package="fastai", last=4, total=4,
            metrics=("train_loss", "valid_loss", "accuracy"), model="code/export.pkl",
        ),
        Project(
            name="ultralytics", package="ultralytics", last=3, total=3,
            metrics=("train/box_loss", "metrics/mAP50(B)"),
            model="code/runs/detect/train/weights/best.pt",
            sides=("runs/detect/train/results.csv",),
        ),
        Project(
            name="yolo", package="ultralytics", last=3, total=3,
            metrics=("train/box_loss", "metrics/mAP50(B)"), model="output/train/weights/best.pt",
            borrows=("ultralytics/make_data.py", "ultralytics/check.py"), recipe=True,
        ),
    )
}  # fmt: skip


def chosen(names: list[str]) -> list[Project]:
    """The projects of these names; all without any.

    Raises:
        SystemExit: A name is none of theirs.
    """
    unknown = [name for name in names if name not in PROJECTS]
    if unknown:
        sys.exit(f"error: no project {', '.join(unknown)}; there are {', '.join(PROJECTS)}")
    return [PROJECTS[name] for name in names or PROJECTS]


def requirements(project: Project) -> list[str]:
    """The lines of its requirements."""
    return [*(project.source / "requirements.txt").read_text("utf-8").split(), *project.extra]


def package_environment() -> dict[str, str]:
    """This process's environment, in which uv also looks where pip has been told to look."""
    places = os.environ.get("PIP_FIND_LINKS")
    more = {"UV_FIND_LINKS": places} if places and "UV_FIND_LINKS" not in os.environ else {}
    return os.environ | more


def make_venv(project: Project) -> Path:
    """A venv with the project's requirements, kept; for loading models and recording logs."""
    wanted = requirements(project)
    venv = BUILD / "venvs" / hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    made = venv / "made"
    if made.exists():
        return venv
    shutil.rmtree(venv, ignore_errors=True)
    uv = str(uv_program())
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", venv / "bin" / "python", *wanted]
    subprocess.run(install, env=package_environment(), check=True)
    made.touch()
    return venv


def uv_program() -> Path:
    """The uv of the environment this script runs in.

    Raises:
        SystemExit: It has none.
    """
    found = Path(sys.executable).parent / "uv"
    if not found.exists():
        sys.exit("error: no uv beside this Python; run this through `make frameworks`")
    return found


def version(project: Project, venv: Path) -> str:
    """The installed version of the project's framework."""
    code = f"import importlib.metadata as m; print(m.version({project.package!r}))"
    return subprocess.check_output([venv / "bin" / "python", "-c", code], text=True).strip()


def copy_project(project: Project, venv: Path, target: Path) -> bool:
    """A fresh copy with its data; returns whether torchvision needs the stand-in operator here."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(project.source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for file in project.borrows:
        shutil.copy(SOURCE / file, target)
    if project.extra:
        (target / "requirements.txt").write_text("\n".join(requirements(project)) + "\n")
    maker = target / "make_data.py"
    if maker.exists():
        subprocess.run([venv / "bin" / "python", maker.name], cwd=target, check=True)
    needed = _needs_shim(venv)
    if needed:
        shutil.copy(_SHIM, target)
        file = target / "towline.yaml"
        task = yaml.safe_load(file.read_text("utf-8"))
        task.setdefault("code", ".")
        task["env"] = {**task.get("env", {}), "PYTHONPATH": "."}
        file.write_text(yaml.safe_dump(task, sort_keys=False), "utf-8")
    return needed


def _needs_shim(venv: Path) -> bool:
    if not any(venv.glob("lib/*/site-packages/torchvision")):
        return False
    argv = [venv / "bin" / "python", "-c", "import torchvision"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return "operator torchvision::nms does not exist" in done.stderr
