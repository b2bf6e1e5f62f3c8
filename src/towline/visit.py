"""Look at a run's live instance from outside its driver: no lease, nothing is changed there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from towline import errors
from towline.core.instance import Address
from towline.core.run import Outcome, RunRecord, StepName
from towline.home import RunFiles, write_private
from towline.line import Line
from towline.ports import Clock, Dialer
from towline.store.journal import Store


@asynccontextmanager
async def line_to(
    run: RunRecord, store: Store, files: RunFiles, dialer: Dialer, clock: Clock
) -> AsyncIterator[Line]:
    """A line to the instance for as long as the block lasts.

    Raises:
        RunEnded: The instance is gone, or SSH was never ready.
        LocalReadError: The run's key can't be read.
    """
    address, connected = _reached(run, store)
    line = Line(dialer, Address(**address), files.read_key(), run.id, 0, clock)
    line.python, line.home = connected["python"], connected["home"]
    try:
        yield line
    finally:
        await line.hang_up()


def ssh_argv(run: RunRecord, store: Store, files: RunFiles) -> list[str]:
    """The OpenSSH command that opens a shell on the instance, host key pinned.

    Raises:
        RunEnded: The instance is gone, or SSH was never ready.
    """
    address = Address(**_reached(run, store)[0])
    argv = ["ssh", "-p", str(address.port), "-o", "StrictHostKeyChecking=yes"]
    if address.host_key is not None:
        known = files.folder / "known_hosts"
        write_private(known, f"[{address.host}]:{address.port} {address.host_key}\n".encode())
        argv += ["-F", "none", "-o", f"UserKnownHostsFile={known}"]
        argv += ["-i", str(files.private_key), "-o", "IdentitiesOnly=yes"]
    else:
        argv += ["-o", f"UserKnownHostsFile={address.known_hosts}"] if address.known_hosts else []
        argv += ["-i", address.identity] if address.identity else []
    return [*argv, f"{address.user}@{address.host}"]


def _reached(run: RunRecord, store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
    done = {
        attempt.step: attempt.result
        for attempt in store.attempts(run.id)
        if attempt.outcome is Outcome.DONE
    }
    if StepName.RELEASE in done or StepName.CONNECT not in done:
        gone = StepName.RELEASE in done
        message = f"the instance of run {run.name} is {'gone' if gone else 'not reachable yet'}"
        hint = f"results are in {run.results_dir}" if gone else f"towline status {run.name}"
        raise errors.RunEnded(message, hint=hint)
    connected = done[StepName.CONNECT]
    return connected.get("address") or done[StepName.ACQUIRE]["address"], connected
