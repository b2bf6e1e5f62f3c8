"""Public addresses of CanopyWave: launch gives none, so one is allocated, associated, released.

An address carries no name of ours, and it bills until it is released; so what is ours is kept in
the run's memo, on disk before it is asked for. By region, because a run may try several:

    before     ids that were there when an address was asked for; kept while the answer is unknown:
               what has come since and lies idle may then be ours
    guess      the one that was taken for it; `before` is kept beside it, for the guess may be wrong
    allocated  ids that we made: to be released
    reused     ids that were there and lay idle, taken because no more may be made: to be kept

The vendor says that an address is lost with its instance, Neutron's own documents that it stays:
both are handled, for only the list of addresses is believed.

A wrong guess shows when the other run's memo is there too, or when the address serves another. It
does not when two runs died, one before the answer came and one after it, and of the second nothing
is known: its address may then be taken, and the first one's own be left idle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from towline import errors
from towline.core.backoff import delays
from towline.core.instance import Instance, parse_tag
from towline.ports import Clock, Memo
from towline.providers.canopywave_project import Project
from towline.providers.parts import need, segment

#: an association took 5 to 10 s where somebody measured it; only then it is asked for again
_ASSOCIATE_S = 15.0
#: After a lost answer: how long the address may take to be listed, and how long one that another
#: run has just made may lie idle. Before that nothing is guessed, and no other asked for.
_SETTLE_S = 30.0
_POLL_S = (0.1, 2.0)

Row = Mapping[str, Any]


class Addresses:
    """Gives addresses to instances, and takes them back."""

    def __init__(self, project: Project, clock: Clock, settle_s: float) -> None:
        self._project = project
        self._clock = clock
        self._settle_s = min(_SETTLE_S, settle_s)
        self._asked: dict[str, float] = {}  # address -> when its association was asked for
        self._open: dict[tuple[str, str], float] = {}  # region, tag -> since when a loss is known

    async def attach(self, region: str, instance: Instance, memo: Memo) -> None:
        """Go one step: nothing, or one association, of an address that is allocated if need be.

        Raises:
            QuotaExceeded, NoCapacity: No address may be made, and none lies idle.
        """
        note = Note(memo, region)
        rows = await self._project.ips(region)
        note.refute(rows, instance.tag)
        serving = [row["id"] for row in rows if row.get("server") == instance.tag]
        if serving:
            note.settle(serving)
            return
        chosen = note.own(rows)
        if chosen is None and note.is_open:
            since = self._open.setdefault((region, instance.tag), self._clock.monotonic())
            if self._clock.monotonic() < since + self._settle_s:
                return
            chosen = note.guess(rows)
        if chosen is None:
            chosen = await self._allocate(note, rows)
            self._open.pop((region, instance.tag), None)
        await self._associate(chosen, instance, note)

    async def _allocate(self, note: Note, rows: list[dict[str, Any]]) -> str:
        note.intend(rows)
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
        if note.is_open:
            await self._confirm(address, instance.tag, note)

    async def _confirm(self, address: str, tag: str, note: Note) -> None:
        """A guess was right when the address serves us; when it serves another it was theirs."""
        until = self._clock.monotonic() + _ASSOCIATE_S
        for pause_s in delays(*_POLL_S):
            rows = await self._project.ips(note.region)
            server = next((row.get("server") for row in rows if row["id"] == address), None)
            if server == tag:
                note.settle([address])
            if server or self._clock.monotonic() >= until:
                return
            await self._clock.sleep(pause_s)

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
    def is_open(self) -> bool:
        """Whether an address was asked for whose answer is unknown."""
        return "before" in self._value and "guess" not in self._value

    def own(self, rows: list[dict[str, Any]]) -> str | None:
        """One that the memo holds and that serves nobody; what isn't listed is tried as well."""
        taken = {row["id"] for row in rows if row.get("server")}
        held = [*self._held(), *self._value.get("reused", [])]
        return next((one for one in held if one not in taken), None)

    def refute(self, rows: list[dict[str, Any]], tag: str) -> None:
        """A guess that serves another was that other's; so ours is still to be found."""
        others = [row["id"] for row in rows if row.get("server") not in {None, "", tag}]
        if self._value.get("guess") in others:
            self._write(guess=None)

    def guess(self, rows: list[dict[str, Any]]) -> str | None:
        """One that came after we asked, and lies idle."""
        return next((row["id"] for row in rows if self.may_be_ours(row)), None)

    def may_be_ours(self, row: Row, *, contested: bool = False) -> bool:
        """Whether this address could be the one that was asked for.

        Args:
            row: Of the list of addresses.
            contested: Whether the one that was guessed may be another run's.
        """
        before = self._value.get("before")
        unknown = self.is_open or contested
        return unknown and before is not None and row["id"] not in before and _is_idle(row)

    def holds(self, address: str) -> bool:
        """Whether it is one that we made, as far as is known."""
        return address in self._held()

    def borrows(self, address: str) -> bool:
        """Whether it is one that is to be kept."""
        return address in self._value.get("reused", [])

    def contested(self, others: Iterable[Note]) -> bool:
        """Whether what was guessed may be another run's: it holds it, or its own is not found."""
        guess = self._value.get("guess")
        return guess is not None and any(
            one.holds(guess) or (one.is_open and guess not in one.before)
            for one in others
            if one is not self
        )

    @property
    def before(self) -> list[str]:
        """What was there when an address was asked for; [] when none was."""
        return list(self._value.get("before", []))

    def _held(self) -> list[str]:
        guess = self._value.get("guess")
        return [*self._value.get("allocated", []), *([guess] if guess else [])]

    def intend(self, rows: list[dict[str, Any]]) -> None:
        """An address is about to be asked for."""
        self._write(before=[row["id"] for row in rows])

    def forget_intent(self) -> None:
        """Nothing was made."""
        self._write(before=None)

    def made(self, address: str) -> None:
        """The answer came. Should it be one that was there before, it is not ours to release."""
        allocated = self._value.get("allocated", [])
        new = [] if address in self._value.get("before", []) else [address]
        self._write(allocated=[*allocated, *new], before=None)

    def settle(self, addresses: list[str]) -> None:
        """These serve the instance now: one that came after we asked is what the answer was."""
        if self.is_open:
            known = {*self._value["before"], *self._held()}
            new = next((one for one in addresses if one not in known), None)
            self._write(guess=new)

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
        if address == self._value.get("guess"):
            self._write(guess=None, before=None)
        for kind in ("allocated", "reused"):
            self._write(**{kind: [one for one in self._value.get(kind, []) if one != address]})

    def _write(self, **changes: Any) -> None:
        value = {**self._value, **changes}
        self._value = {key: one for key, one in value.items() if one is not None}
        self._memo.write({**self._memo.read(), self.region: self._value})


def owner(row: Row, notes: Mapping[str, Note]) -> str | None:
    """The tag for which an address is held; None when it is not ours to release."""
    address, server = row["id"], row.get("server") or None
    if any(note.borrows(address) for note in notes.values()):
        return None
    if server is not None:
        return server if parse_tag(server) is not None else None
    made = [tag for tag, note in notes.items() if note.holds(address)]
    perhaps = [
        tag
        for tag, note in notes.items()
        if note.may_be_ours(row, contested=note.contested(notes.values()))
    ]
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
