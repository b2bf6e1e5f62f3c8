"""What CanopyWave rents out: its instance types with their prices, images and stock."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

from towline import errors
from towline.core.instance import Offer
from towline.core.offers import Listed
from towline.ports import Finding
from towline.providers.account import Account
from towline.providers.canopywave_project import CONSOLE, Project
from towline.providers.canopywave_reading import Kind, in_stock, kind_of
from towline.providers.listing import NoOffer, offers_of, read_each

_AT_ONCE = 4  # questions for stock; no limit is documented


class Catalogue:
    """The instance types of a project."""

    def __init__(self, account: Account, project: Project) -> None:
        self._provider = account.name
        self._image = account.text("image", "") or None
        self._project = project
        self._kinds: list[Kind] = []
        self._left_out = Counter[str]()  # of the types that were asked last, what is none

    async def kinds(self) -> list[Kind]:
        """All types, asked anew."""
        listed = await self._project.get("/instance-types")
        self._kinds, self._left_out = read_each(listed, lambda row: [kind_of(row)])
        return self._kinds

    async def kinds_or_none(self) -> list[Kind]:
        """As they were asked last; [] when they can't be had.

        Lists of instances tell no price, and the lack of one must not keep an instance from being
        listed.
        """
        try:
            return self._kinds or await self.kinds()
        except errors.ProviderError:
            return []

    async def offers(self) -> Listed:
        """What may be rented, its stock not yet asked for."""
        kinds, regions = await self.kinds(), await self._project.chosen_regions()
        listed = offers_of(kinds, lambda kind: self._offers_of(kind, regions))
        return Listed(listed, listed.left_out + self._left_out)

    def _offers_of(self, kind: Kind, regions: Sequence[str]) -> Iterator[Offer]:
        """One for each region; a type without an image to start can't be offered."""
        image = kind.image(self._image)
        if image is None:
            return
        if kind.price_usd_per_h is None:
            raise NoOffer("no price")
        for region in regions:
            yield Offer(
                provider=self._provider,
                type=kind.flavor,
                price_usd_per_h=kind.price_usd_per_h,
                gpu=kind.gpu.model if kind.gpu else None,
                gpus=kind.gpus,
                vram_gb=kind.gpu.memory_gb if kind.gpu else None,
                region=region,
                payload={"image": image} | _note(kind),
            )

    async def with_stock(self, offers: Sequence[Offer]) -> list[Offer]:
        """The same offers, with what is known of their stock."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def ask(offer: Offer) -> Offer:
            region = offer.region or ""
            try:
                async with gate:
                    answer = await self._project.get_once(
                        "/flavor-availability", region, flavor=offer.type
                    )
            except errors.ProviderError:
                return offer  # unknown: neither yes nor no
            return dataclasses.replace(offer, available=in_stock(answer, region, offer.type))

        return list(await asyncio.gather(*map(ask, offers)))

    async def stock(self) -> Finding:
        """Say how many offers there are, and what is known of their stock."""
        offers = await self.with_stock(await self.offers())
        stock = sum(offer.available is True for offer in offers)
        unknown = sum(offer.available is None for offer in offers)
        text = f"{len(offers)} offers: {stock} in stock, {unknown} of unknown stock"
        return Finding("offers", text, self._no_offers(offers, stock + unknown))

    def prices(self) -> Finding:
        """Say which of the types that were asked last have no price, or two that disagree."""
        odd = [f"{kind.name} is {kind.price_note}" for kind in self._kinds if kind.price_note]
        odd += [f"{kind.name} has none" for kind in self._kinds if kind.price_usd_per_h is None]
        if not odd:
            return Finding("prices", "both forms of each price agree")
        fix = f"towline counts with the larger; compare with the console at {CONSOLE}"
        return Finding("prices", "; ".join(odd), fix)

    def _no_offers(self, offers: Sequence[Offer], perhaps: int) -> str | None:
        if not offers and self._image is not None:
            return (
                f"no instance type starts the image {self._image!r}; see providers.canopywave.image"
            )
        return None if perhaps else "nothing is in stock now; try again later"


def _note(kind: Kind) -> dict[str, str]:
    return {"price_note": kind.price_note} if kind.price_note else {}
