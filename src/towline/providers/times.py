"""Times as providers' APIs write them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """UTC seconds since the epoch as text, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def utc_seconds(text: object) -> float | None:
    """RFC 3339 text as UTC seconds since the epoch; None for what is no such time.

    Text without a zone is taken for UTC.
    """
    try:
        read = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
