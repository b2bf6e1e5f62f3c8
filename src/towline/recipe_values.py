"""A recipe's setting: what it may be, and how a value given by a user is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from towline.core.task import Scalar

_YES = {"true", "yes", "on"}
_NO = {"false", "no", "off"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``low`` and ``high`` are allowed themselves; ``auto`` is one value beyond them
    with a meaning of its own."""

    name: str
    kind: Literal["whole", "number", "text", "switch"]
    default: Scalar
    help: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    auto: float | None = None

    def read(self, value: Scalar) -> Scalar:
        """The value as the script gets it; None stands for the default.

        Raises:
            ValueError: Says what would be right.
        """
        if value is None:
            return self.default
        match self.kind:
            case "switch":
                return self._switch(value)
            case "text":
                return self._text(value)
            case _:
                return self._number(value)

    @property
    def allowed(self) -> str:
        """What it may be, in words."""
        if self.choices:
            return ", ".join(self.choices)
        if self.kind == "switch":
            return "true or false"
        if self.kind == "text":
            return "text"
        kind = "whole number" if self.kind == "whole" else "number"
        if math.isfinite(self.low) and math.isfinite(self.high):
            kind += f" from {self.low:g} to {self.high:g}"
        elif math.isfinite(self.low):
            kind += f" from {self.low:g} up"
        return kind if self.auto is None else f"{kind}, or {self.auto:g}"

    def _switch(self, value: Scalar) -> bool:
        word = str(value).lower()
        if word in _YES or word in _NO:
            return word in _YES
        raise ValueError(f"true or false is wanted, not {value!r}")

    def _text(self, value: Scalar) -> str:
        text = str(value).lower() if self.choices else str(value)
        if self.choices and text not in self.choices:
            raise ValueError(f"{self.allowed} is wanted, not {value!r}")
        if not text.strip():
            raise ValueError("it is empty")
        return text

    def _number(self, value: Scalar) -> Scalar:
        number = _plain_number(value)
        whole = self.kind == "whole"
        if number is None or (whole and number != int(number)):
            raise ValueError(f"a {self.allowed} is wanted, not {value!r}")
        if not self.low <= number <= self.high and number != self.auto:
            raise ValueError(f"a {self.allowed} is wanted, not {value!r}")
        return int(number) if whole else float(number)


def _plain_number(value: Scalar) -> float | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
