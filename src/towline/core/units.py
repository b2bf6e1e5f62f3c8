"""Durations, sizes and money: read from what people write, written as people read."""

from __future__ import annotations

import math
import re
from typing import Any

_NO_LONGER_S = 1e15  # thirty million years: a typing error, and no float overflows below it
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")


class Duration(float):
    """Seconds; written `90`, `120s`, `10m`, `6h`, `1h30m` or `2d` in the task file."""

    @classmethod
    def parse(cls, text: str | float) -> Duration:
        """Read a duration.

        Raises:
            ValueError: The text is none of the forms above, or negative.
        """
        if isinstance(text, str) and re.fullmatch(r"\d+(\.\d+)?", text.strip()):
            text = float(text)
        if isinstance(text, int | float) and not isinstance(text, bool):
            seconds = float(text) if 0 <= text < _NO_LONGER_S else math.inf
        else:
            seconds = _parse_parts(str(text).strip())
        if seconds >= _NO_LONGER_S:
            msg = f"a duration must be a finite number of seconds from 0 up, not {str(text)[:40]}"
            raise ValueError(msg)
        return cls(seconds)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Let the edges (task file, config) validate it; imported only when they do."""
        from pydantic_core import core_schema  # noqa: PLC0415

        return core_schema.no_info_plain_validator_function(
            cls.parse,
            json_schema_input_schema=core_schema.union_schema([
                core_schema.float_schema(ge=0),
                core_schema.str_schema(),
            ]),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        """What `towline schema` says of a duration."""
        return {"type": ["number", "string"], "description": "seconds, or 90s, 10m, 6h, 1h30m, 2d"}


def _parse_parts(text: str) -> float:
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        msg = f"{text!r} is not a duration; write 90s, 10m, 6h, 1h30m or 2d"
        raise ValueError(msg)
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def seconds_text(seconds: float) -> str:
    """Say a duration: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def size_text(size_bytes: float) -> str:
    """Say a size in decimal units: `512 B`, `1.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def usd_text(usd: float) -> str:
    """Say a sum of money; cents, or a tenth of a cent below ten cents."""
    return f"${usd:.3f}" if 0 < usd < 0.1 else f"${usd:.2f}"


def count_text(number: int, noun: str, plural: str | None = None) -> str:
    """Say `1 file`, `2 files`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
