"""How fast the line to a machine is: bytes are sent to a small program there that drops them.

The program counts what has arrived, so that what waits in a queue on the way is no speed. It is
given on the command line: nothing is written there, and it ends with its connection.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from towline.errors import ConnectionLost, NotReady
from towline.line import Line
from towline.onboard import wire
from towline.ports import Channel, Remote
from towline.talk import Talk
from towline.transfer.connections import Connections, race, together
from towline.transfer.meter import Gauge, Meter

_MEASURE_S = 4.0  # long enough for as many connections as would help
_WINDOW_S = 1.5  # what counts: its end, when all of them are under way
_MOST_BYTES = 512 * 1024 * 1024  # a line that took so much is known well enough
_GIVE_UP_S = 30.0  # for the login, and for the first bytes to arrive
_SLICE = bytes(64 * 1024)  # on the line these look random: SSH encrypts, and does not compress
_PROGRAM = f"""\
import os, struct, time
count, told = 0, 0.0
os.write(1, {wire.MAGIC!r})
while True:
    part = os.read(0, 262144)
    if not part:
        break
    count += len(part)
    if time.monotonic() - told > 0.05:
        told = time.monotonic()
        data = b"%d" % count
        os.write(1, struct.pack({wire.HEADER.format!r}, {wire.JSON!r}, len(data)) + data)
"""
#: one line, which every login shell takes as it is
_ARGV = ["python3", "-ISc", f"exec({_PROGRAM!r})"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a line carries. ``rtt_s`` is a round trip while nothing else is on it."""

    bytes_per_s: float
    connections: int
    rtt_s: float


async def measure(line: Line) -> Measured:
    """Send over as many connections as help, as an upload does, for about 4 s; then hang up.

    Raises:
        NotReady: The machine can't be reached, or nothing arrives there.
        CommandFailed: It has no python3, so no training could run there either.
        RemoteAuthError: It does not let us in.
        HostKeyUnknown: known_hosts has no key for it.
        HostKeyMismatch: Another machine answered.
    """
    pour = _Pour(line)
    try:
        async with asyncio.timeout(_GIVE_UP_S):
            return await pour.run()
    except (ConnectionLost, TimeoutError) as lost:
        why = getattr(lost, "message", f"nothing arrived within {_GIVE_UP_S:g} s")
        message = f"the uplink to {line.address} can't be measured: {why}"
        hint = "check the machine and the network; --uplink MBIT plans without it"
        raise NotReady(message, hint=hint) from lost
    finally:
        await line.hang_up()


class _Pour:
    """A measurement under way."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._gauge = Gauge(_WINDOW_S)
        self._meter = Meter("upload", lambda _progress: None)
        self._rtt_s: float | None = None
        self._known: asyncio.Future[Measured] = asyncio.get_running_loop().create_future()

    async def run(self) -> Measured:
        """Pour until enough is known."""
        helpers = Connections(
            self._line, self._serve, lambda: float("inf"), self._gauge, self._meter
        )
        await race(helpers.run(), self._main(), self._until_known())
        return self._known.result()

    async def _main(self) -> None:
        await self._serve(await self._line.dial_once())

    async def _until_known(self) -> None:
        await self._known

    async def _serve(self, remote: Remote) -> None:
        """Pour over one connection."""
        channel = await remote.open(_ARGV)
        try:
            talk = Talk(channel)
            await talk.skip_noise()
            if self._rtt_s is None:
                self._rtt_s = await _round_trip(channel, talk)
            await together(_write(channel), self._count(talk))
        finally:
            channel.close()

    async def _count(self, talk: Talk) -> None:
        before = 0
        while not self._known.done():
            arrived = int((await talk.frame())[1])
            self._gauge.add(arrived - before)
            before = arrived
            if self._gauge.age() >= _MEASURE_S or self._gauge.total >= _MOST_BYTES:
                self._known.set_result(self._measured())

    def _measured(self) -> Measured:
        return Measured(self._gauge.rate(), self._meter.connections, self._rtt_s or 0.0)


async def _write(channel: Channel) -> None:
    while True:
        await channel.write(_SLICE)


async def _round_trip(channel: Channel, talk: Talk) -> float:
    """Seconds until a first byte is heard of."""
    began = time.monotonic()
    await channel.write(_SLICE[:1])
    await talk.frame()
    return time.monotonic() - began
