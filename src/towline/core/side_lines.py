"""What the readers of side files share: lines out of pieces, and numbers out of anything."""

from __future__ import annotations

from typing import Any

from towline.core.progress import Progress

_LINE_LIMIT = 64 * 1024
_MOST = 10**12


class LineReader:
    """Splits what is appended into lines; `line` reads one."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._rest = str(state.get("rest", "")).encode("latin-1")
        self._skipping = bool(state.get("skipping"))  # the line under way is too long already

    def state(self) -> dict[str, Any]:
        """What a fresh reader needs to go on."""
        return {"rest": self._rest.decode("latin-1"), "skipping": self._skipping}

    def feed(self, data: bytes) -> list[Progress]:
        """Take what was appended."""
        found = []
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._skipping and len(line) <= _LINE_LIMIT:
                found.append(self.line(line.decode("utf-8-sig", "replace").strip()))
            self._skipping = False
        if self._skipping or len(rest) > _LINE_LIMIT:
            self._skipping, rest = True, b""
        self._rest = rest
        return [one for one in found if one is not None]

    def line(self, text: str) -> Progress | None:
        """Read one line."""
        raise NotImplementedError


def is_number(value: Any) -> bool:
    """Whether something can be read as a number."""
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return not isinstance(value, bool)


def whole_number(value: Any) -> int | None:
    """A count out of `3`, `3.0` or `" 3"`; None of anything else."""
    if not is_number(value) or not 0 <= float(value) < _MOST:
        return None
    return int(float(value))
