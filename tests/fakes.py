"""An instance that is a folder of this machine: commands run as local processes.

`LocalDialer` satisfies `towline.ports.Dialer`. Its connections can be cut after a number of bytes in
either direction; what ran then goes on, as on a real instance whose line broke.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

from clock import FakeClock

from towline import errors
from towline.bundle import onboard_pyz
from towline.core.instance import Address, RunId
from towline.line import Line
from towline.ports import Banner, Completed

RUN = RunId("abcdefgh23")


class LocalDialer:
    """Dials processes with HOME set to a folder.

    ``cuts`` holds for the coming channels, in order, (bytes up, bytes down) after which the
    connection breaks; None: never. ``linger`` keeps a cut command's stdin open, so that it hangs.
    """

    def __init__(self, home, *, path=None):
        self.home = Path(home)
        self.path = path or os.environ["PATH"]
        self.cuts = []
        self.put_cuts = []
        self.linger = False
        self.dials = 0
        self.sent = 0
        self.processes = []
        self.on_open = lambda argv: None
        self.on_put = lambda local, remote: None
        self._hung = []

    async def probe(self, address, timeout_s):
        return Banner(accepts=True, text="SSH-2.0-fake", detail="SSH answers")

    async def dial(self, address, private_key, timeout_s):
        self.dials += 1
        return LocalRemote(self)

    async def end(self):
        """End every process that still runs."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process._transport.close()  # first: with an unread pipe, wait() would never return
            await process.wait()
        self._hung.clear()


class LocalRemote:
    def __init__(self, dialer):
        self._dialer = dialer
        self._cut = asyncio.Event()

    def delay(self):
        return None

    @property
    def is_cut(self):
        return self._cut.is_set()

    def cut(self):
        """Break the connection: whoever waits on it is told."""
        self._cut.set()

    async def unless_cut(self, work):
        """Await something, or the cut."""
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(self._cut.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self._require()
            return tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self, argv, stdin=b""):
        channel = await self.open(argv)
        with contextlib.suppress(errors.ConnectionLost):
            await channel.write(stdin)
        await channel.write_eof()
        return await channel.wait()

    async def open(self, argv):
        self._require()
        self._dialer.on_open(argv)
        env = os.environ | {"HOME": str(self._dialer.home), "PATH": self._dialer.path}
        env.pop("PYTHONPATH", None)
        process = await asyncio.create_subprocess_exec(
            *argv, env=env, cwd=self._dialer.home, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self._dialer.processes.append(process)
        cut = self._dialer.cuts.pop(0) if self._dialer.cuts else (None, None)
        return LocalChannel(self, self._dialer, process, cut)

    async def put_file(self, local_path, remote_path, progress):
        self._require()
        self._dialer.on_put(local_path, remote_path)
        cut = self._dialer.put_cuts.pop(0) if self._dialer.put_cuts else None
        data = Path(local_path).read_bytes()
        try:
            Path(os.fsencode(remote_path).decode("utf-8", "surrogateescape")).write_bytes(
                data[:cut]
            )
        except OSError as error:
            raise errors.TransferError(str(error)) from error
        progress(len(data[:cut]))
        if cut is not None:
            self.cut()
            raise errors.ConnectionLost("cut while copying")

    async def close(self):
        self.cut()

    def _require(self):
        if self.is_cut:
            raise errors.ConnectionLost("the fake connection is cut")


class LocalChannel:
    def __init__(self, remote, dialer, process, cut):
        self._remote, self._dialer, self._process = remote, dialer, process
        self._up, self._down = cut
        self._stderr = asyncio.create_task(process.stderr.read())

    async def read(self, n):
        data = await self._remote.unless_cut(self._process.stdout.read(n))
        if self._down is not None:
            if len(data) > self._down:
                self._cut()
            self._down -= len(data)
        return data

    async def write(self, data):
        self._require()
        self._dialer.sent += len(data)
        if self._up is not None:
            if len(data) > self._up:
                await self._feed(data[: self._up])
                self._cut()
            self._up -= len(data)
        await self._feed(data)

    async def _feed(self, data):
        try:
            self._process.stdin.write(data)
            await self._remote.unless_cut(self._process.stdin.drain())
        except (BrokenPipeError, ConnectionResetError) as error:
            raise errors.ConnectionLost("the command ended") from error

    async def write_eof(self):
        self._process.stdin.close()

    async def wait(self):
        out = await self._remote.unless_cut(self._process.stdout.read())
        status = await self._process.wait()
        return Completed(-1 if status < 0 else status, out, await self._stderr)

    def close(self):
        self._stderr.cancel()
        if self._dialer.linger and self._process.returncode is None:
            self._dialer._hung.append(self._process)
        else:
            self._process.stdin.close()

    def _cut(self):
        self._remote.cut()
        self._require()

    def _require(self):
        if self._remote.is_cut:
            raise errors.ConnectionLost("the fake connection is cut")


class Far:
    """An instance with the onboard program on it, and a line to it."""

    def __init__(self, folder, *, python=sys.executable, path=None):
        self.home = Path(folder)
        self.root = self.home / "towline" / RUN
        self.control = self.root / ".towline"
        self.control.mkdir(parents=True)
        (self.control / "onboard.pyz").write_bytes(onboard_pyz())
        self.python = python
        self.dialer = LocalDialer(self.home, path=path)
        self.clock = FakeClock()

    def line(self, epoch=1):
        address = Address(host="fake", port=22, user="me", host_key="ssh-ed25519 AAAA")
        line = Line(self.dialer, address, None, RUN, epoch, self.clock)
        line.python, line.home, line.codecs = self.python, str(self.home), ("zlib",)
        return line

    def run(self, work):
        """Run an async function of a fresh line to its end, and end what is left of the far side."""

        async def whole():
            try:
                return await asyncio.wait_for(work(self.line()), 50)
            finally:
                await self.dialer.end()

        return asyncio.run(whole())

    def kill_receiver(self):
        """SIGKILL whatever of ours runs there."""
        for process in self.dialer.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)

    def clean(self):
        """Forget everything but the program."""
        for path in self.root.iterdir():
            if path != self.control:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in self.control.iterdir():
            if path.name != "onboard.pyz":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
