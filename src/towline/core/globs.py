"""Globs over the paths of a run's folder."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Sequence


def matches(path: str, pattern: str) -> bool:
    """Match a path under the run's folder; patterns may mean the run's folder or the code's."""
    pattern = pattern.removeprefix("./")
    tails = [path, path.removeprefix("code/")] if path.startswith("code/") else [path]
    return any(tail == pattern or _glob(tail, pattern) for tail in tails)


def is_output(path: str, patterns: Sequence[str]) -> bool:
    """Say whether a file is among the outputs to bring home."""
    return any(matches(path, pattern) for pattern in patterns)


def _glob(path: str, pattern: str) -> bool:
    regex = _compiled(pattern)
    return regex is not None and regex.fullmatch(path) is not None


@functools.lru_cache(64)
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """A glob where ``**/`` spans any folders, none included, and ``*`` stays inside one."""
    parts = re.split(r"(\*\*/|/\*\*$|\*\*|\*|\?|\[[^\]/]+\])", pattern)
    words = {"**/": r"(?:[^/]+/)*", "/**": r"/.+", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}
    regex = "".join(
        words.get(part) or (_letters(part) if odd else re.escape(part))
        for odd, part in zip(itertools.cycle([False, True]), parts, strict=False)
    )
    try:
        return re.compile(regex, re.DOTALL)
    except re.error:
        return None  # a range that runs backwards holds no letter


def _letters(part: str) -> str:
    """A glob's `[abc]`, `[a-z]` or `[!abc]` as a regular expression; never matches a `/`."""
    inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", part[1:-1].removeprefix("!"))
    return f"[^/{inner}]" if part[1:2] == "!" else f"[{inner}]"
