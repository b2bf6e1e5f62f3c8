"""Delays as plain numbers: the caller owns clock and sleep."""

from __future__ import annotations

from collections.abc import Iterator


def delays(first_s: float, limit_s: float, factor: float = 2.0) -> Iterator[float]:
    """Yield growing delays in seconds for ever: ``first_s``, then times ``factor``, at most
    ``limit_s``."""
    delay_s = first_s
    while True:
        yield min(delay_s, limit_s)
        delay_s = min(delay_s * factor, limit_s)
