"""Take parts out of a provider's answer, and put ids into a path."""

from __future__ import annotations

import math
import re
from typing import Any

from towline import errors

_SHOWN = 300  # characters of an answer in a message


def need(value: Any, *path: str | int) -> Any:
    """Take a part of an answer.

    Raises:
        ProviderReplyError: It is not there.
    """
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError) as error:
            where = ".".join(str(one) for one in path)
            message = f"the provider's answer has no {where}: {short(str(value))}"
            raise errors.ProviderReplyError(message) from error
    return value


def rows(value: Any) -> list[dict[str, Any]]:
    """An answer that must be a list of objects.

    Raises:
        ProviderReplyError: It is something else; a list that can't be read is not an empty one.
    """
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise errors.ProviderReplyError(f"the provider's answer is no list: {short(str(value))}")
    return value


def number(value: Any) -> float | None:
    """A number, also one that is written as text; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        read = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return read if math.isfinite(read) else None


def segment(text: str) -> str | None:
    """An id as one part of a path; None for what can be no id: it would be another address."""
    return text if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}", text) else None


def numeral(text: str) -> str | None:
    """The same where ids are numbers: None for anything else."""
    return segment(text) if text.isascii() and text.isdigit() else None


def short(text: str) -> str:
    """An answer as it fits into a message."""
    plain = " ".join(text.split())
    return plain if len(plain) <= _SHOWN else plain[:_SHOWN] + " ..."
