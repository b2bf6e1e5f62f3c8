"""The one gate for text: whatever the command line shows passes through `Out` (rule 7).

Text may come from a training, a far machine or a file name: control characters are taken out, so
that it can't steer the terminal, and the redactor takes out the secrets.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from towline.cli.spool import PATIENCE_S, Spool, spools
from towline.errors import TowlineError

if TYPE_CHECKING:
    from towline.core.redact import Redactor

# escape sequences whole; then what is left of C0 and C1 but tab and newline; then the characters
# that turn the direction of writing, which can make a line read as another
_CONTROL = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"
    "|\x1b[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)?"
    "|\x1b[ -/]*[0-~]"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_UNEXPECTED = 1
_REPORT = (
    "This is a bug of towline. Please report it, with the lines above and the output of"
    " `towline doctor --json`. `towline ls` shows whether a run is still active."
)


def printable(text: str) -> str:
    """Take out whatever could steer a terminal; tabs and newlines stay."""
    return _CONTROL.sub("", text)


class Out:
    """Standard output and error of one command.

    ``as_json``: standard output carries JSON only, and lines for people go to standard error.
    ``is_closed``: nobody reads any more; what is written goes nowhere.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.is_verbose = False
        self.is_closed = False
        self._redactor: Redactor | None = None
        self._spools: dict[TextIO, Spool] = {}
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # an odd character must not end a run
                stream.reconfigure(errors="replace")

    @property
    def redactor(self) -> Redactor:
        """The redactor in use: an opened home's, which knows its secrets, else a plain one."""
        if self._redactor is None:
            from towline.core.redact import Redactor  # noqa: PLC0415 - `--help` needs none

            self._redactor = Redactor()
        return self._redactor

    @redactor.setter
    def redactor(self, redactor: Redactor) -> None:
        self._redactor = redactor

    @property
    def is_terminal(self) -> bool:
        """Whether a live view can be drawn."""
        dumb = os.environ.get("TERM") in ("dumb", "unknown")
        return not self.as_json and not dumb and sys.stdout.isatty()

    # -- who reads --------------------------------------------------------------------------------

    @contextmanager
    def unblocked(self) -> Iterator[None]:
        """As long as this lasts, what is written waits for its reader and the writer does not.

        At the end the reader is waited for as long as something is taken; the rest goes nowhere.
        """
        if self._spools:
            yield
            return
        self._spools = spools((sys.stdout, sys.stderr), self._broken)
        try:
            yield
        finally:
            self.settle()
            stale, self._spools = self._spools, {}
            for stream, spool in stale.items():
                spool.end()
                if spool.is_behind:
                    self._broken(stream)

    def settle(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until all is taken, but not while nothing is."""
        for spool in self._spools.values():
            spool.settle(patience_s)

    @property
    def is_behind(self) -> bool:
        """Whether something waits for its reader: no view need show more."""
        return any(spool.is_behind for spool in self._spools.values())

    @property
    def is_stuck(self) -> bool:
        """Whether a reader has taken nothing for long."""
        return any(spool.is_stuck for spool in self._spools.values())

    def clean(self, text: str) -> str:
        """The text as it may be shown."""
        return self.redactor.text(printable(text))

    def line(self, text: str = "") -> None:
        """Say something to people."""
        self._write(sys.stderr if self.as_json else sys.stdout, self.clean(text))

    def lines(self, lines: Iterable[str]) -> None:
        """Print many lines at once."""
        text = "\n".join(lines)
        if text:
            self.line(text)

    def json(self, value: Any) -> None:
        """Print one value as one line of JSON."""
        self._write(sys.stdout, json.dumps(self.redactor.value(value)))

    def document(self, value: Any) -> None:
        """Print a value as JSON that people can read too."""
        self._write(sys.stdout, json.dumps(self.redactor.value(value), indent=2))

    def raw(self, data: bytes, *, to_error: bool = False) -> None:
        """Print another program's output."""
        text = self.clean(data.decode("utf-8", "replace").replace("\r\n", "\n"))
        self._write(sys.stderr if to_error else sys.stdout, text, end="")

    def error(self, error: TowlineError) -> None:
        """Say what went wrong and what to do next."""
        self.complain(error.kind, error.message, error.hint)

    def complain(self, kind: str, message: str, hint: str | None) -> None:
        """Say an error of this kind, as what the command has come to."""
        self.warn(message, hint)
        if self.as_json:
            self.json({"error": {"kind": kind, "message": message, "hint": hint}})

    def warn(self, message: str, hint: str | None) -> None:
        """Say that something is wrong beside what the command does: never on standard output."""
        advice = f"\n\nhint: {hint}" if hint else ""
        self._write(sys.stderr, self.clean(f"error: {message}{advice}"))

    def fail(self, error: BaseException) -> int:
        """Say an error, foreseen or not; its exit code."""
        if isinstance(error, TowlineError):
            self.error(error)
            return error.exit_code
        self.bug(error)
        return _UNEXPECTED

    def bug(self, error: BaseException) -> None:
        """Show an error nobody foresaw, and whom to tell."""
        lines = "".join(traceback.format_exception(error))
        self._write(sys.stderr, self.clean(lines))
        self.complain(type(error).__name__, str(error) or type(error).__name__, _REPORT)

    def ask(self, question: str) -> bool:
        """Ask for a yes; anything else means no."""
        import click  # noqa: PLC0415

        return click.confirm(self.clean(question), default=False, err=True)

    def take_logs(self) -> None:
        """Let the libraries' logs go through the gate: warnings, and with -v all of them."""
        level = logging.DEBUG if self.is_verbose else logging.WARNING
        logging.basicConfig(level=level, handlers=[_Handler(self)], force=True)

    def _write(self, stream: TextIO, text: str, end: str = "\n") -> None:
        if (spool := self._spools.get(stream)) is not None:
            spool.put(stream, text + end)
            return
        try:
            stream.write(text + end)
            stream.flush()
        except (OSError, ValueError):
            self._broken(stream)

    def _broken(self, stream: TextIO) -> None:
        """`| head` has read enough, or the terminal is gone; a run is not ended by that."""
        self.is_closed = True
        _lead_nowhere(stream)


class Screen:
    """Standard output as a file that a live view is drawn into."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self.encoding = sys.stdout.encoding

    def write(self, text: str) -> int:
        """Write what is clean already and steers the terminal."""
        self._out._write(sys.stdout, text, end="")  # noqa: SLF001
        return len(text)

    def flush(self) -> None:
        """Do nothing: every write is flushed."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return sys.stdout.isatty()

    def fileno(self) -> int:
        """The terminal's own number."""
        return sys.stdout.fileno()


class _Handler(logging.Handler):
    """Log records go through the gate too."""

    def __init__(self, out: Out) -> None:
        super().__init__()
        self._out = out
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        self._out._write(sys.stderr, self._out.clean(self.format(record)))  # noqa: SLF001


def _lead_nowhere(stream: TextIO) -> None:
    """Point a broken stream at the null device, so that closing it at exit can't fail either."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        return


def table(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Lay rows out in columns; the last column is cut at ``width``."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row[:-1], widths[:-1], strict=True)]
        line = "  ".join([*cells, row[-1]]).rstrip()
        lines.append(shorten(line, width) if width else line)
    return lines


def shorten(text: str, width: int) -> str:
    """Cut a text at a width, visibly."""
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."
