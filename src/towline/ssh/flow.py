"""How much of what is written may wait on this side of an SSH connection: little."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

import asyncssh

#: bytes that may wait in the system: what waits here when the line breaks is sent again
_UNSENT_BYTES = 128 * 1024
# struct tcp_info of <linux/tcp.h>: tcpi_rtt and tcpi_min_rtt, microseconds, never moved since 4.6
_RTT, _MIN_RTT = 68, 148
_U32 = struct.Struct("=I")


class Clear:
    """Whether the connection's socket takes more.

    asyncssh takes from its caller what SSH's window allows, up to 2 MiB a channel, however little
    of it has gone out: it does nothing with its transport's word to pause. So we do.
    """

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._flag = asyncio.Event()
        self._flag.set()
        connection.pause_writing = self._flag.clear  # type: ignore[method-assign]
        connection.resume_writing = self._flag.set  # type: ignore[method-assign]
        lost = connection.connection_lost

        def connection_lost(exc: Exception | None = None) -> None:
            self._flag.set()  # whoever waits is to find out
            lost(exc)

        connection.connection_lost = connection_lost  # type: ignore[method-assign]
        unsent = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        self._raw = connection.get_extra_info("socket")
        if unsent is not None and self._raw is not None:
            self._raw.setsockopt(socket.IPPROTO_TCP, unsent, _UNSENT_BYTES)

    def delay(self) -> float | None:
        """See `Remote.delay`."""
        if sys.platform != "linux" or self._raw is None:
            return None
        try:
            info = self._raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT + _U32.size)
        except OSError:
            return None  # it is closed
        if len(info) < _MIN_RTT + _U32.size:
            return None  # an older kernel
        now, least = _U32.unpack_from(info, _RTT)[0], _U32.unpack_from(info, _MIN_RTT)[0]
        return float(now / least) if least else None

    async def wait(self) -> None:
        """Wait until it does."""
        await self._flag.wait()
