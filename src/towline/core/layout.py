"""Where a run lives on its instance: one folder, and a control folder inside it."""

from __future__ import annotations

from dataclasses import dataclass

from towline.core.instance import RunId

#: the run's folder, relative to the home folder of the SSH user
RUNS_FOLDER = "towline"
#: inside the run's folder: towline's own files, out of the training's way
CONTROL_FOLDER = ".towline"
ONBOARD_FILE = "onboard.pyz"
#: where the program lies while the disk is full; the run's id follows, and `leave` removes it
MEMORY = "/dev/shm/towline"  # noqa: S108 - made 0700, and used only when it is ours


@dataclass(frozen=True, slots=True)
class RemoteLayout:
    """Absolute paths on the instance, known once the home folder is."""

    home: str
    run_id: RunId

    @property
    def root(self) -> str:
        """The run's folder."""
        return f"{self.home}/{RUNS_FOLDER}/{self.run_id}"

    @property
    def dataset(self) -> str:
        """The delivered dataset's folder."""
        return f"{self.root}/dataset"

    @property
    def code(self) -> str:
        """The delivered code: the command's working directory."""
        return f"{self.root}/code"

    @property
    def output(self) -> str:
        """Where the training is asked to write."""
        return f"{self.root}/output"

    @property
    def log(self) -> str:
        """Everything the training printed."""
        return f"{self.root}/training.log"

    @property
    def control(self) -> str:
        """Markers, receiver staging, epoch."""
        return f"{self.root}/{CONTROL_FOLDER}"

    @property
    def onboard(self) -> str:
        """The program towline runs on the instance."""
        return f"{self.control}/{ONBOARD_FILE}"


def session_name(run_id: RunId) -> str:
    """Name of the tmux session that shows the training."""
    return f"towline-{run_id}"
