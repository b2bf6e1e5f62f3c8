"""What is missing on the instance, as it says itself: the first half of every upload. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from towline.core.manifest import EntryKind, Manifest
from towline.errors import CommandFailed


@dataclass(frozen=True, slots=True)
class Piece:
    """The rest of one file: entry ``number`` of the manifest, from ``offset`` to its end."""

    number: int
    offset: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be sent. Pieces are in manifest order; equal contents are wanted once."""

    complete: bool
    pieces: tuple[Piece, ...]
    left_bytes: int

    @classmethod
    def read(cls, answer: dict[str, Any], manifest: Manifest) -> Plan:
        """Read the instance's answer: runs of whole files, and files that have a beginning.

        Raises:
            CommandFailed: It asks for what there is not.
        """
        try:
            pieces = sorted(_pieces(answer), key=lambda piece: piece.number)
            left = sum(_rest(manifest, piece) for piece in pieces)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CommandFailed(f"the instance's answer makes no sense: {error!r}") from error
        return cls(bool(answer["complete"]), tuple(pieces), left)


def _pieces(answer: dict[str, Any]) -> Iterator[Piece]:
    for first, count in answer["want"]:
        for number in range(first, first + count):
            yield Piece(number, 0)
    for number, offset in answer["partial"]:
        yield Piece(number, offset)


def _rest(manifest: Manifest, piece: Piece) -> int:
    """Bytes of a piece.

    Raises:
        ValueError: There is no such piece.
    """
    entry = manifest.entries[piece.number]
    if piece.number < 0 or entry.kind is not EntryKind.FILE:
        raise ValueError(piece.number)
    if not 0 <= piece.offset < entry.size_bytes:
        raise ValueError(piece.offset)
    return entry.size_bytes - piece.offset
