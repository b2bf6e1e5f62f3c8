"""What all accounts offer at this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
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


async def ask(providers: Mapping[str, Provider], need: Resources) -> Market:
    """Ask every account at once; one that fails or stays silent does not hold up the others."""
    answers = await asyncio.gather(*(_ask_one(one, need) for one in providers.values()))
    market = Market()
    for name, answer in zip(providers, answers, strict=True):
        if isinstance(answer, errors.TowlineError):
            market.failures[name] = answer
        else:
            market.offers.extend(answer)
    return market


async def _ask_one(provider: Provider, need: Resources) -> list[Offer] | errors.TowlineError:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await provider.offers(need)
    except TimeoutError:
        return errors.ProviderUnavailable(
            f"{provider.name} gave no answer within {_ANSWER_S:.0f} s"
        )
    except errors.TowlineError as error:
        return error
