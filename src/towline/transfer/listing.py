"""What a training wrote, as the instance lists it: packed, for it may be a million files.

Kept as the blocks that came, unpacked each time it is gone through. Everything in them is taken as
hostile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from towline.core.artifact import FoundFile
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


def _leads_out(path: str) -> CommandFailed:
    return CommandFailed(f"the instance lists {shown(path)}, which leads out of the run")
