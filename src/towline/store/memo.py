"""What a provider must not forget of a run, kept in the run's journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from towline.store.journal import Journal


@dataclass(frozen=True, slots=True)
class JournalMemo:
    """A provider's memo: on disk before `write` returns."""

    journal: Journal
    key: str

    def read(self) -> dict[str, Any]:
        """What was written last."""
        value: dict[str, Any] = self.journal.store.facts(self.journal.run_id).get(self.key, {})
        return value

    def write(self, value: dict[str, Any]) -> None:
        """Keep it."""
        self.journal.fact(self.key, value)
