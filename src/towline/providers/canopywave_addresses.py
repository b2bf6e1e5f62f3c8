"""Public addresses of CanopyWave: launch gives none, so one is allocated, associated, released.

An address carries no name of ours, and it bills until it is released; so what is ours is kept in
the run's memo, on disk before it is asked for. By region, because a run may try several:

    before     ids that were there before an address was asked for; kept while the answer is
               unknown: what has come since and lies idle is then taken for ours
    asked_at   when that was
    allocated  ids that we made: to be released
    reused     ids that were there and lay idle, taken because no more may be made: to be kept

The vendor says that an address is lost with its instance, Neutron's own documents that it stays:
both are handled, for only the list of addresses is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towline import errors
from towline.core.instance import Instance, parse_tag
from towline.ports import Clock, Memo
from towline.providers.canopywave_project import Project
from towline.providers.http import need, segment

#: an association took 5 to 10 s where somebody measured it; only then it is asked for again
_ASSOCIATE_S = 15.0
#: how long an address may take to be listed after the answer was lost
_LATE_S = 30.0

Row = Mapping[str, Any]


class Addresses:
    """Gives addresses to instances, and takes them back."""

    def __init__(self, project: Project, clock: Clock, settle_s: float) -> None:
        self._project = project
        self._clock = clock
        self._late_s = min(_LATE_S, settle_s)
        self._asked: dict[str, float] = {}  # address -> when its association was asked for

    async def attach(self, region: str, instance: Instance, memo: Memo) -> None:
        """Go one step: nothing, or one association, of an address that is allocated if need be.

        Raises:
            QuotaExceeded, NoCapacity: No address may be made, and none lies idle.
        """
        note = Note(memo, region)
        rows = await self._project.ips(region)
        if any(row.get("server") == instance.tag for row in rows):
            note.settle([row["id"] for row in rows if row.get("server") == instance.tag])
            return
        chosen = note.own(rows) or note.guess(rows)
        if chosen is None and note.asked_at + self._late_s > self._clock.now():
            return  # the answer was lost a moment ago: it may have been made, and come late
        await self._associate(chosen or await self._allocate(note, rows), instance, note)

    async def _allocate(self, note: Note, rows: list[dict[str, Any]]) -> str:
        note.intend(rows, self._clock.now())
        try:
            made = str(need(await self._project.post("/ips", note.region), "id"))
        except (errors.ProviderUnavailable, errors.ProviderReplyError):
            raise  # it may have been made: the intent stays
        except (errors.QuotaExceeded, errors.NoCapacity) as refused:
            return note.borrow(rows, refused)
        except errors.ProviderError:
            note.forget_intent()
            raise
        note.made(made)
        return made

    async def _associate(self, address: str, instance: Instance, note: Note) -> None:
        now = self._clock.monotonic()
        if now < self._asked.get(address, -_ASSOCIATE_S) + _ASSOCIATE_S:
            return
        path = f"/ips/{_path(address)}/associate"
        try:
            await self._project.post(path, note.region, instanceId=instance.id)
        except errors.NotFound:
            # of the address, or of the instance: only the former is to be forgotten
            if address not in [row["id"] for row in await self._project.ips(note.region)]:
                note.drop(address)
            return
        self._asked[address] = now
        note.settle([address])

    async def release(self, region: str, address: str, tag: str) -> None:
        """Release an address that is idle or serves an instance of that tag; others are not ours."""
        rows = await self._project.ips(region)
        row = next((one for one in rows if one["id"] == address), None)
        if row is None or row.get("server") not in {None, "", tag}:
            return
        if row.get("server"):
            await self._project.delete(f"/ips/{_path(address)}/disassociate", region)
        await self._project.delete(f"/ips/{_path(address)}", region)


class Note:
    """A memo's part for one region; every change is on disk when the method returns."""

    def __init__(self, memo: Memo, region: str) -> None:
        self.region = region
        self._memo = memo
        self._value: dict[str, Any] = dict(memo.read().get(region, {}))

    @property
    def asked_at(self) -> float:
        """When an address was asked for whose answer is unknown; long ago when there is none."""
        return float(self._value.get("asked_at", 0.0))

    def own(self, rows: list[dict[str, Any]]) -> str | None:
        """One that the memo holds and that serves nobody; what isn't listed is tried as well."""
        taken = {row["id"] for row in rows if row.get("server")}
        held = [*self._value.get("allocated", []), *self._value.get("reused", [])]
        return next((one for one in held if one not in taken), None)

    def guess(self, rows: list[dict[str, Any]]) -> str | None:
        """One that came after we asked, and lies idle."""
        return next((row["id"] for row in rows if self.may_be_ours(row)), None)

    def may_be_ours(self, row: Row) -> bool:
        """Whether an answer is open and this address could be what it was about."""
        before = self._value.get("before")
        return before is not None and row["id"] not in before and _is_idle(row)

    def has(self, kind: str, address: str) -> bool:
        """Whether it is one of the `allocated` or the `reused`."""
        return address in self._value.get(kind, [])

    def intend(self, rows: list[dict[str, Any]], now: float) -> None:
        """An address is about to be asked for."""
        self._write(before=[row["id"] for row in rows], asked_at=now)

    def forget_intent(self) -> None:
        """Nothing was made."""
        self._write(before=None, asked_at=None)

    def made(self, address: str) -> None:
        """The answer came. Should it be one that was there before, it is not ours to release."""
        allocated = self._value.get("allocated", [])
        new = [] if address in self._value.get("before", []) else [address]
        self._write(allocated=[*allocated, *new], before=None, asked_at=None)

    def settle(self, addresses: list[str]) -> None:
        """These serve the instance now: one that came after we asked is what the answer was."""
        before, allocated = self._value.get("before"), self._value.get("allocated", [])
        if before is not None:
            new = [one for one in addresses if one not in before and one not in allocated]
            if new:
                self._write(allocated=[*allocated, *new], before=None, asked_at=None)

    def borrow(self, rows: list[dict[str, Any]], refused: errors.ProviderError) -> str:
        """Take one that lies idle, and remember that it is not ours.

        Raises:
            ProviderError: The refusal, when there is none.
        """
        idle = next((str(row["id"]) for row in rows if _is_idle(row)), None)
        self.forget_intent()
        if idle is None:
            raise refused
        self._write(reused=[*self._value.get("reused", []), idle])
        return idle

    def drop(self, address: str) -> None:
        """It is gone."""
        for kind in ("allocated", "reused"):
            self._write(**{kind: [one for one in self._value.get(kind, []) if one != address]})

    def _write(self, **changes: Any) -> None:
        value = {**self._value, **changes}
        self._value = {key: one for key, one in value.items() if one is not None}
        self._memo.write({**self._memo.read(), self.region: self._value})


def owner(row: Row, notes: Mapping[str, Note]) -> str | None:
    """The tag for which an address is held; None when it is not ours to release."""
    address, server = row["id"], row.get("server") or None
    if any(note.has("reused", address) for note in notes.values()):
        return None
    if server is not None:
        return server if parse_tag(server) is not None else None
    made = [tag for tag, note in notes.items() if note.has("allocated", address)]
    perhaps = [tag for tag, note in notes.items() if note.may_be_ours(row)]
    return next(iter([*made, *perhaps]), None)


def _is_idle(row: Row) -> bool:
    return not row.get("server") and str(row.get("status", "")).upper() == "DOWN"


def _path(address: str) -> str:
    """Its id as a part of a path.

    Raises:
        ProviderReplyError: No id looks like that.
    """
    found = segment(address)
    if found is None:
        raise errors.ProviderReplyError(f"canopywave lists an address with id {address!r}")
    return found
