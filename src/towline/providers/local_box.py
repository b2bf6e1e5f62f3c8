"""An instance of provider `local` as it lies on this machine: one folder and a process tree.

  state.json       what was created, and whether its end was asked for
  lock             locked by the creator, then by the server, for as long as either lives
  home/            the instance user's home; who is let in stands in .ssh/authorized_keys
  bin/             first on PATH: python3, towline-end-instance
  host_key, server.log

The tag stands in state.json and in the folder's name. Every process of the instance carries
`TOWLINE_INSTANCE=<id>` in its environment, from the server down, so that daemons which left their
session are found as well. Knows nothing of SSH.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from towline.core.instance import InstanceId, is_run_id, parse_tag
from towline.errors import ProviderReplyError, ProviderUnavailable
from towline.providers.statefile import read_state, write_state

if sys.platform != "win32":
    import fcntl

MARK = "TOWLINE_INSTANCE"
_ID = re.compile(r"(towline-[a-z0-9]+)-[0-9a-f]{6}")
_END_WITHIN_S = 15.0
_QUIET_SCANS = 2  # a process that forks while it is looked for shows up in the next scan


@dataclass(frozen=True, slots=True)
class Box:
    """One instance's folder; it may be half made, half removed or absent."""

    folder: Path

    @property
    def id(self) -> InstanceId:
        """The instance's id."""
        return InstanceId(self.folder.name)

    @property
    def state_file(self) -> Path:
        """What was created."""
        return self.folder / "state.json"

    @property
    def home(self) -> Path:
        """The instance user's home folder."""
        return self.folder / "home"

    @property
    def bin(self) -> Path:
        """Programs that this machine would not have elsewhere."""
        return self.folder / "bin"

    @property
    def host_key(self) -> Path:
        """The server's private key."""
        return self.folder / "host_key"

    @property
    def authorized_keys(self) -> Path:
        """Who is let in."""
        return self.home / ".ssh" / "authorized_keys"

    @property
    def log(self) -> Path:
        """What the server complained about."""
        return self.folder / "server.log"

    def state(self) -> dict[str, Any]:
        """What state.json says; {} where the folder is half made or half removed."""
        try:
            return read_state(self.state_file) or {}
        except ProviderReplyError:
            return {}  # what can't be read must still be listed and ended

    def lock(self) -> int:
        """Take the lock; the instance counts as alive until the last copy of the fd is closed."""
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def server_lives(self) -> bool:
        """Say whether a living process holds the lock."""
        try:
            fd = os.open(self.folder / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def processes(self) -> list[psutil.Process]:
        """Living processes of the instance, but for this one: marked ones and what descends."""
        children: dict[int, list[psutil.Process]] = {}
        found = []
        for process in psutil.process_iter():
            try:
                children.setdefault(process.ppid(), []).append(process)
                if process.environ().get(MARK) == self.id:
                    found.append(process)
            except (psutil.Error, OSError):
                continue  # a zombie, another user's process, or one that ended meanwhile
        pids = {process.pid for process in found}
        for process in found:  # grows while it is walked: `env -i` sheds the mark, not the parent
            for child in children.get(process.pid, []):
                if child.pid not in pids and _lives(child):
                    pids.add(child.pid)
                    found.append(child)
        return [process for process in found if process.pid != os.getpid()]

    def end(self) -> None:
        """End every process, remove every file; may be called again after any interruption.

        Raises:
            ProviderUnavailable: Something of it can't be ended or removed yet.
        """
        state = self.state()
        if state:
            # a hint for readers only: a disk that the training filled must not stop the end
            with contextlib.suppress(OSError):
                write_state(self.state_file, state | {"status": "terminating"})
        self.pull_plug()
        self._remove_containers()
        try:
            self._remove(state)
        except OSError as error:
            message = f"the folder of {self.id} can't be removed: {error}"
            raise ProviderUnavailable(message, hint=f"remove {self.folder} by hand") from error

    def pull_plug(self) -> None:
        """Kill all processes until no more are found, as a cloud does: without asking them.

        Raises:
            ProviderUnavailable: Some can't be killed.
        """
        deadline = time.monotonic() + _END_WITHIN_S
        quiet = 0
        while quiet < _QUIET_SCANS:
            found = self.processes()
            quiet = 0 if found else quiet + 1
            for process in found:
                with contextlib.suppress(psutil.Error):  # what is left is counted, and said below
                    process.kill()
            psutil.wait_procs(found, timeout=0.05)
            if found and time.monotonic() > deadline:
                pids = ", ".join(str(process.pid) for process in found)
                raise ProviderUnavailable(f"processes of {self.id} can't be ended: {pids}")

    def _remove_containers(self) -> None:
        """End what docker or podman runs for the instance: no process of this tree.

        Raises:
            ProviderUnavailable: A container can't be removed.
        """
        for noted in self.home.glob("towline/*/.towline/container.json"):
            run = noted.parents[1].name
            for tool in ("docker", "podman"):
                program = shutil.which(tool)
                if program is None or not is_run_id(run):
                    continue
                for name in (f"towline-{run}", f"towline-{run}-trial"):
                    _ask(program, "rm", "--force", name)
                if name := _ask(program, "ps", "--quiet", "--filter", f"name=towline-{run}"):
                    message = f"the container {name} of {self.id} can't be removed"
                    raise ProviderUnavailable(message, hint=f"`{tool} rm --force {name}`")

    def _remove(self, state: dict[str, Any]) -> None:
        """Remove the folder; the state last, so that a second call finds what the first left."""
        if runtime := state.get("runtime"):
            remove_tree(Path(runtime))
        if self.folder.is_dir():
            for entry in self.folder.iterdir():
                if entry != self.state_file:
                    remove_tree(entry)
            remove_tree(self.folder)


def _ask(*argv: str) -> str:
    """What a container tool prints; "" where it does not work, for then it runs nothing of ours."""
    try:
        done = subprocess.run(
            argv, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def box_of(base: Path, instance_id: str) -> Box | None:
    """The box of an id; None for an id that `new_id` never made."""
    match = _ID.fullmatch(instance_id)
    return Box(base / instance_id) if match and parse_tag(match[1]) else None


def tag_of(box: Box) -> str:
    """The tag that a box carries."""
    match = _ID.fullmatch(box.id)
    return match[1] if match else ""


def new_id(tag: str) -> str:
    """Make an id that carries its tag; two instances of one tag still differ."""
    return f"{tag}-{os.urandom(3).hex()}"


def remove_tree(path: Path) -> None:
    """Remove a file, link or folder, also a read-only one; one that is gone is no error.

    Raises:
        OSError: It can't be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink(missing_ok=True)
    if os.path.lexists(path):  # a training may have closed its folders to writing
        for folder, _folders, _files in os.walk(path):
            Path(folder).chmod(0o700)
        with contextlib.suppress(FileNotFoundError):  # another `end` is at work too
            shutil.rmtree(path)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False  # it ended while we looked
