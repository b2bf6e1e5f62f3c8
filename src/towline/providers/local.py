"""Provider `local`: instances on this machine, for trying things out, for demos and for tests.

An instance is a folder, a process tree and an SSH server on loopback (see `local_box`). The tag
stands in its state.json and in its id. Like a cloud's, it goes from building to active before SSH
answers, has a host key that is known from the moment of its making, outlives the process that
made it, and can be made to fail (see `local_settings`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towline import errors
from towline.core.instance import (
    Address,
    Features,
    Instance,
    InstanceId,
    InstanceStatus,
    Offer,
    Order,
    parse_tag,
)
from towline.core.task import Resources
from towline.core.units import count_text
from towline.ports import Clock, Finding
from towline.providers.account import OnlyInstances
from towline.providers.local_box import Box, box_of, new_id, remove_tree, tag_of
from towline.providers.local_make import END_COMMAND, USER, furnish, launch
from towline.providers.local_settings import LocalSettings
from towline.providers.statefile import write_state

_LATE_S = 2.0
_SOCKET_PATH_LIMIT = 60  # bytes of a folder in which sockets of tmux and multiprocessing still fit
_ABANDONED_S = 600.0


class LocalProvider(OnlyInstances):
    """Makes, finds and ends instances below `<home>/local`."""

    name = "local"

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, Any],
        clock: Clock,
        listen: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._listen = listen
        self._base = home / "local"
        self._settings = LocalSettings.parse(settings)
        self._faults = self._settings.faults
        self._clock = clock
        # an instance shows in the list before create returns, unless that is the fault to inject
        late = self._faults.plans("create", "late")
        self.features = Features(
            host_key_grade="A",
            sole_owner=True,
            free=True,
            shares_host=True,
            end_self_argv=(END_COMMAND,),
            settle_s=_LATE_S + 2 if late else 0.0,
            leftovers=(),
            containers=any(shutil.which(tool) for tool in ("docker", "podman")),
        )

    async def offers(self, need: Resources) -> list[Offer]:  # noqa: ARG002 - it has what it has
        """List the settings' offers; what this machine has is what every one of them has."""
        return [
            Offer(provider=self.name, type=kind, price_usd_per_h=price, available=True, boot_s=0.0)
            for kind, price in self._settings.offers
        ]

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Make an instance; see the port.

        Nothing is awaited on the way, so that a cancelled call has either made it or not begun.

        Raises:
            SpecError: This system can't run instances, or the tag is not one of ours.
            ProviderUnavailable: An injected fault: it was made, but the answer is lost.
        """
        if sys.platform == "win32":
            message = "provider `local` needs Linux or macOS: it runs instances as POSIX processes"
            raise errors.SpecError(
                message, hint="use a cloud provider, or `ssh` to a Linux machine"
            )
        if parse_tag(order.tag) is None:
            raise errors.SpecError(f"{order.tag!r} is not a tag of towline's")
        fault = self._faults.strike("create")
        _refuse(fault, offer)
        box = self._make(offer, order, late=fault == "late")
        if fault in ("lost_reply", "late"):
            raise errors.ProviderUnavailable("injected fault: the answer to create was lost")
        return self._read(box, box.state())

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port. One whose server has ended is dead."""
        self._answer("get")
        box = box_of(self._base, instance_id)
        if box is None:
            return None
        if box.folder.is_dir():
            return self._read(box, box.state())
        if not await asyncio.to_thread(box.processes):
            return None
        return self._read(box, {"status": "terminating"})

    async def list_tagged(self) -> list[Instance]:
        """List every instance; see the port."""
        self._answer("list")
        if not self._base.is_dir():
            return []
        names = sorted(entry.name for entry in self._base.iterdir())
        boxes = [box_of(self._base, name) for name in names]
        found = [(box, box.state()) for box in boxes if box is not None]
        now = self._clock.now()
        return [
            self._read(box, state) for box, state in found if state.get("visible_at", 0.0) <= now
        ]

    async def terminate(self, instance_id: InstanceId) -> None:
        """End an instance's processes and remove its files; see the port.

        Raises:
            ProviderUnavailable: Something of it can't be ended yet.
        """
        fault = self._faults.strike("terminate")
        if fault == "unavailable":
            raise errors.ProviderUnavailable("injected fault: the API does not answer")
        box = box_of(self._base, instance_id)
        if box is None:
            return
        if fault == "stuck":
            write_state(box.state_file, box.state() | {"status": "terminating"})
            return
        await asyncio.to_thread(box.end)

    async def check(self) -> list[Finding]:
        """Count what runs; see the port."""
        return [Finding("instances", count_text(len(await self.list_tagged()), "instance"))]

    def _answer(self, moment: str) -> None:
        if self._faults.strike(moment):
            raise errors.ProviderUnavailable("injected fault: the API does not answer")

    def _make(self, offer: Offer, order: Order, *, late: bool) -> Box:
        """Make the folder under another name, rename it, start the server."""
        draft = Box(self._base / f".new-{new_id(order.tag)}")
        box = Box(self._base / draft.id.removeprefix(".new-"))
        try:
            self._base.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep_drafts(order.tag)
            draft.folder.mkdir(mode=0o700)
            lock = draft.lock()
            with socket.socket() as reserved, os.fdopen(lock):
                # bound and not listening: it refuses connections, and nobody else can take it
                reserved.bind(self._listen)
                state = self._state(box, offer, order.tag, reserved.getsockname(), late=late)
                furnish(draft, box, state, order)
                draft.folder.rename(box.folder)
                launch(box, Path(state["runtime"]), [lock, reserved.fileno()])
        except (OSError, subprocess.SubprocessError) as error:
            remove_tree(draft.folder)
            if box.folder.exists():  # without a server it is dead, and found by its tag
                raise errors.ProviderUnavailable(
                    f"{box.id} could not be started: {error}"
                ) from error
            message = f"this machine can't make an instance: {error}"
            raise errors.ProviderError(message, hint=f"check {self._base}") from error
        return box

    def _state(
        self, box: Box, offer: Offer, tag: str, listen: tuple[str, int], *, late: bool
    ) -> dict[str, Any]:
        now = self._clock.now()
        runtime = str(box.folder / "run")
        if len(os.fsencode(runtime)) > _SOCKET_PATH_LIMIT:
            runtime = f"{tempfile.gettempdir()}/tl-{os.urandom(8).hex()}"
        return {
            "status": "running",
            "tag": tag,
            "type": offer.type,
            "price_usd_per_h": offer.price_usd_per_h,
            "created_at": now,
            "visible_at": now + _LATE_S if late else now,
            "active_at": now + self._settings.boot_s,
            "ssh_at": now + self._settings.boot_s + self._settings.ssh_delay_s,
            "user": USER,
            "host": listen[0],
            "port": listen[1],
            "runtime": runtime,
            "boot_fault": self._faults.strike("boot"),
            "ssh_fault": self._faults.strike("ssh"),
        }

    def _sweep_drafts(self, tag: str) -> None:
        """Remove drafts that a killed create left; no process was ever started in one.

        A run has one driver, so those of this tag are nobody's; others once they are old.
        """
        for draft in self._base.glob(".new-*"):
            is_ours = draft.name.startswith(f".new-{tag}-")
            if is_ours or time.time() - draft.stat().st_mtime > _ABANDONED_S:
                remove_tree(draft)

    def _read(self, box: Box, state: dict[str, Any]) -> Instance:
        status = self._status(box, state)
        address = None
        if status is InstanceStatus.ACTIVE:
            address = Address(
                host=state.get("host", "127.0.0.1"),
                port=state["port"],
                user=state["user"],
                host_key=state["host_key"],
            )
        dead = status is InstanceStatus.DEAD
        return Instance(
            id=box.id,
            provider=self.name,
            tag=tag_of(box),
            status=status,
            address=address,
            started_at=state.get("created_at"),
            price_usd_per_h=state.get("price_usd_per_h", 0.0),
            type=state.get("type", ""),
            detail="its server has ended (was this machine restarted?)" if dead else "",
        )

    def _status(self, box: Box, state: dict[str, Any]) -> InstanceStatus:
        if state.get("status") != "running":  # also: its end was cut short after the state's file
            return InstanceStatus.TERMINATING
        if not box.server_lives():
            return InstanceStatus.DEAD
        if state["boot_fault"] == "never" or self._clock.now() < state["active_at"]:
            return InstanceStatus.BUILDING
        return InstanceStatus.ACTIVE


def _refuse(fault: str | None, offer: Offer) -> None:
    """Raise what an injected fault of create refuses with."""
    match fault:
        case "no_capacity":
            raise errors.NoCapacity(f"injected fault: no {offer.type} left")
        case "quota":
            raise errors.QuotaExceeded("injected fault: the account may not rent more")
        case "refuse":
            raise errors.ProviderError("injected fault: refused")
        case _:
            return
