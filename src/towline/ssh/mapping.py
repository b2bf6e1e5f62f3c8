"""What asyncssh's and the system's exceptions are in our words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import asyncssh

from towline import errors
from towline.core.instance import Address


@contextlib.contextmanager
def mapped(address: Address) -> Iterator[None]:
    """Turn asyncssh's and the system's exceptions into ours."""
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        message = f"{address.host} answers with another host key than expected: {error.reason}"
        hint = (
            "nothing was sent. If the machine was set up anew, remove its old key with"
            f" `ssh-keygen -R {address.host}`; else someone may be in between"
        )
        raise errors.HostKeyMismatch(message, hint=hint) from error
    except asyncssh.PermissionDenied as error:
        message = f"{address} refuses the login: {error.reason}"
        hint = "check the user name and that the key is in the machine's authorized_keys"
        raise errors.RemoteAuthError(message, hint=hint) from error
    except TimeoutError as error:
        raise errors.ConnectionLost(f"{address} did not answer in time") from error
    except (asyncssh.Error, OSError) as error:
        message = f"the connection to {address} broke: {plain(error)}"
        raise errors.ConnectionLost(message) from error
    except ValueError as error:  # asyncssh's PacketDecodeError, and bytes that are no text
        message = f"{address} answers what is not SSH: {plain(error)}"
        raise errors.ConnectionLost(message) from error


def plain(error: BaseException) -> str:
    """Say an exception in a few words."""
    if isinstance(error, ConnectionRefusedError):
        return "the port refuses connections"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(getattr(error, "reason", "")) or str(error) or type(error).__name__


def sftp_error(error: asyncssh.SFTPError) -> errors.TowlineError:
    """An SFTP failure in our words."""
    if error.code in (asyncssh.FX_NO_SPACE_ON_FILESYSTEM, asyncssh.FX_QUOTA_EXCEEDED):
        return errors.RemoteDiskFull(f"the instance has no room left: {error.reason}")
    if error.code in (asyncssh.FX_CONNECTION_LOST, asyncssh.FX_NO_CONNECTION):
        return errors.ConnectionLost(f"the connection broke: {error.reason}")
    return errors.TransferError(f"the instance refused the file: {error.reason}")
