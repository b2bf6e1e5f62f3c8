"""Public addresses of CanopyWave: launch gives none, so one is allocated, associated, released.

An address bills until it is released, and carries no name of ours; `canopywave_notes` keeps in the
run's memo which are ours. The vendor says that an address is lost with its instance, Neutron's own
documents that it stays: both are handled. Of what the memo holds nothing is forgotten for one list
that lacks it: it is asked for again, and released until CanopyWave took the order, or has not
known it for longer than its lists need to settle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towline import errors
from towline.core.backoff import delays
from towline.core.instance import Instance
from towline.ports import Clock, Memo
from towline.providers.canopywave_notes import SETTLE_S, Note, claims
from towline.providers.canopywave_project import CONSOLE, Project
from towline.providers.parts import ident, segment

#: an association took 5 to 10 s where somebody measured it; only then it is asked for again
_ASSOCIATE_S = 15.0
_POLL_S = (0.1, 2.0)
_WHOSE = (
    f"release it in the console at {CONSOLE}, unless somebody wants it; towline does not, for it may "
    "be somebody else's"
)

Row = Mapping[str, Any]


class Addresses:
    """Gives addresses to instances, and takes them back."""

    def __init__(self, project: Project, clock: Clock, settle_s: float) -> None:
        self._project = project
        self._clock = clock
        self._settle_s = min(SETTLE_S, settle_s)
        self._asked: dict[str, float] = {}  # address -> when its association was asked for
        self._open: dict[tuple[str, str], float] = {}  # region, tag -> since when a loss is known
        self._unknown: dict[str, float] = {}  # address -> since when neither call nor list knows it
        self._released: set[str] = set()
        self._made_at: dict[str, float] = {}  # of those that leftovers have shown
        self._unclear: set[str] = set()

    async def attach(self, region: str, instance: Instance, memo: Memo) -> None:
        """Go one step: nothing, or one association, of an address that is allocated if need be.

        Raises:
            QuotaExceeded, NoCapacity: No address may be made, and none lies idle.
        """
        note = Note(memo, region, self._clock)
        rows = await self._project.ips(region)
        note.refute(rows, instance.tag)
        serving = [row["id"] for row in rows if row.get("server") == instance.tag]
        if serving:
            note.settle(serving)
            return
        chosen = note.own(rows, self._given_up(rows))
        if chosen is None and note.is_open:
            note.look(rows)
            since = self._open.setdefault((region, instance.tag), self._clock.monotonic())
            if self._clock.monotonic() < since + self._settle_s:
                return
            chosen = note.guess(rows)
        if chosen is None:
            chosen = await self._allocate(note, rows)
            self._open.pop((region, instance.tag), None)
        await self._associate(chosen, instance, note)

    def _given_up(self, rows: list[dict[str, Any]]) -> set[str]:
        """Addresses that nothing has known for so long that another is asked for."""
        for row in rows:
            self._unknown.pop(row["id"], None)
        before = self._clock.monotonic() - self._settle_s
        return {address for address, since in self._unknown.items() if since <= before}

    async def _allocate(self, note: Note, rows: list[dict[str, Any]]) -> str:
        note.intend(rows)
        try:
            made = ident(await self._project.post("/ips", note.region), "id")
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
            # of the address, or of the instance; and the list may be of yesterday
            if address not in [row["id"] for row in await self._project.ips(note.region)]:
                self._unknown.setdefault(address, now)
            return
        except errors.ProviderError as refused:
            if type(refused) is not errors.ProviderError:
                raise
            # no page says what is refused when: one refusal is no reason to end the instance
            raise errors.ProviderUnavailable(refused.message, hint=refused.hint) from refused
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

    async def leftovers(self, region: str, memos: Mapping[str, Memo]) -> list[tuple[str, str]]:
        """Addresses that are ours or may be, with their tags; also such as no list shows.

        Of the latter only a release is proof; `release` remembers it, and the memo is told.
        """
        rows = await self._project.ips(region)
        notes = {tag: Note(memo, region, self._clock) for tag, memo in memos.items()}
        listed = {row["id"] for row in rows}
        found = list(claims(rows, notes))
        self._unclear -= listed
        self._unclear |= {address for address, _tag, sure in found if not sure}
        pairs = [(address, tag) for address, tag, _sure in found]
        for tag, note in notes.items():
            for address, made_at in note.unseen(listed).items():
                if address in self._released:
                    note.released(address)
                else:
                    self._made_at[address] = made_at
                    pairs.append((address, tag))
            note.close(rows)
        return pairs

    async def release(self, region: str, address: str, tag: str) -> None:
        """Release an address that is idle or serves an instance of that tag; others are not ours.

        Raises:
            ProviderError: It may be somebody else's.
        """
        rows = await self._project.ips(region)
        row = next((one for one in rows if one["id"] == address), {})
        if row.get("server") not in {None, "", tag}:
            return
        if address in self._unclear:
            message = f"address {row.get('ip') or address} lies idle since one was asked for whose"
            raise errors.ProviderError(f"{message} answer was lost", hint=_WHOSE)
        if row.get("server"):
            await self._project.delete(f"/ips/{_path(address)}/disassociate", region)
        was_there = await self._project.delete(f"/ips/{_path(address)}", region)
        if was_there or self._clock.now() >= self._made_at.get(address, 0.0) + self._settle_s:
            self._released.add(address)


def _path(address: str) -> str:
    """Its id as a part of a path.

    Raises:
        ProviderReplyError: No id looks like that.
    """
    found = segment(address)
    if found is None:
        raise errors.ProviderReplyError(f"canopywave lists an address with id {address!r}")
    return found
