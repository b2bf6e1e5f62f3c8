"""Whether a list is whole: what it lacks would pass for gone.

A driver follows the pages that its provider documents. What speaks of more beside a list, in
whatever words, is never passed over: providers have begun to page lists that had no pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from towline import errors
from towline.providers.parts import need, number, rows, short

_NEXT = re.compile(
    r"next|next_(page|link|url)|(next_?|after_?|page_?|next_page_?|continuation_?)?"
    r"(cursor|token|marker)|has_?(more|next)(_page)?|is_?truncated"
)
_PAGES = re.compile(r"(total|num|last)_?pages?(_?count)?|page_?count")
_TOTAL = re.compile(r"count|total|total_?(?!page)\w+")
#: objects beside a list that tell of its pages; an envelope around it is looked into, too
_BESIDE = re.compile(r"links|pages|meta|metadata|pagination|paging|page_?info|cursors?|data|result")


def all_of(answer: Any, *path: str) -> list[dict[str, Any]]:
    """The rows of a list that has no pages, as far as is documented.

    Raises:
        ProviderReplyError: There is no list, or the answer says that it goes on.
    """
    found = rows(need(answer, *path))
    require_end(answer, len(found))
    return found


def require_end(answer: Any, count: int, *, paged: bool = False) -> None:
    """Make sure that nothing of a list is left unread.

    Args:
        answer: Its only page, or the last one.
        count: How many rows were read, on all pages together.
        paged: Whether its pages were read by their numbers.

    Raises:
        ProviderReplyError: The answer speaks of more.
    """
    for name, value in _beside(answer):
        plain = re.sub(r"(?<=[a-z])(?=[A-Z])|-", "_", name).lower()
        said = number(value) or 0
        more = (
            (_NEXT.fullmatch(plain) is not None and bool(value))
            or (_PAGES.fullmatch(plain) is not None and said > 1 and not paged)
            or (_TOTAL.fullmatch(plain) is not None and said > count)
        )
        if more:
            message = f"the provider's list goes on after {count} rows: {name} is"
            raise errors.ProviderReplyError(f"{message} {short(str(value))}")


def _beside(answer: Any) -> Iterator[tuple[str, Any]]:
    """What stands beside a list: in its object, and in the objects for links and the like."""
    for name, value in answer.items() if isinstance(answer, dict) else ():
        if isinstance(value, list):
            links = [one for one in value if isinstance(one, dict) and one.get("rel") == "next"]
            yield from (("next", one.get("href")) for one in links)
        elif isinstance(value, dict) and _BESIDE.fullmatch(name.lower()):
            yield from _beside(value)
        else:
            yield name, value
