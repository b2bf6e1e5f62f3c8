"""Where towline keeps things on this machine: state, a run's files, settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from towline.core.instance import RunId
from towline.disk import network_filesystem, read_text, writing
from towline.errors import SpecError


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A run's own files; the folder is 0700, the files 0600."""

    folder: Path

    @property
    def home(self) -> Path:
        """The TOWLINE_HOME that it is in."""
        return self.folder.parents[1]

    @property
    def private_key(self) -> Path:
        """The run's SSH key, deleted at release."""
        return self.folder / "key"

    def read_key(self) -> str | None:
        """The text of the run's own SSH key; None where the user's own way in is used.

        Raises:
            LocalReadError: It had one, which is not there now or can't be read.
        """
        had_one = any(key.exists() for key in self.keys[:2])
        return read_text(self.private_key) if had_one else None

    @property
    def host_key(self) -> Path:
        """The SSH host key that the run's instance is given, deleted at release."""
        return self.folder / "host_key"

    @property
    def keys(self) -> tuple[Path, ...]:
        """All of the run's key files."""
        pairs = (self.private_key, self.host_key)
        return tuple(file for key in pairs for file in (key, key.with_suffix(".pub")))

    @property
    def log(self) -> Path:
        """The training's output so far, redacted."""
        return self.folder / "training.log"

    @property
    def log_times(self) -> Path:
        """When the log had which size: JSON lines of "at" and "size_bytes"."""
        return self.folder / "log.times"

    @property
    def equip_log(self) -> Path:
        """What the installers printed, redacted."""
        return self.folder / "equip.log"

    @property
    def entered(self) -> Path:
        """Exists once a login to the instance succeeded."""
        return self.folder / "entered"

    @property
    def driver_log(self) -> Path:
        """What a background driver printed."""
        return self.folder / "driver.log"


@dataclass(frozen=True, slots=True)
class Home:
    """TOWLINE_HOME."""

    path: Path

    @classmethod
    def default(cls) -> Home:
        """Take TOWLINE_HOME, else the platform's data folder."""
        if chosen := os.environ.get("TOWLINE_HOME"):
            return cls(Path(chosen).expanduser().absolute())
        from platformdirs import user_data_path  # noqa: PLC0415

        return cls(user_data_path("towline", appauthor=False))

    @property
    def database(self) -> Path:
        """The journal."""
        return self.path / "towline.db"

    def prepare(self) -> None:
        """Make the folder, closed to others.

        Raises:
            SpecError: It can't be made, or is on a network filesystem: there neither SQLite's
                write-ahead log nor its locks hold, and two machines could drive one run.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            message = f"towline's folder {self.path} can't be made: {error.strerror}"
            raise SpecError(message, hint="set TOWLINE_HOME to a folder you can write") from error
        if (kind := network_filesystem(self.path)) is not None:
            message = f"towline's folder {self.path} is on a network filesystem ({kind})"
            hint = (
                "the journal is safe on a disk of this machine only: set TOWLINE_HOME to a folder"
                " there. Runs that are active come along when you move the whole folder there"
            )
            raise SpecError(message, hint=hint)

    def run_files(self, run_id: RunId) -> RunFiles:
        """A run's folder, made when it is missing.

        Raises:
            LocalWriteError: It can't be made.
        """
        folder = self.path / "runs" / run_id
        with writing(folder):
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        return RunFiles(folder)


def open_private(path: Path, mode: str) -> IO[bytes]:
    """Open a file that only the user can read, in a binary mode.

    Raises:
        LocalWriteError: It can't be opened; for what is then done with it there is `writing`.
    """
    with writing(path):
        return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only the user can read; whole or not at all.

    Raises:
        LocalWriteError: It can't be written.
    """
    temporary = path.with_name(path.name + ".new")
    with writing(path):
        temporary.unlink(missing_ok=True)  # one that a crash left may be open to others
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def load_config() -> dict[str, Any]:
    """Read config.yaml: TOWLINE_CONFIG, else the platform's config folder; {} without one.

    Raises:
        SpecError: The file is there but is not a mapping of the known keys.
    """
    chosen = os.environ.get("TOWLINE_CONFIG")
    if chosen:
        path = Path(chosen).expanduser()
    else:
        from platformdirs import user_config_path  # noqa: PLC0415

        path = user_config_path("towline", appauthor=False) / "config.yaml"
    if not path.exists():
        if chosen:
            raise SpecError(f"TOWLINE_CONFIG names {path}, which does not exist")
        return {}
    from towline.taskfile import read_yaml  # noqa: PLC0415 - YAML is imported where used

    value = read_yaml(path)
    if not isinstance(value, dict) or not set(value) <= {"providers"}:
        message = f"{path}: the one known top-level key is `providers`"
        raise SpecError(message, hint="see docs/providers.md for an example")
    return value
