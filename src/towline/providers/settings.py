"""What all providers' settings have in common: a word that is not known is refused by name."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

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


def prices_of(value: Any, where: str, *, free: bool = False) -> dict[str, float]:
    """A setting that gives prices in USD per hour by type; nothing is no prices.

    Args:
        value: What the user wrote.
        where: Dotted path of the place, as in config.yaml.
        free: Whether something may cost nothing.

    Raises:
        SpecError: It is something else.
    """
    prices = value or {}
    if not isinstance(prices, Mapping) or not all(
        _is_price(price, free=free) for price in prices.values()
    ):
        least = "from 0 up" if free else "above 0"
        message = f"{where} must give prices in USD per hour by type, each {least}"
        raise SpecError(message, hint="such as `prices: {p5.4xlarge: 6.88}`")
    return {str(name): float(price) for name, price in prices.items()}


def earlier_keys(value: Any, name: str) -> tuple[str, ...]:
    """Fingerprints of the keys that an account had before; nothing is none.

    Raises:
        SpecError: It is something else.
    """
    keys = value or []
    if not isinstance(keys, list) or not all(
        isinstance(one, str) and re.fullmatch(r"[0-9a-f]{8}", one) for one in keys
    ):
        message = f"providers.{name}.earlier_keys must list fingerprints of keys"
        hint = "such as `earlier_keys: ['3fa9c1d2']`, in quotes, as towline's message showed it"
        raise SpecError(message, hint=hint)
    return tuple(keys)


def _is_price(value: object, *, free: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return value > 0 or (free and value == 0)


def _likeness(word: str, known: str) -> tuple[bool, float]:
    """A word's beginning is nearer to it than any misspelling."""
    begins = bool(word) and (known.startswith(word) or word.startswith(known))
    return begins, difflib.SequenceMatcher(None, word, known).ratio()
