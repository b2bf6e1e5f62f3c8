"""What a run must not forget of CanopyWave's addresses: its memo, on disk before one is asked for.

By region, because a run may try several:

    before     ids that were there when an address was asked for; kept while the answer is unknown:
               what has come since and lies idle may then be ours
    asked_at   when that was
    seen       ids of what came and lay idle so soon after it that it may be the answer
    guess      the only one of them: it was taken; `before` is kept beside it, for the guess may be
               wrong
    unclear    ids of several such, none of which was taken, and of guesses that served another
    lost       how many answers are among `unclear`
    allocated  ids that we made: to be released, and kept here until that is proven
    made       when each of them was made
    reused     ids that were there and lay idle, taken because no more may be made: to be kept

An address whose answer was lost is ours only when nobody else can have made it: it came after we
asked and within the time that lists need, and there are no more such than answers were lost. All
others are shown, and are left to the user.

A wrong guess shows when the other run's memo is there too, or when the address serves another. It
does not when two runs died, one before the answer came and one after it, and of the second nothing
is known: its address may then be taken, and the first one's own be left idle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from towline import errors
from towline.core.instance import parse_tag
from towline.ports import Clock, Memo

#: After a lost answer: how long the address may take to be listed, and how long one that another
#: run has just made may lie idle. Before that nothing is guessed, and no other asked for.
SETTLE_S = 30.0

Row = Mapping[str, Any]


class Note:
    """A memo's part for one region; every change is on disk when the method returns."""

    def __init__(self, memo: Memo, region: str, clock: Clock) -> None:
        self.region = region
        self._clock = clock
        self._memo = memo
        self._value: dict[str, Any] = dict(memo.read().get(region, {}))

    @property
    def is_open(self) -> bool:
        """Whether an address was asked for whose answer is unknown."""
        return "before" in self._value and "guess" not in self._value

    def own(self, rows: list[dict[str, Any]], given_up: set[str]) -> str | None:
        """One that the memo holds and that serves nobody; what isn't listed is tried as well."""
        taken = given_up | {row["id"] for row in rows if row.get("server")}
        held = [*self._held(), *self._value.get("reused", [])]
        return next((one for one in held if one not in taken), None)

    def refute(self, rows: list[dict[str, Any]], tag: str) -> None:
        """A guess that serves another was that other's, or was taken away from us."""
        others = [row["id"] for row in rows if row.get("server") not in {None, "", tag}]
        guess = self._value.get("guess")
        if guess is not None and guess in others:
            self._doubt([guess])

    def _doubt(self, addresses: list[str]) -> None:
        """One of these may be ours, and none of them is to be taken."""
        self._write(
            unclear=[*self._value.get("unclear", []), *addresses],
            lost=self._value.get("lost", 0) + 1,
            guess=None,
        )
        self.forget_intent()

    def look(self, rows: list[dict[str, Any]]) -> None:
        """Remember what has come since we asked, as long as it may be the answer."""
        seen = [row["id"] for row in rows if self.may_be_ours(row) and self.is_timely(row["id"])]
        fresh = [one for one in seen if one not in self._value.get("seen", [])]
        if fresh:
            self._write(seen=[*self._value.get("seen", []), *fresh])

    def guess(self, rows: list[dict[str, Any]]) -> str | None:
        """The only one that can be the answer; of several none is taken, and all are remembered."""
        found = [row["id"] for row in rows if self.may_be_ours(row) and self.is_timely(row["id"])]
        if len(found) > 1:
            self._doubt(found)
            return None
        return found[0] if found else None

    def may_be_ours(self, row: Row, *, contested: bool = False) -> bool:
        """Whether this address could be the one that was asked for.

        Args:
            row: Of the list of addresses.
            contested: Whether the one that was guessed may be another run's.
        """
        before = self._value.get("before")
        unknown = self.is_open or contested
        came = unknown and before is not None and row["id"] not in before
        return _is_idle(row) and (came or row["id"] in self._value.get("unclear", []))

    def is_timely(self, address: str) -> bool:
        """Whether an address that may be ours was there as soon as the answer would have been."""
        near = self._clock.now() <= self._value.get("asked_at", 0.0) + SETTLE_S
        return near or address in [*self._value.get("seen", []), *self._value.get("unclear", [])]

    def lost(self, *, contested: bool) -> int:
        """How many answers are not known."""
        return int(self._value.get("lost", 0)) + (self.is_open or contested)

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
        held = self._held()  # a guess that is given up stays ours until its release is proven
        self._write(
            before=[row["id"] for row in rows],
            asked_at=self._clock.now(),
            **({"allocated": held, "guess": None} if held else {}),
        )

    def forget_intent(self) -> None:
        """Nothing was made."""
        self._write(before=None, asked_at=None, seen=None)

    def made(self, address: str) -> None:
        """The answer came. Should it be one that was there before, it is not ours to release."""
        allocated = self._value.get("allocated", [])
        new = [] if address in self._value.get("before", []) else [address]
        made = {**self._value.get("made", {}), address: self._clock.now()}
        self._write(allocated=[*allocated, *new], made=made)
        self.forget_intent()

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

    def unseen(self, listed: set[str]) -> dict[str, float]:
        """What we made, and when, that the list lacks."""
        made = self._value.get("made", {})
        return {one: made[one] for one in self._held() if one in made and one not in listed}

    def released(self, address: str) -> None:
        """It is proven to be released."""
        kept = {one: at for one, at in self._value.get("made", {}).items() if one != address}
        held = [one for one in self._value.get("allocated", []) if one != address]
        with contextlib.suppress(errors.InvalidTransition):  # a sweep may only read
            self._write(allocated=held, made=kept)

    def close(self, rows: list[dict[str, Any]]) -> None:
        """Nothing has come of what was asked for: what comes later is somebody else's."""
        late = self._clock.now() > self._value.get("asked_at", 0.0) + SETTLE_S
        if self.is_open and late and not any(map(self.may_be_ours, rows)):
            with contextlib.suppress(errors.InvalidTransition):
                self.forget_intent()

    def _write(self, **changes: Any) -> None:
        value = {**self._value, **changes}
        self._value = {key: one for key, one in value.items() if one is not None}
        self._memo.write({**self._memo.read(), self.region: self._value})


def claims(
    rows: list[dict[str, Any]], notes: Mapping[str, Note]
) -> Iterator[tuple[str, str, bool]]:
    """Addresses that are held for a tag or may be: id, tag, and whether they are to be released.

    A bill goes on for each that is not released, and somebody's service ends with each that was
    not ours: what can't be told is shown, and left alone.
    """
    contested = {tag: note.contested(notes.values()) for tag, note in notes.items()}
    lost = sum(note.lost(contested=contested[tag]) for tag, note in notes.items())
    perhaps = []
    for row in rows:
        address, server = row["id"], row.get("server") or None
        if any(note.borrows(address) for note in notes.values()):
            continue
        if server is not None:
            if parse_tag(server) is not None:
                yield address, server, True
            continue
        made = next((tag for tag, note in notes.items() if note.holds(address)), None)
        if made is not None:
            yield address, made, True
            continue
        suspects = [t for t, note in notes.items() if note.may_be_ours(row, contested=contested[t])]
        if suspects:
            timely = any(notes[tag].is_timely(address) for tag in suspects)
            perhaps.append((address, suspects[0], timely))
    for address, tag, timely in perhaps:
        yield address, tag, timely and len(perhaps) <= lost


def _is_idle(row: Row) -> bool:
    return not row.get("server") and str(row.get("status", "")).upper() == "DOWN"
