"""The SSH server of one `local` instance: a process of its own.

    python -m towline.providers.local_server FOLDER LOCK_FD SOCKET_FD
    python -m towline.providers.local_server --end FOLDER

The first form serves until it is killed, or until its folder has gone; it was given the lock that
says "alive" and the bound socket. The second ends an instance from within (`local.END_COMMAND`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import asyncssh

from towline.clock import RealClock
from towline.errors import TowlineError
from towline.providers.local_box import Box
from towline.providers.local_shell import Shell

_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
)
_WINDOW_BYTES = 8 << 20
_WATCH_S = 1.0


class Sftp(asyncssh.SFTPServer):
    """Files as the instance's user sees them; relative paths start at the home folder."""

    def exit(self) -> None:
        """End the session with a status, without which OpenSSH's scp reports a failure."""
        self.channel.exit(0)


class Login(asyncssh.SSHServer):
    """Lets the one user in with the one key."""

    def __init__(self, box: Box, user: str, *, refuse: bool) -> None:
        self._box = box
        self._user = user
        self._refuse = refuse
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember whom we talk to."""
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        """Ask everyone for a key; others than the user have none that fits."""
        if username == self._user and not self._refuse and self._connection is not None:
            self._connection.set_authorized_keys(str(self._box.authorized_keys))
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are the only way in, also for a user who has none."""
        return True


async def serve(box: Box, state: dict[str, Any], sock: socket.socket) -> None:
    """Boot, then accept SSH, until the folder has gone."""
    clock = RealClock()
    watching = asyncio.create_task(_until_removed(box, clock))
    if state["boot_fault"] == "dies":
        await clock.sleep(state["active_at"] - clock.now())
        return
    if state["boot_fault"] != "never":
        await clock.sleep(max(0.0, state["ssh_at"] - clock.now()))
        await _listen(box, state, sock)
    await watching


async def _until_removed(box: Box, clock: RealClock) -> None:
    """Watch over the folder: without it nobody could find this instance to end it."""
    while box.state_file.exists():
        await clock.sleep(_WATCH_S)
    await asyncio.to_thread(box.pull_plug)


async def _listen(box: Box, state: dict[str, Any], sock: socket.socket) -> None:
    fault = state["ssh_fault"]
    if fault in ("silent", "drop"):
        await asyncio.start_server(_silent if fault == "silent" else _drop, sock=sock)
        return
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    await asyncssh.listen(
        sock=sock,
        config=[],
        server_factory=lambda: Login(box, state["user"], refuse=fault == "refuse_login"),
        server_host_keys=[str(box.host_key)],
        process_factory=Shell(env, box.home).handle,
        sftp_factory=Sftp,
        allow_scp=True,
        encoding=None,
        line_editor=False,
        window=_WINDOW_BYTES,
        encryption_algs=_CIPHERS,
        compression_algs=["none"],
        password_auth=False,
        kbdint_auth=False,
        agent_forwarding=False,
        x11_forwarding=False,
        tcp_keepalive=True,
        login_timeout=30,
    )


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Injected fault: read what comes, answer nothing."""
    while await reader.read(4096):
        pass
    writer.close()


async def _drop(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Injected fault: hang up at once."""
    writer.close()


def _run(folder: Path, lock_fd: int, socket_fd: int) -> None:
    for fd in (lock_fd, socket_fd):  # ours alone: no command may hold the instance "alive"
        os.set_inheritable(fd, False)
    os.setsid()
    os.umask(0o022)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # ignored by how we were started, and inherited
    box = Box(folder)
    state = box.state()
    if state.get("status") != "running":
        return  # ended before we began
    runtime = Path(state["runtime"])
    runtime.mkdir(mode=0o700)  # fails when someone else made it first
    os.chdir(box.home)
    with socket.socket(fileno=socket_fd) as sock:
        sock.setblocking(False)
        asyncio.run(serve(box, state, sock))


def _end(folder: Path) -> int:
    """End the instance from a process that its end does not reach."""
    if os.fork():
        return 0  # the caller is about to be killed with all the others
    os.setsid()
    try:
        Box(folder).end()
    except TowlineError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def main(argv: list[str]) -> int:
    """Serve, or end."""
    if argv[0] == "--end":
        return _end(Path(argv[1]))
    _run(Path(argv[0]), int(argv[1]), int(argv[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
