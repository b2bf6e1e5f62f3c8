"""Ask for a secret on the terminal without showing it."""

from __future__ import annotations

import os
import select
import sys

import click

from towline.cli.text import Out

if sys.platform != "win32":
    import termios

_REST_S = 0.1  # a paste comes in one go
_CHUNK = 4096


def read_hidden(out: Out, question: str, *, whole: bool) -> str:
    """Ask for a line; what is typed or pasted is not shown.

    Args:
        out: Where the question is shown.
        question: What to ask.
        whole: Take all lines that were pasted together, not only the first with something in it.

    Raises:
        Abort: The input ended.
    """
    if sys.platform == "win32":
        answer: str = click.prompt(out.clean(question), hide_input=True, err=True, prompt_suffix="")
        return answer
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    try:
        # not TCSAFLUSH, by which a paste's further lines would be lost
        termios.tcsetattr(fd, termios.TCSADRAIN, silent)
        click.echo(out.clean(question), err=True, nl=False)
        return _line(fd, whole=whole).decode("utf-8", "replace")
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        click.echo(err=True)


def _line(fd: int, *, whole: bool) -> bytes:
    """Read the first line that is not empty, and with `whole` those that came with it."""
    read = b""
    while not read.strip() or (whole and select.select([fd], [], [], _REST_S)[0]):
        part = os.read(fd, _CHUNK)  # a line, for the terminal gives no more
        if not part:
            if not read.strip():
                raise click.Abort
            break
        read += part
    return read
