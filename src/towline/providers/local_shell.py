"""What runs when someone asks an instance's SSH server for a command or a shell.

Real processes, each in its own session, with the instance's environment and home. Owns pipes, the
terminal and exit codes; knows nothing of how the server came to be. asyncssh's own redirection is
not used: it ends both outputs when the first one ends, and so loses the tail of the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import asyncssh

Request: TypeAlias = "asyncssh.SSHServerProcess[bytes]"

#: as OpenSSH's usual AcceptEnv
_CLIENT_MAY_SET = re.compile(r"LANG|LC_[A-Z]+")
_BLOCK_BYTES = 1 << 18
_PIPE_BYTES = 1 << 20
_NOT_FOUND = 127
# done by the child itself: code between fork and exec would race with this process's threads
_TAKE_TTY = "import os, sys; os.login_tty(0); os.execvp(sys.argv[1], sys.argv[1:])"


class Shell:
    """Runs requests with one environment."""

    def __init__(self, env: Mapping[str, str], home: Path) -> None:
        self._env = dict(env)
        self._home = home

    async def handle(self, request: Request) -> None:
        """Run one request to its end, or until nobody listens any more."""
        argv = [self._env["SHELL"]]
        if request.command is not None:
            argv = ["/bin/sh", "-c", request.command]
        sent = {key: value for key, value in request.env.items() if _CLIENT_MAY_SET.fullmatch(key)}
        env = self._env | sent
        try:
            if request.term_type:
                status = await self._on_terminal(request, argv, env | {"TERM": request.term_type})
            else:
                status = await self._on_pipes(request, argv, env)
        except OSError as error:  # no memory, no process, no descriptor left
            sys.stderr.write(f"a command could not be started: {error}\n")
            status = _NOT_FOUND
        with contextlib.suppress(OSError):  # the client has gone: nobody to tell
            if status < 0:
                request.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
            else:
                request.exit(status)

    async def _on_pipes(self, request: Request, argv: list[str], env: dict[str, str]) -> int:
        (stdin, to_child), (stdout, out), (stderr, err) = _pipe(), _pipe(), _pipe()
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin,
                stdout=out,
                stderr=err,
                env=env,
                cwd=self._home,
                start_new_session=True,
            )
        except OSError:
            _close(to_child, stdout, stderr)
            raise
        finally:
            _close(stdin, out, err)
        outputs = [_pour_out(stdout, request.stdout), _pour_out(stderr, request.stderr)]
        return await _relay(request, child, outputs, _feed(request, child, to_child))

    async def _on_terminal(self, request: Request, argv: list[str], env: dict[str, str]) -> int:
        master, slave = pty.openpty()
        _resize(master, request.term_size)
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-IS", "-c", _TAKE_TTY, *argv),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=env,
                cwd=self._home,
            )
        except OSError:
            _close(master)
            raise
        finally:
            _close(slave)
        feeding = _feed(request, child, os.dup(master))
        return await _relay(request, child, [_pour_out(master, request.stdout)], feeding)


async def _relay(
    request: Request,
    child: asyncio.subprocess.Process,
    outputs: list[Coroutine[Any, Any, None]],
    feeding: Coroutine[Any, Any, None],
) -> int:
    """Move bytes until the process and its outputs have ended, or the client has gone.

    As with sshd, an output ends when the last process that holds it closes it, and a client that
    goes kills nothing: the process finds its pipes (or its terminal) closed.
    """
    talk: asyncio.Future[Any] = asyncio.gather(child.wait(), *outputs)
    feeder: asyncio.Future[Any] = asyncio.create_task(feeding)
    gone: asyncio.Future[Any] = asyncio.create_task(request.channel.wait_closed())
    try:
        await asyncio.wait([talk, gone], return_when=asyncio.FIRST_COMPLETED)
        if talk.done():
            await talk  # raises what went wrong in it
    finally:
        for task in (talk, feeder, gone):
            task.cancel()
        await asyncio.gather(talk, feeder, gone, return_exceptions=True)
    return await child.wait()


async def _pour_out(fd: int, writer: asyncssh.SSHWriter[bytes]) -> None:
    """Copy what a process writes to its channel; closes the fd."""
    os.set_blocking(fd, False)
    try:
        while data := await _read(fd):
            writer.write(data)
            await writer.drain()
    except (asyncssh.Error, BrokenPipeError):
        return  # the client has gone
    finally:
        os.close(fd)


async def _read(fd: int) -> bytes:
    """Read a block; b"" at the end."""
    while True:
        try:
            return os.read(fd, _BLOCK_BYTES)
        except BlockingIOError:
            await _ready(fd)
        except OSError as error:
            if error.errno == errno.EIO:  # how a terminal says that its last process has closed it
                return b""
            raise


async def _feed(request: Request, child: asyncio.subprocess.Process, fd: int) -> None:
    """Copy the client's input to a process, and do what it asks on the way; closes the fd."""
    os.set_blocking(fd, False)
    try:
        while True:
            try:
                data = await request.stdin.read(_BLOCK_BYTES)
            except asyncssh.TerminalSizeChanged as change:
                _resize(fd, change.term_size)
            except asyncssh.SignalReceived as received:
                _signal_child(child, received.signal)
            except asyncssh.BreakReceived:
                _signal_child(child, "INT")
            else:
                if not data:
                    return
                await _write(fd, data)
    except asyncssh.Error:
        return  # the client has gone
    finally:
        os.close(fd)


async def _write(fd: int, data: bytes) -> None:
    """Write all; what a process that closed its stdin does not want is dropped."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            await _ready(fd, write=True)
        except OSError:
            return


async def _ready(fd: int, *, write: bool = False) -> None:
    """Wait until a read (or write) has something to do."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    add, remove = (
        (loop.add_writer, loop.remove_writer)
        if write
        else (
            loop.add_reader,
            loop.remove_reader,
        )
    )
    add(fd, wake)
    try:
        await future
    finally:
        remove(fd)


def _signal_child(child: asyncio.subprocess.Process, name: str) -> None:
    """Send a signal by its SSH name; one that does not exist here is ignored, as sshd does."""
    number = getattr(signal, f"SIG{name}", None)
    if number is not None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)


def _resize(fd: int, term_size: tuple[int, int, int, int]) -> None:
    """Give a terminal the client's size: (columns, rows, and both in pixels)."""
    if not os.isatty(fd):
        return
    columns, rows, width, height = term_size
    size = struct.pack("HHHH", rows or 24, columns or 80, width, height)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, size)


def _pipe() -> tuple[int, int]:
    """Make a pipe with room for a large block: (read end, write end)."""
    ends = os.pipe()
    if sys.platform == "linux":
        with contextlib.suppress(PermissionError):  # over the user's limit: small works too
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return ends


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
