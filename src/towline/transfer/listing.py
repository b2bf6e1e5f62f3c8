"""What a training wrote, as the instance lists it: packed, for it may be a million files.

Kept as the blocks that came, unpacked each time it is gone through. Everything in them is taken as
hostile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from towline.core.artifact import FoundFile, is_output
from towline.core.manifest import shown
from towline.errors import CommandFailed, TransferError
from towline.onboard import blocks

_OWN = ("output", "code")
_NO_NAMES = frozenset(["", ".", ".."])


class Listing:
    """Files written since ``since_ns``; of the output folder all. What was uploaded is older."""

    def __init__(self, since_ns: int) -> None:
        self._since_ns = since_ns
        self._blocks: list[bytes] = []
        #: what could not be looked into, with the reason: the first of it, and how much in all
        self.unread: list[tuple[str, str]] = []
        self.unread_count = 0
        self.count = 0

    def add(self, block: bytes) -> None:
        """Take one block of rows."""
        self._blocks.append(block)

    def close(self, result: dict[str, Any]) -> None:
        """Take the end record: without it, or with another count than came, nothing counts.

        Raises:
            TransferError: The list is not whole.
            CommandFailed: It names what can't lie there.
        """
        came = 0
        for one in self._rows():
            came += 1
            self.count += self._is_meant(*one)
        if came != result["files"]:
            message = (
                f"of {result['files']} rows of the list of what the training wrote {came} came"
            )
            raise TransferError(message, hint="`towline resume` asks again")
        self.unread = [(str(path), str(why)) for path, why in result["unread"]]
        self.unread_count = result["unread_count"]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[FoundFile]:
        """Each file, in no order.

        Raises:
            CommandFailed: The instance lists what can't lie there.
        """
        for folder, row in self._rows():
            if self._is_meant(folder, row):
                name, size, mtime_ns, mode, says = row
                yield FoundFile(
                    path=f"{folder}/{name}",
                    size_bytes=size,
                    mode=mode,
                    mtime_ns=mtime_ns,
                    says=says,
                )

    def _is_meant(self, folder: str, row: list[Any]) -> bool:
        return row[2] >= self._since_ns or folder == "output" or folder.startswith("output/")

    def _rows(self) -> Iterator[tuple[str, list[Any]]]:
        for block in self._blocks:
            try:
                groups = json.loads(bytes(blocks.unwrap(block)))
            except ValueError as error:
                raise CommandFailed(f"what the instance lists makes no sense: {error}") from error
            for folder, rows in groups:
                parts = folder.split("/")
                if parts[0] not in _OWN or _NO_NAMES & set(parts):
                    raise _leads_out(f"{folder}/{rows[0][0]}")
                for row in rows:
                    if "/" in row[0] or row[0] in _NO_NAMES:
                        raise _leads_out(f"{folder}/{row[0]}")
                    yield folder, row


class Chosen:
    """The files of a listing that fit patterns, with some more and without some, by path."""

    def __init__(
        self, listing: Listing, patterns: Sequence[str], more: set[str], without: set[str]
    ) -> None:
        self._listing, self._patterns = listing, patterns
        self._more, self._without = more, without

    def __contains__(self, path: str) -> bool:
        return path not in self._without and (path in self._more or is_output(path, self._patterns))

    def __iter__(self) -> Iterator[FoundFile]:
        return (file for file in self._listing if file.path in self)


def _leads_out(path: str) -> CommandFailed:
    return CommandFailed(f"the instance lists {shown(path)}, which leads out of the run")
