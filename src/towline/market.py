"""What all accounts offer at this moment."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from towline import errors
from towline.core.instance import Offer
from towline.core.offers import Listed, left_out_text, sound
from towline.core.task import Resources
from towline.ports import Provider

_ANSWER_S = 45.0  # for one account; its own tries included


@dataclass(frozen=True, slots=True)
class Market:
    """Offers of every account that answered, and by name what went wrong with the others.

    ``left_out``: by name and reason, how many rows of an account's list are no offer.
    """

    offers: list[Offer] = field(default_factory=list)
    failures: dict[str, errors.TowlineError] = field(default_factory=dict)
    left_out: dict[str, Mapping[str, int]] = field(default_factory=dict)

    def notes(self) -> Iterator[str]:
        """What is missing among the offers, in words."""
        for name, failure in self.failures.items():
            yield f"{name} is left out: {failure.message}"
        for name, reasons in self.left_out.items():
            yield f"{name}: {left_out_text(reasons)}"

    def gaps(self) -> dict[str, list[dict[str, Any]]]:
        """The same, as `--json` shows it."""
        return {
            "left_out": [
                {"provider": name, "reason": why, "count": count}
                for name, reasons in self.left_out.items()
                for why, count in reasons.items()
            ],
            "unreachable": [
                {"provider": name, "kind": one.kind, "error": one.message, "hint": one.hint}
                for name, one in self.failures.items()
            ],
        }


async def ask(
    names: Sequence[str], provider_of: Callable[[str], Provider], need: Resources
) -> Market:
    """Ask every account at once; one that fails or stays silent does not hold up the others.

    Nor does one whose driver breaks: that is said to be a bug, and whose.

    Args:
        names: Of the accounts.
        provider_of: Makes the provider of a name; what it can't make has failed.
        need: What is wanted.
    """
    answers = await asyncio.gather(*(_ask_one(name, provider_of, need) for name in names))
    market = Market()
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, errors.TowlineError):
            market.failures[name] = answer
            continue
        market.offers.extend(answer)
        if answer.left_out:
            market.left_out[name] = answer.left_out
    return market


async def _ask_one(
    name: str, provider_of: Callable[[str], Provider], need: Resources
) -> Listed | errors.TowlineError:
    try:
        provider = provider_of(name)
        async with asyncio.timeout(_ANSWER_S):
            return sound(await provider.offers(need), free=provider.features.free)
    except TimeoutError:
        return errors.ProviderUnavailable(f"{name} gave no answer within {_ANSWER_S:.0f} s")
    except errors.TowlineError as error:
        return error
    except Exception as error:  # noqa: BLE001 - of one driver; the others are asked all the same
        return _bug(name, error)


def _bug(name: str, error: Exception) -> errors.DriverBug:
    at = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{at.filename.rpartition('/')[2]}:{at.lineno}"
    found = errors.DriverBug(f"a bug in {name}'s driver: {error!r} at {place}")
    found.__cause__ = error
    return found
