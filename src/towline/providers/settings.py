"""What all providers' settings have in common: a word that is not known is refused by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from towline.errors import SpecError


def require_known(word: object, known: Iterable[str], where: str, noun: str) -> None:
    """Let a known word pass.

    Args:
        word: What the user wrote.
        known: The words that mean something there.
        where: Dotted path of the place, as in config.yaml.
        noun: What such a word is called, for the message.

    Raises:
        SpecError: It is not known; names the nearest that is.
    """
    words = list(known)
    if word in words:
        return
    near = max(words, key=lambda one: _likeness(str(word), one))
    message = f"{where}: there is no {noun} {word!r}"
    raise SpecError(message, hint=f"did you mean {near!r}? Known: {', '.join(words)}")


def _likeness(word: str, known: str) -> tuple[bool, float]:
    """A word's beginning is nearer to it than any misspelling."""
    begins = bool(word) and (known.startswith(word) or word.startswith(known))
    return begins, difflib.SequenceMatcher(None, word, known).ratio()
