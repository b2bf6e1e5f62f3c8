"""Remote and Dialer over asyncssh.

Owns algorithms, keepalives, host key checks and the map from asyncssh's exceptions to ours. Knows
nothing of runs. No agent, X11 or port forwarding is ever asked for, no SSH configuration file is
read, and no pty is used: a server run by an ordinary user may not grant one.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import asyncssh

from towline import errors
from towline.core.instance import Address
from towline.ports import Banner, Completed
from towline.ssh.flow import Clear
from towline.ssh.mapping import mapped, plain, sftp_error

# asyncssh is fastest with aes-gcm (measured: docs/design/line.md)
_CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
)
_SSH_PORT = 22
_KEEPALIVE_S = 5
_KEEPALIVE_MISSES = 6  # a dead line is noticed after 30 s; a shorter cut heals unseen
_WINDOW_BYTES = 8 * 1024 * 1024  # a long fat link needs more than the default 2 MiB in flight
_SLICE_BYTES = 64 * 1024
_STDERR_LIMIT = 64 * 1024


class SshDialer:
    """Makes asyncssh connections."""

    async def probe(self, address: Address, timeout_s: float) -> Banner:
        """Connect by TCP and wait for the line that begins with `SSH-`."""
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(address.host, address.port)
        except TimeoutError:
            return Banner(accepts=False, text="", detail=f"no answer within {timeout_s:g} s")
        except OSError as error:
            return Banner(accepts=False, text="", detail=plain(error))
        try:
            async with asyncio.timeout(timeout_s):
                return await _read_banner(reader)
        except TimeoutError:
            detail = f"the port is open but sends no SSH banner within {timeout_s:g} s"
            return Banner(accepts=True, text="", detail=detail)
        except (OSError, ValueError) as error:
            return Banner(accepts=True, text="", detail=f"the port is open, then: {error}")
        finally:
            writer.close()

    async def host_key(self, address: Address, timeout_s: float) -> str:
        """Ask for the host key; see the port."""
        key = await _shown_key(address, timeout_s)
        return key.export_public_key().decode().strip()

    async def dial(self, address: Address, private_key: str | None, timeout_s: float) -> SshRemote:
        """Log in; see the port."""
        options = await _identity(address, private_key, timeout_s)
        with mapped(address):
            async with asyncio.timeout(timeout_s):
                connection = await asyncssh.connect(
                    address.host,
                    address.port,
                    username=address.user,
                    config=[],
                    encryption_algs=_CIPHERS,
                    compression_algs=["none"],
                    keepalive_interval=_KEEPALIVE_S,
                    keepalive_count_max=_KEEPALIVE_MISSES,
                    password_auth=False,
                    kbdint_auth=False,
                    gss_auth=False,
                    gss_kex=False,
                    host_based_auth=False,
                    **options,
                )
        return SshRemote(connection, address)


class SshRemote:
    """One asyncssh connection."""

    def __init__(self, connection: asyncssh.SSHClientConnection, address: Address) -> None:
        self._connection = connection
        self._address = address
        self._clear = Clear(connection)

    async def run(self, argv: list[str], stdin: bytes = b"") -> Completed:
        """Run a command to its end; see the port."""
        channel = await self.open(argv)
        try:
            if stdin:
                await channel.write(stdin)
            await channel.write_eof()
            return await channel.wait()
        finally:
            channel.close()

    async def open(self, argv: list[str]) -> SshChannel:
        """Start a command; see the port."""
        with mapped(self._address):
            writer, reader, stderr = await self._connection.open_session(
                shlex.join(argv), encoding=None, window=_WINDOW_BYTES
            )
        return SshChannel(writer, reader, stderr, self._address, self._clear)

    async def put_file(
        self, local_path: str, remote_path: str, progress: Callable[[int], None]
    ) -> None:
        """Copy one file over SFTP; see the port."""
        with mapped(self._address):
            async with self._sftp() as sftp:
                await sftp.put(
                    local_path,
                    remote_path,
                    progress_handler=lambda _source, _target, sent, _total: progress(sent),
                )

    def delay(self) -> float | None:
        """How long round trips take now; see the port."""
        return self._clear.delay()

    async def close(self) -> None:
        """Hang up; see the port."""
        self._connection.abort()
        with contextlib.suppress(asyncssh.Error, OSError):  # it is over either way
            await self._connection.wait_closed()

    @asynccontextmanager
    async def _sftp(self) -> AsyncIterator[asyncssh.SFTPClient]:
        try:
            client = await self._connection.start_sftp_client()
        except asyncssh.ChannelOpenError as error:
            message = f"the instance offers no SFTP: {error.reason}"
            raise errors.TransferError(message) from error
        async with client:
            try:
                yield client
            except asyncssh.SFTPError as error:
                raise sftp_error(error) from error


class SshChannel:
    """One session channel: a running command."""

    def __init__(
        self,
        writer: asyncssh.SSHWriter[bytes],
        reader: asyncssh.SSHReader[bytes],
        stderr: asyncssh.SSHReader[bytes],
        address: Address,
        clear: Clear,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._address = address
        self._clear = clear
        self._said = bytearray()
        # read all the time: an unread stderr would stop stdout once its window is full
        self._draining = asyncio.create_task(self._drain_stderr(stderr))

    async def read(self, n: int) -> bytes:
        """Read up to n bytes; see the port."""
        with mapped(self._address):
            data: bytes = await self._reader.read(n)
            return data

    async def write(self, data: bytes) -> None:
        """Write all; see the port."""
        view = memoryview(data)
        with mapped(self._address):
            for at in range(0, len(view), _SLICE_BYTES):
                await self._clear.wait()
                self._writer.write(bytes(view[at : at + _SLICE_BYTES]))
                await self._writer.drain()

    async def write_eof(self) -> None:
        """End stdin; see the port."""
        with mapped(self._address):
            self._writer.write_eof()

    async def wait(self) -> Completed:
        """Wait for the end; see the port."""
        with mapped(self._address):
            stdout: bytes = await self._reader.read()
            await self._draining
            await self._writer.channel.wait_closed()
            status = cast(
                "asyncssh.SSHClientChannel[bytes]", self._writer.channel
            ).get_exit_status()
        return Completed(-1 if status is None else status, stdout, bytes(self._said))

    def close(self) -> None:
        """Close at once; see the port."""
        self._draining.cancel()
        self._writer.channel.abort()

    async def _drain_stderr(self, stderr: asyncssh.SSHReader[bytes]) -> None:
        with contextlib.suppress(asyncssh.Error, OSError):  # the reader of stdout will tell
            while data := await stderr.read(65536):
                self._said += data[: _STDERR_LIMIT - len(self._said)]


async def _read_banner(reader: asyncio.StreamReader) -> Banner:
    # RFC 4253 4.2: the server may send other lines before its version
    for _ in range(50):
        line = (await reader.readline()).decode("latin-1").strip()
        if line.startswith("SSH-"):
            return Banner(accepts=True, text=line, detail="SSH answers")
        if not line:
            break
    detail = "the port is open but what answers is not SSH"
    return Banner(accepts=True, text="", detail=detail)


async def _identity(address: Address, private_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Which keys to offer and which host keys to trust."""
    if private_key is not None and address.host_key is not None:
        return {
            "client_keys": [asyncssh.import_private_key(private_key)],
            "agent_path": None,
            "known_hosts": ([asyncssh.import_public_key(address.host_key)], [], []),
        }
    known_hosts = Path(address.known_hosts or "~/.ssh/known_hosts").expanduser()
    await _require_known(address, known_hosts, timeout_s)
    options: dict[str, Any] = {"known_hosts": str(known_hosts)}
    if address.identity is not None:
        path = Path(address.identity).expanduser()
        try:
            options["client_keys"] = [await asyncio.to_thread(asyncssh.read_private_key, path)]
        except (OSError, asyncssh.KeyImportError) as error:
            message = f"the identity file {path} can't be used: {error}"
            hint = "give an unencrypted private key, or load it into ssh-agent and leave --identity out"
            raise errors.IdentityUnusable(message, hint=hint) from error
        options["agent_path"] = None
    return options


async def _require_known(address: Address, known_hosts: Path, timeout_s: float) -> None:
    """Raise HostKeyUnknown, with what the host shows, unless known_hosts has a key for it."""
    try:
        known = asyncssh.read_known_hosts(str(known_hosts)) if known_hosts.exists() else None
    except (OSError, ValueError) as error:
        raise errors.HostKeyUnknown(f"{known_hosts} can't be read: {error}") from error
    if known is not None and any(known.match(address.host, "", address.port)[:2]):
        return
    key = await _shown_key(address, timeout_s)
    shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
    name = address.host if address.port == _SSH_PORT else f"[{address.host}]:{address.port}"
    message = f"{known_hosts} has no key for {name}; it shows {shown}"
    hint = (
        "compare that fingerprint with the machine's own (`ssh-keygen -lf"
        " /etc/ssh/ssh_host_ed25519_key.pub` there); if it is the same, accept it with"
        f" `ssh-keyscan -p {address.port} {address.host} >> {known_hosts}`"
    )
    raise errors.HostKeyUnknown(message, hint=hint)


async def _shown_key(address: Address, timeout_s: float) -> asyncssh.SSHKey:
    """The key that a host shows now; nothing else is sent."""
    with mapped(address):
        async with asyncio.timeout(timeout_s):
            key = await asyncssh.get_server_host_key(address.host, address.port, config=[])
    if key is None:
        raise errors.ConnectionLost(f"{address.host} shows no host key")
    return key


def new_key_pair(comment: str) -> tuple[str, str]:
    """Make a fresh Ed25519 key pair: (private key, public key line), both OpenSSH text."""
    key = asyncssh.generate_private_key("ssh-ed25519", comment=comment)
    return key.export_private_key().decode(), key.export_public_key().decode().strip()
