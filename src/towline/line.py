"""The line to one instance: a connection that is taken up again when it breaks.

Owns dialling, boarding and reconnecting. Knows no step: what is asked of the instance, and whether
asking twice is safe, is the caller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from towline import errors
from towline.core.backoff import delays
from towline.core.instance import Address, RunId
from towline.core.layout import (
    CONTROL_FOLDER,
    MEMORY,
    ONBOARD_FILE,
    RUNS_FOLDER,
    RemoteLayout,
    session_name,
)
from towline.onboard import wire
from towline.ports import Clock, Dialer, Remote
from towline.talk import Talk

#: how long a broken line is redialled before the step gives up; training is never given up
RECONNECT_S = 600.0
_DIAL_TIMEOUT_S = 10.0
_T = TypeVar("_T")

#: $1: the control folder, $2: the program's size, $3: where it goes when the disk is full
_BOARD = f"""
umask 077; d="$HOME/$1"; p={ONBOARD_FILE}
mkdir -p "$d" || exit
if head -c "$2" /dev/zero > "$d/$p.new"; then
    head -c "$2" > "$d/$p.new" && mv "$d/$p.new" "$d/$p" || exit
else
    rm -f "$d/$p.new"
    mkdir -p "$3" && [ -O "$3" ] && [ ! -L "$3" ] && head -c "$2" > "$3/$p" || exit
    ln -sf "$3/$p" "$d/$p" || exit
fi
exec python3 -IS "$d/$p" inspect
"""


class Line:
    """Taken up by a step, kept over all of them; `close` when the process leaves the run."""

    def __init__(
        self,
        dialer: Dialer,
        address: Address,
        private_key: str | None,
        run_id: RunId,
        epoch: int,
        clock: Clock,
    ) -> None:
        self.run_id = run_id
        self.address = address
        self._dialer = dialer
        self._private_key = private_key
        self._epoch = epoch
        self._clock = clock
        self._remote: Remote | None = None
        self._lock = asyncio.Lock()
        self.python = "python3"
        self.home = ""
        #: what the instance's Python can compress and decompress
        self.codecs: tuple[str, ...] = ()
        #: called with True when the line breaks and with False when it is up again
        self.on_break: Callable[[bool, str], None] = lambda _broken, _why: None
        #: asked between redials; raises InstanceLost to end them
        self.require_alive: Callable[[], Awaitable[None]] = _assume_alive

    @property
    def layout(self) -> RemoteLayout:
        """Paths on the instance; needs a connection made before."""
        return RemoteLayout(self.home, self.run_id)

    async def dial_once(self, timeout_s: float = _DIAL_TIMEOUT_S) -> Remote:
        """Connect if there is no connection; one try.

        Raises:
            ConnectionLost, RemoteAuthError, HostKeyUnknown, HostKeyMismatch: As Dialer.dial.
        """
        async with self._lock:
            if self._remote is None:
                self._remote = await self._dialer.dial(self.address, self._private_key, timeout_s)
            return self._remote

    async def extra(self) -> Remote:
        """Open one more connection beside the main one; the caller closes it."""
        return await self._dialer.dial(self.address, self._private_key, _DIAL_TIMEOUT_S)

    async def hang_up(self) -> None:
        """Drop the connection; the next use dials again."""
        remote, self._remote = self._remote, None
        if remote is not None:
            await remote.close()

    async def board(self, pyz: bytes) -> dict[str, Any]:
        """Put the onboard program on the instance and inspect it, in one round trip.

        On a disk that its training has filled the program lies in memory, behind a link.

        Raises:
            ConnectionLost: The line broke; it has been hung up.
        """
        folder = f"{RUNS_FOLDER}/{self.run_id}/{CONTROL_FOLDER}"
        argv = ["sh", "-c", _BOARD, "sh", folder, str(len(pyz)), f"{MEMORY}-{self.run_id}"]
        channel = None
        try:
            channel = await (await self.dial_once()).open(argv)
            talk = Talk(channel)
            await channel.write(pyz)
            await talk.send_json(wire.JSON, {"run": self.run_id})
            await talk.skip_noise()
            found = await talk.result()
        except errors.ConnectionLost:
            await self.hang_up()
            raise
        finally:
            if channel is not None:
                channel.close()
        self.python, self.home = found["python"], found["home"]
        self.codecs = tuple(found["codecs"])
        return found

    @asynccontextmanager
    async def talk(
        self, verb: str, args: dict[str, Any], remote: Remote | None = None
    ) -> AsyncIterator[Talk]:
        """Run one verb over the connection (or an extra one); no retry.

        Raises:
            ConnectionLost: The line broke; it has been hung up, so that the next use redials.
        """
        # the mark lets `leave` find every process of this run, and no other
        mark = f"TOWLINE_RUN_ID={self.run_id}"
        argv = ["env", mark, self.python, "-IS", self.layout.onboard, verb]
        channel = None
        try:
            channel = await (remote or await self.dial_once()).open(argv)
            talk = Talk(channel)
            await talk.send_json(wire.JSON, self._request() | args)
            await talk.skip_noise()
            yield talk
        except errors.ConnectionLost:
            if remote is None:
                await self.hang_up()
            raise
        finally:
            if channel is not None:
                channel.close()

    def _request(self) -> dict[str, Any]:
        """What every verb is told: where, which run, and by whose authority."""
        return {
            "root": self.layout.root,
            "run": self.run_id,
            "session": session_name(self.run_id),
            "epoch": self._epoch,
        }

    async def call(self, verb: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask a verb that may be asked twice; the line is taken up again when it breaks."""

        async def once() -> dict[str, Any]:
            async with self.talk(verb, args or {}) as talk:
                return await talk.result()

        return await self.persist(once)

    async def persist(self, work: Callable[[], Awaitable[_T]], within_s: float = RECONNECT_S) -> _T:
        """Do work that may be done again; redial and repeat while the line is broken.

        Args:
            work: Raises ConnectionLost when the line broke; anything else passes through.
            within_s: Seconds without one success after which ConnectionLost is passed on. Work
                that makes progress before it breaks should catch it itself.

        Raises:
            ConnectionLost: Still broken after ``within_s``.
        """
        since = None
        pauses = delays(0.25, 5.0)
        while True:
            try:
                done = await work()
            except errors.ConnectionLost as lost:
                now = self._clock.monotonic()
                since = since or now
                self.on_break(True, lost.message)
                if now - since >= within_s:
                    raise
                await self.require_alive()
                await self._clock.sleep(next(pauses))
            else:
                if since is not None:
                    self.on_break(False, "")
                return done


async def _assume_alive() -> None:
    """Without a provider to ask, the instance counts as alive."""
