"""Read offers out of a provider's list, row by row: one odd row costs nobody the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from towline import errors
from towline.core import gpu
from towline.core.instance import Offer
from towline.core.offers import Listed
from towline.providers.parts import number, short

#: what reading a row of another shape than documented ends with
ODD = (
    errors.ProviderReplyError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
)
_Read = TypeVar("_Read")


class NoOffer(Exception):
    """A row that can't be offered; says why in a few words, alike for all such rows."""


def offers_of(rows: object, read: Callable[[Any], Iterable[Offer]]) -> Listed:
    """The offers of every row; see `read_each`."""
    return Listed(*read_each(rows, read))


def read_each(
    rows: object, read: Callable[[Any], Iterable[_Read]]
) -> tuple[list[_Read], Counter[str]]:
    """What every row is read as, and by reason how many are nothing.

    Args:
        rows: A list, or what came in its place.
        read: Reads a row; raises NoOffer, or whatever an odd row makes it raise.

    Raises:
        ProviderReplyError: It is no list: then nothing can be read.
    """
    found, left_out = list[_Read](), Counter[str]()
    for row in entries(rows):
        try:
            found += list(read(row))
        except NoOffer as why:
            left_out[str(why)] += 1
        except ODD:
            left_out["it can't be read"] += 1
    return found, left_out


def entries(value: object) -> list[Any]:
    """A list, whatever its rows are.

    Raises:
        ProviderReplyError: It is none.
    """
    if not isinstance(value, list):
        raise errors.ProviderReplyError(f"the provider's answer is no list: {short(str(value))}")
    return value


def price(value: object, *, text: bool = False) -> float:
    """A price as it is documented: a number, or text with a number in it where that is told.

    Nothing, 0, is a price to be judged by `core.offers.sound`.

    Raises:
        NoOffer: It is something else.
    """
    read = number(value) if text or isinstance(value, int | float) else None
    if read is None or read < 0:
        raise NoOffer("no price")
    return read


def whole(value: object) -> int:
    """A number of GPUs.

    Raises:
        NoOffer: It is no whole number from 0 up, such as 0.5.
    """
    read = number(value)
    if read is None or read < 0 or read != int(read):
        raise NoOffer("no whole number of GPUs")
    return int(read)


def chip(words: object) -> gpu.Gpu | None:
    """The model that a provider's words name; None where they name none that is known.

    Raises:
        NoOffer: They speak of a part of a GPU.
    """
    text = words if isinstance(words, str) else ""
    found = gpu.parse(text)
    if gpu.is_part(text) or (found is not None and found.part):
        raise NoOffer("a part of a GPU")
    return found


def size(value: object) -> float | None:
    """A size or speed above 0; None where it is not told."""
    read = number(value)
    return read if read is not None and read > 0 else None


def word(value: object) -> str:
    """A name.

    Raises:
        ProviderReplyError: It is no text, or empty.
    """
    if not isinstance(value, str) or not value:
        raise errors.ProviderReplyError(f"the provider gave no name: {short(str(value))}")
    return value


def flag(value: object) -> bool | None:
    """Yes, no, or None where it is not told."""
    return value if isinstance(value, bool) else None
