"""What all accounts offer at this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from towline import errors
from towline.core.instance import Offer
from towline.core.task import Resources
from towline.ports import Provider

_ANSWER_S = 45.0  # for one account; its own tries included


@dataclass(frozen=True, slots=True)
class Market:
    """Offers of every account that answered, and by name what went wrong with the others."""

    offers: list[Offer] = field(default_factory=list)
    failures: dict[str, errors.TowlineError] = field(default_factory=dict)


async def ask(
    names: Sequence[str], provider_of: Callable[[str], Provider], need: Resources
) -> Market:
    """Ask every account at once; one that fails or stays silent does not hold up the others.

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
        else:
            market.offers.extend(answer)
    return market


async def _ask_one(
    name: str, provider_of: Callable[[str], Provider], need: Resources
) -> list[Offer] | errors.TowlineError:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await provider_of(name).offers(need)
    except TimeoutError:
        return errors.ProviderUnavailable(f"{name} gave no answer within {_ANSWER_S:.0f} s")
    except errors.TowlineError as error:
        return error
