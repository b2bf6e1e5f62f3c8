"""Make an instance of provider `local`: what it finds in its folder, and its SSH server's start."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from towline.core.instance import Order
from towline.providers.local_box import MARK, Box
from towline.providers.local_env import instance_environment
from towline.providers.statefile import write_state

USER = "towline"
END_COMMAND = "towline-end-instance"
_LAUNCH = '"$@" </dev/null >/dev/null 2>>"$0" &'
_END_SCRIPT = """\
#!/bin/sh
# Ends this instance and every process in it. It runs from outside: without the mark.
unset {mark}
exec env PYTHONPATH={source} {python} -P -m towline.providers.local_server --end {folder}
"""


def furnish(draft: Box, box: Box, state: dict[str, Any], order: Order) -> None:
    """Fill the draft's folder with what the instance finds at its final place."""
    import asyncssh  # noqa: PLC0415 - 0.2 s, when it is needed only

    host_key = (
        asyncssh.import_private_key(order.host_key)
        if order.host_key
        else asyncssh.generate_private_key("ssh-ed25519", comment=box.id)
    )
    state["host_key"] = host_key.export_public_key().decode().strip()
    draft.host_key.touch(mode=0o600)
    draft.host_key.write_bytes(host_key.export_private_key())
    draft.home.mkdir()
    draft.authorized_keys.parent.mkdir(mode=0o700)
    draft.authorized_keys.write_text(order.public_key.strip() + "\n")
    draft.bin.mkdir()
    # the interpreter itself: not a virtual environment's, and not a version switcher's front
    (draft.bin / "python3").symlink_to(os.path.realpath(_base_python()))
    script = draft.bin / END_COMMAND
    script.write_text(
        _END_SCRIPT.format(
            mark=MARK,
            source=shlex.quote(_source_folder()),
            python=shlex.quote(sys.executable),
            folder=shlex.quote(str(box.folder)),
        )
    )
    script.chmod(0o755)
    write_state(draft.state_file, state)


def launch(box: Box, runtime: Path, fds: list[int]) -> None:
    """Start the server away from us: own session, and no child of ours that we would have to reap.

    It inherits the lock, which is thus held without a gap, and the reserved port.
    """
    env = instance_environment(os.environ, home=box.home, bin_folder=box.bin, runtime=runtime)
    argv = [sys.executable, "-P", "-m", "towline.providers.local_server", str(box.folder)]
    argv += [str(fd) for fd in fds]
    subprocess.run(
        ["/bin/sh", "-c", _LAUNCH, str(box.log), *argv],
        cwd="/",
        env=env | {MARK: box.id, "PYTHONPATH": _source_folder(), "USER": USER, "LOGNAME": USER},
        pass_fds=fds,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=30,
    )


def _base_python() -> str:
    return getattr(sys, "_base_executable", None) or sys.executable


def _source_folder() -> str:
    return str(Path(__file__).parents[2])
