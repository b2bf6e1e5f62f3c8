"""Take parts out of a provider's answer, and put ids into a path.

What an answer lacks, or has in another kind than it must have, is a ProviderReplyError that names
the field: nothing is concluded from what can't be read.
"""

from __future__ import annotations

import math
import re
from typing import Any

from towline import errors

_SHOWN = 300  # characters of an answer in a message
_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}
_PORTS = range(1, 65536)


def need(value: Any, *path: str | int, kind: type | None = None) -> Any:
    """Take a part of an answer.

    Raises:
        ProviderReplyError: It is not there, or of another kind.
    """
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError) as error:
            message = f"the provider's answer has no {_where(path)}: {short(str(value))}"
            raise errors.ProviderReplyError(message) from error
    return value if kind is None else _of_kind(value, kind, path)


def told(value: Any, *path: str, kind: type) -> Any:
    """Take a part that may be missing or null: None then.

    Raises:
        ProviderReplyError: It is there, and of another kind; or what it would be in is.
    """
    for at, part in enumerate(path):
        if value is None:
            return None
        value = _of_kind(value, dict, path[:at]).get(part)
    return None if value is None else _of_kind(value, kind, path)


def text(value: Any, *path: str) -> str:
    """A text that may be missing: "" then.

    Raises:
        ProviderReplyError: As `told`.
    """
    return told(value, *path, kind=str) or ""


def label(value: Any, *path: str | int) -> str:
    """A text that must be in the answer, though it may be null: "" then.

    A tag is such: where its field is missing, what is ours would pass for somebody else's.

    Raises:
        ProviderReplyError: It is missing, or no text.
    """
    found = need(value, *path)
    return "" if found is None else str(_of_kind(found, str, path))


def ident(value: Any, *path: str | int) -> str:
    """An id that must be there, as text; the answer may have it as a number.

    Raises:
        ProviderReplyError: It is missing or no id.
    """
    found = need(value, *path)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        message = f"the provider's answer has {short(repr(found))} for an id at {_where(path)}"
        raise errors.ProviderReplyError(message)
    return str(found)


def port(value: Any, *path: str) -> int | None:
    """A port that may be missing, or 0 as long as there is none.

    Raises:
        ProviderReplyError: It is something else.
    """
    found = told(value, *path, kind=int)
    if found is not None and found not in {0, *_PORTS}:
        message = f"the provider's answer has {found} for a port at {_where(path)}"
        raise errors.ProviderReplyError(message)
    return found or None


def words(value: Any, *path: str) -> list[str]:
    """The texts of a list that may be missing.

    Raises:
        ProviderReplyError: There is something else.
    """
    return [one for one in told(value, *path, kind=list) or [] if isinstance(one, str)]


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


def rate(value: Any, *path: str) -> float:
    """What an instance costs, 0 where that is not told.

    Raises:
        ProviderReplyError: What it would be in is no object.
    """
    around = told(value, *path[:-1], kind=dict) or {}
    return max(number(around.get(path[-1])) or 0.0, 0.0)


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


def _of_kind(value: Any, kind: type, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    where = _where(path)
    message = (
        f"the provider's answer has {short(repr(value))} at {where}, where {_KINDS[kind]} is due"
    )
    raise errors.ProviderReplyError(message)


def _where(path: tuple[str | int, ...]) -> str:
    return ".".join(str(one) for one in path) or "its top"
