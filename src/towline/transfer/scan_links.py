"""Symbolic links of a tree: which of them mean the same on another machine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_HOPS = 40  # as Linux allows

OUTSIDE = "link that leads out of the folder"
DANGLING = "link to nothing that is sent"


def why_not_sent(path: str, links: Mapping[str, str], is_sent: Callable[[str], bool]) -> str | None:
    """Walk a link as the kernel would; say why it can't be sent, None when it ends in the tree.

    Args:
        path: The link, relative to the tree's root.
        links: Target of every link of the tree, by its path.
        is_sent: Whether a path is anything else that is sent, a folder included.
    """
    at = path.split("/")[:-1]
    todo = _parts(links[path])
    hops = 1
    while todo:
        part = todo.pop(0)
        if part in {"", "."}:
            continue
        if part == "..":
            if not at:
                return OUTSIDE
            at.pop()
            continue
        here = "/".join([*at, part])
        if here in links:
            hops += 1
            todo = _parts(links[here]) + todo
        elif is_sent(here):
            at.append(part)
        else:
            return DANGLING
        if hops > _HOPS:
            return DANGLING
    return None


def _parts(target: str) -> list[str]:
    """Components of a target; an absolute one leads out at its first step."""
    return [".."] * 4096 if target.startswith("/") or target[1:2] == ":" else target.split("/")
