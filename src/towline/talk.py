"""One verb of the onboard program under way: frames in, frames out, its errors in our words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from towline import errors
from towline.onboard import wire
from towline.ports import Channel

#: every verb says something at least every few seconds; one that does not is stuck or cut off
_SILENCE_S = 60.0
_NOISE_LIMIT = 1 << 20  # bytes a login shell may print before our reply begins

_ERRORS: dict[str, type[errors.TowlineError]] = {
    "fenced": errors.Fenced,
    "disk_full": errors.RemoteDiskFull,
    "disk_filled": errors.RemoteDiskFilled,
    "checksum": errors.ChecksumMismatch,
    "equip": errors.EquipFailed,
    "eof": errors.ConnectionLost,
    "refused": errors.TransferError,
}


class Talk:
    """One onboard verb under way: frames in, frames out."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._buffer = bytearray()
        self._writing = asyncio.Lock()  # several may write; a frame is not to be torn

    @property
    def more_waits(self) -> bool:
        """Whether more has come than the frames that were read."""
        return bool(self._buffer)

    async def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send one frame."""
        async with self._writing:
            await self._channel.write(wire.pack(kind, payload))

    async def send_json(self, kind: bytes, value: Any) -> None:
        """Send one JSON frame."""
        async with self._writing:
            await self._channel.write(wire.pack_json(kind, value))

    async def skip_noise(self) -> None:
        """Read past anything a login shell printed, up to the reply's beginning.

        Raises:
            CommandFailed: No reply began; the message carries what came instead.
        """
        while (at := self._buffer.find(wire.MAGIC)) < 0:
            part = await self._heard()
            self._buffer += part
            if not part or len(self._buffer) > _NOISE_LIMIT:
                raise await self._no_reply()
        del self._buffer[: at + len(wire.MAGIC)]

    async def frame(self) -> tuple[bytes, bytes]:
        """Read one frame that is not an error.

        Raises:
            TowlineError: The verb failed; mapped from its kind.
            ConnectionLost: The connection ended inside the talk, or carried no frame of ours.
        """  # noqa: DOC501 - a helper makes the exception
        try:
            kind, length = wire.unpack_header(await self._exactly(wire.HEADER.size))
        except ValueError as garbled:
            raise errors.ConnectionLost(f"the instance's answer is garbled: {garbled}") from garbled
        payload = await self._exactly(length)
        if kind == wire.ERROR:
            raise _mapped(json.loads(payload))
        return kind, payload

    async def result(self) -> dict[str, Any]:
        """Read frames up to the verb's result, skipping remarks."""
        while True:
            kind, payload = await self.frame()
            if kind == wire.RESULT:
                value: dict[str, Any] = json.loads(payload)
                return value

    async def frames(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield frames up to and including the RESULT frame."""
        kind = b""
        while kind != wire.RESULT:
            kind, payload = await self.frame()
            yield kind, payload

    async def _exactly(self, n: int) -> bytes:
        while len(self._buffer) < n:
            part = await self._heard()
            if not part:
                message = "the connection ended in the middle of a reply"
                raise errors.ConnectionLost(message)
            self._buffer += part
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    async def _heard(self) -> bytes:
        try:
            async with asyncio.timeout(_SILENCE_S):
                return await self._channel.read(262144)
        except TimeoutError as error:
            message = f"the instance has said nothing for {_SILENCE_S:g} s"
            raise errors.ConnectionLost(message) from error

    async def _no_reply(self) -> errors.TowlineError:
        done = await self._channel.wait()
        said = (done.stderr or bytes(self._buffer)).decode(errors="replace").strip()[-400:]
        if done.exit_status in (126, 127):
            return errors.CommandFailed(
                f"python3 does not run on the instance: {said}",
                hint="towline needs Python 3.6 or later there; install it, for example with"
                " `apt-get install python3`, or choose another image",
            )
        if not said and done.exit_status < 0:
            return errors.ConnectionLost("the connection ended before the instance answered")
        return errors.CommandFailed(
            f"towline's program on the instance ended with status {done.exit_status}: {said}"
        )


def _mapped(body: dict[str, Any]) -> errors.TowlineError:
    """Turn an ERROR frame into the exception it names."""
    kind = _ERRORS.get(body["kind"], errors.CommandFailed)
    return kind(body["message"], hint=body.get("hint"))
