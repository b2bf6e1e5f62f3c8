"""Provider `ssh`: the user's own machine, reached by `--host user@addr[:port]`.

Nothing is rented: "create" only notes, in `<home>/ssh/<tag>.json`, that a run may leave things on
a machine, and "terminate" cleans that machine of what the run left and then removes the note. The
tag is the note's name and the instance's id. What may be on the machine is the run's folder and
the processes that carry the run's mark; nothing else there is ever touched.
"""

from __future__ import annotations

import asyncio
import getpass
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towline import errors
from towline.bundle import onboard_pyz
from towline.core.instance import (
    Address,
    Features,
    Instance,
    InstanceId,
    InstanceStatus,
    Offer,
    Order,
    RunId,
    parse_tag,
)
from towline.core.layout import CONTROL_FOLDER, RUNS_FOLDER
from towline.core.task import Resources
from towline.core.units import count_text
from towline.line import Line
from towline.ports import Clock, Dialer, Finding
from towline.providers.account import OnlyInstances
from towline.providers.settings import require_known
from towline.providers.statefile import read_state, write_state

#: settings in config.yaml, for what the task leaves out
_SETTINGS = ("host", "identity", "known_hosts")
_DEFAULT_PORT = 22
_MAX_PORT = 65535
_MAX_HOST = 253
#: leaving outranks every driver of the run that may still be awake somewhere
_LEAVE_EPOCH = 2**31
#: removing a large dataset takes a while; a second try goes on where the first stopped
_LEAVE_WITHIN_S = 120.0
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+-]{0,63}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*)(\.[A-Za-z0-9_]([A-Za-z0-9_-]*))*\.?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]+")
_FORM = re.compile(r"(?:(?P<user>[^@]*)@)?(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:]*))(?::(?P<port>.*))?")
_HINT = "write it as user@address, user@address:port or user@[ipv6]:port"


class SshProvider(OnlyInstances):
    """Runs on a machine that the user can log in to already."""

    name = "ssh"
    features = Features(host_key_grade="U", rented=False, free=True, settle_s=0.0, leftovers=())

    def __init__(
        self, home: Path, settings: Mapping[str, Any], dialer: Dialer, clock: Clock
    ) -> None:
        for key, value in settings.items():
            require_known(key, _SETTINGS, "providers.ssh", "setting")
            if not isinstance(value, str):
                raise errors.SpecError(f"providers.ssh.{key} must be text, not {value!r}")
        self._defaults = dict(settings)
        self._home = home
        self._folder = home / "ssh"
        self._dialer = dialer
        self._clock = clock

    async def offers(self, need: Resources) -> list[Offer]:
        """Offer the one machine that the task names.

        Raises:
            SpecError: The task names none, or its address can't be read.
        """
        told = {key: getattr(need, key) or self._defaults.get(key, "") for key in _SETTINGS}
        if not told["host"]:
            message = "provider ssh needs the machine's address"
            raise errors.SpecError(message, hint="add --host user@address[:port]")
        user, host, port = parse_host(told.pop("host"))
        payload = {"user": user, "host": host, "port": str(port)}
        for key, path in told.items():
            if path:  # a later `resume` may stand in another folder
                payload[key] = str(Path(path).expanduser().absolute())
        offer = Offer(
            provider=self.name,
            type=f"{user}@{host}",
            payload=payload,
            address=_address(payload),
        )
        return [offer]

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Note that the run may leave things on the machine; the user's own key lets us in.

        Raises:
            SpecError: The tag is not one of ours.
            ProviderError: The note can't be written, so nothing may be done on the machine.
        """
        tag = order.tag
        if parse_tag(tag) is None:
            raise errors.SpecError(f"{tag!r} is not a tag of towline's")
        note = {"created_at": self._clock.now(), "type": offer.type, **offer.payload}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_state(self._note(tag), note)
        except OSError as error:
            message = f"{self._folder} can't be written: {error.strerror}"
            raise errors.ProviderError(message) from error
        return _instance(tag, note)

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read the note; None only after `terminate` found the machine clean."""
        if parse_tag(instance_id) is None:
            return None
        note = read_state(self._note(instance_id))
        return None if note is None else _instance(instance_id, note)

    async def list_tagged(self) -> list[Instance]:
        """List the notes that are left."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            note = read_state(path) if parse_tag(path.stem) is not None else None
            if note is not None:
                found.append(_instance(path.stem, note))
        return found

    async def terminate(self, instance_id: InstanceId) -> None:
        """End what the run started on the machine, remove its folder there, then the note.

        Raises:
            ProviderUnavailable: The machine can't be reached, or is not clean yet.
            HostKeyUnknown: It does not let us in any more.
            HostKeyMismatch: The same.
            RemoteAuthError: The same.
        """
        instance = await self.get(instance_id)
        run_id = parse_tag(instance_id)
        if instance is None or instance.address is None or run_id is None:
            return
        # `connect` touches this file after its first login; before that nothing of ours is there
        entered = (self._home / "runs" / run_id / "entered").exists()
        try:
            await self._leave(instance.address, run_id, entered=entered)
        except (errors.HostKeyUnknown, errors.HostKeyMismatch, errors.RemoteAuthError):
            if entered:
                raise
        except (errors.ConnectionLost, TimeoutError) as lost:
            if entered:
                message = f"{instance.address} can't be reached, so what the run left there stays"
                hint = "once it is back, `towline gc` cleans it"
                raise errors.ProviderUnavailable(f"{message}: {lost}", hint=hint) from lost
        self._note(instance_id).unlink(missing_ok=True)

    async def check(self) -> list[Finding]:
        """Read the notes; see the port."""
        found = count_text(len(await self.list_tagged()), "machine")
        return [Finding("notes", f"{found} that a run may have left something on")]

    def _note(self, tag: str) -> Path:
        return self._folder / f"{tag}.json"

    async def _leave(self, address: Address, run_id: RunId, *, entered: bool) -> None:
        line = Line(self._dialer, address, None, run_id, _LEAVE_EPOCH, self._clock)
        try:
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                try:
                    await line.board(onboard_pyz())
                except errors.CommandFailed:
                    if not entered:  # no python3 there, so nothing ever ran
                        await _remove_folder(line, run_id)
                        return
                    # the disk may be full of an upload that was never finished
                    await _remove_folder(line, f"{run_id}/{CONTROL_FOLDER}/incoming")
                    await line.board(onboard_pyz())
                async with line.talk("leave", {}) as talk:
                    found = await talk.result()
        finally:
            await line.hang_up()
        if found["processes_left"] or not found["folder_gone"]:
            message = (
                f"{address} is not clean yet: {found['processes_left']} processes of the run are"
                f" left, its folder is {'gone' if found['folder_gone'] else 'still there'}"
            )
            raise errors.ProviderUnavailable(
                message, hint=f"look at ~/{RUNS_FOLDER}/{run_id} there"
            )


async def _remove_folder(line: Line, folder: str) -> None:
    """Remove a folder of the run, or all of it, without our program: the machine can't run it."""
    script = f'rm -rf -- "$HOME/{RUNS_FOLDER}/$1"'
    remote = await line.dial_once()
    done = await remote.run(["sh", "-c", script, "sh", folder])
    if done.exit_status:
        said = done.stderr.decode(errors="replace").strip()
        raise errors.ProviderUnavailable(f"~/{RUNS_FOLDER}/{folder} can't be removed: {said}")


def parse_host(text: str) -> tuple[str, str, int]:
    """Read `[user@]address[:port]`: (user, address, port).

    The user defaults to the local login name, the port to 22; an IPv6 address with a port stands
    in brackets.

    Raises:
        SpecError: It is none of these forms, or holds what could be taken for an option or a
            shell's sign.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise errors.SpecError(f"the host {text!r} can't be read", hint=_HINT)
    user = _local_user() if match["user"] is None else match["user"]
    host = match["name"] if match["v6"] is None else match["v6"]
    port = str(_DEFAULT_PORT) if match["port"] is None else match["port"]
    why = None
    if not _USER.fullmatch(user):
        why = f"{user!r} is not a user name"
    elif match["v6"] is None and port.count(":"):
        why = "an IPv6 address stands in brackets"
    elif not (_is_host_name(host) if match["v6"] is None else _is_v6(host)):
        why = f"{host!r} is not an address"
    elif not _is_port(port):
        why = f"{port!r} is not a port"
    if why is not None:
        raise errors.SpecError(f"the host {text!r} can't be read: {why}", hint=_HINT)
    return user, host, int(port)


def _is_host_name(host: str) -> bool:
    return len(host) <= _MAX_HOST and _HOST_NAME.fullmatch(host) is not None


def _is_v6(host: str) -> bool:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return address.scope_id is None or _ZONE.fullmatch(address.scope_id) is not None


def _is_port(port: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", port) is not None and 1 <= int(port) <= _MAX_PORT


def _local_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:
        message = "this machine does not say who you are, so --host needs a user name"
        raise errors.SpecError(message, hint=_HINT) from error


def _instance(tag: str, note: dict[str, Any]) -> Instance:
    return Instance(
        id=InstanceId(tag),
        provider=SshProvider.name,
        tag=tag,
        status=InstanceStatus.ACTIVE,
        address=_address(note),
        started_at=note["created_at"],
        type=note["type"],
    )


def _address(told: Mapping[str, str]) -> Address:
    return Address(
        host=told["host"],
        port=int(told["port"]),
        user=told["user"],
        identity=told.get("identity"),
        known_hosts=told.get("known_hosts"),
    )
