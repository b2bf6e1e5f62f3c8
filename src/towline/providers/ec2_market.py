"""What EC2 offers: instance types, what they cost, and the zones that have them.

EC2 tells types and prices in two APIs, and stock in none. A type whose price is not known is not
offered, for a price of 0 would read as free: prices come from the setting `prices`, which then
names the only types that are offered, else from the Pricing API; those of spot machines from the
latest entry of the spot price history, zone by zone.

Not verified live: that `instanceFamily = GPU instance` names every g and p type in the Pricing
API, and how long a type may be in the history without being for rent.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from towline import errors
from towline.core.instance import Offer
from towline.core.offers import Listed
from towline.providers.account import Account
from towline.providers.ec2_api import Aws, filtered
from towline.providers.listing import NoOffer, chip, offers_of, read_each, whole
from towline.providers.parts import need, number
from towline.providers.settings import prices_of

_GPU_TYPES = ("g*", "p*")  # EC2 has no filter for GPUs; every type with NVIDIA's begins so
_MIB_PER_GB = 1024
#: USD of what comes with each instance, its gp3 volume and its public IPv4 address; of the volume
#: that is what the dearest region takes, so that a limit in money holds in every one
_DISK_USD_PER_GB_H = 0.152 / 730
_ADDRESS_USD_PER_H = 0.005
_NAMES_AT_ONCE = 200  # values that one filter takes
_PRICED = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "instanceFamily": "GPU instance",
}


@dataclass(frozen=True, slots=True)
class Network:
    """Where instances are put: one virtual network, and its subnet in each zone."""

    vpc: str
    subnets: Mapping[str, str]  # zone -> subnet


@dataclass(frozen=True, slots=True)
class Shape:
    """One instance type."""

    name: str
    gpu: str | None
    gpus: int
    vram_gb: float | None
    usages: Sequence[str]  # "on-demand", "spot"


class Market:
    """The offers of one account in one region."""

    def __init__(self, aws: Aws, account: Account) -> None:
        """Read the settings; nothing is asked yet.

        Raises:
            SpecError: `prices` is no mapping of types to prices.
        """
        self._aws = aws
        self._subnet = account.settings.get("subnet")
        self.prices = prices_of(account.settings.get("prices"), "providers.ec2.prices")

    async def offers(self, disk_gb: float) -> Listed:
        """Every offer: one per type, and for spot one per type and zone.

        Args:
            disk_gb: Of the volume that comes with it.

        Raises:
            ProviderAuthError: The keys may not ask for prices, and `prices` is not set.
            ProviderError: As `Aws.call`.
        """
        (shapes, left_out), network = await asyncio.gather(self._shapes(), self.network())
        names = [shape.name for shape in shapes]
        (prices, unread), spot, zones = await asyncio.gather(
            self._on_demand(), self._spot(names), self._zones(names)
        )
        beside = disk_gb * _DISK_USD_PER_GB_H + _ADDRESS_USD_PER_H
        listed = offers_of(
            shapes,
            lambda shape: _offers_of(
                shape,
                prices.get(shape.name),
                spot.get(shape.name, {}),
                _Places(self._aws.region, network, zones.get(shape.name, set())),
            ),
        )
        whole_price = (replace(offer, storage_usd_per_h=beside) for offer in listed)
        return Listed(whole_price, listed.left_out + left_out + unread)

    async def network(self) -> Network:
        """The default network's subnets, or the one that is set.

        Raises:
            ProviderError: There is none; as `Aws.call`.
        """
        which: dict[str, Any] = {"Filters": [filtered("default-for-az", "true")]}
        if self._subnet:
            which = {"SubnetIds": [self._subnet]}
        found = await self._aws.pages("describe_subnets", "Subnets", **which)
        if not found:
            message = f"ec2: region {self._aws.region} has no default network"
            hint = "set `providers: {ec2: {subnet: subnet-...}}`, or make a default VPC"
            raise errors.ProviderError(message, hint=hint)
        found.sort(key=lambda one: str(need(one, "AvailabilityZone")))
        subnets = {one["AvailabilityZone"]: need(one, "SubnetId") for one in found}
        return Network(need(found[0], "VpcId"), subnets)

    async def _shapes(self) -> tuple[list[Shape], Counter[str]]:
        wanted = [
            filtered("instance-type", *(self.prices or _GPU_TYPES)),
            filtered("processor-info.supported-architecture", "x86_64"),  # as the usual image
        ]
        listed = await self._aws.pages("describe_instance_types", "InstanceTypes", Filters=wanted)
        return read_each(listed, lambda row: [_shape(row)])

    async def _on_demand(self) -> tuple[Mapping[str, float], Counter[str]]:
        if self.prices:
            return self.prices, Counter()
        fields = {**_PRICED, "regionCode": self._aws.region}
        match = [
            {"Type": "TERM_MATCH", "Field": key, "Value": value} for key, value in fields.items()
        ]
        try:
            rows = await self._aws.pages(
                "get_products", "PriceList", service="pricing", ServiceCode="AmazonEC2",
                Filters=match,
            )  # fmt: skip
        except errors.ProviderAuthError as refused:
            hint = (
                "allow pricing:GetProducts, or name what you rent:"
                " `providers: {ec2: {prices: {p5.4xlarge: 6.88}}}`"
            )
            raise errors.ProviderAuthError(refused.message, hint=hint) from refused
        found, unread = read_each(rows, _price)
        return dict(found), unread

    async def _spot(self, names: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """By type and zone, the price of this moment."""
        latest: dict[str, dict[str, float]] = {}
        for some in _batches(names):
            rows = await self._aws.pages(
                "describe_spot_price_history", "SpotPriceHistory", InstanceTypes=some,
                ProductDescriptions=["Linux/UNIX"], StartTime=self._aws.now(),
            )  # fmt: skip
            for row in sorted(rows, key=lambda one: need(one, "Timestamp")):
                zones = latest.setdefault(need(row, "InstanceType"), {})
                zones[need(row, "AvailabilityZone")] = number(need(row, "SpotPrice")) or 0.0
        return latest

    async def _zones(self, names: Sequence[str]) -> Mapping[str, set[str]]:
        zones: dict[str, set[str]] = {}
        for some in _batches(names):
            rows = await self._aws.pages(
                "describe_instance_type_offerings", "InstanceTypeOfferings",
                LocationType="availability-zone", Filters=[filtered("instance-type", *some)],
            )  # fmt: skip
            for row in rows:
                zones.setdefault(need(row, "InstanceType"), set()).add(need(row, "Location"))
        return zones


@dataclass(frozen=True, slots=True)
class _Places:
    """Where one type can be had."""

    region: str
    network: Network
    zones: set[str]

    def subnets(self) -> list[str]:
        return [subnet for zone, subnet in self.network.subnets.items() if zone in self.zones]


def _offers_of(
    shape: Shape, price: float | None, spot: Mapping[str, float], places: _Places
) -> Iterator[Offer]:
    subnets = places.subnets()
    if price and subnets and "on-demand" in shape.usages:
        yield _offer(shape, price, places, subnets)
    for zone, spot_price in sorted(spot.items()):
        if zone in places.network.subnets and spot_price > 0 and "spot" in shape.usages:
            yield _offer(shape, spot_price, places, [places.network.subnets[zone]], spot=True)


def _offer(
    shape: Shape, price: float, places: _Places, subnets: Sequence[str], *, spot: bool = False
) -> Offer:
    return Offer(
        provider="ec2",
        type=shape.name,
        price_usd_per_h=price,
        gpu=shape.gpu,
        gpus=shape.gpus,
        vram_gb=shape.vram_gb,
        region=places.region,
        available=None,  # only RunInstances tells
        spot=spot,
        payload={"vpc": places.network.vpc, "subnets": " ".join(subnets)},
    )


def _shape(listed: Mapping[str, Any]) -> Shape:
    """One type.

    Raises:
        NoOffer: It is a part of a GPU, which would pass for a whole one.
    """
    name, usages = need(listed, "InstanceType"), listed.get("SupportedUsageClasses", [])
    first = next(iter(listed.get("GpuInfo", {}).get("Gpus", [])), None)
    if first is None:
        return Shape(name, None, 0, None, usages)
    if first.get("GpuPartitionSize", 1.0) < 1 or not first.get("Count"):
        raise NoOffer("a part of a GPU")
    words = str(first.get("Name", ""))
    model, memory = chip(words), first.get("MemoryInfo", {}).get("SizeInMiB")
    return Shape(
        name,
        model.model if model else words,
        whole(first["Count"]),
        memory / _MIB_PER_GB if memory else None,
        usages,
    )


def _price(row: str) -> Iterator[tuple[str, float]]:
    """Type and price in one entry of the Pricing API's list, which is JSON in a string."""
    try:
        entry = json.loads(row)
    except ValueError as error:
        raise errors.ProviderReplyError("ec2: a price is no JSON") from error
    name = need(entry, "product", "attributes", "instanceType")
    for term in need(entry, "terms").get("OnDemand", {}).values():
        for dimension in need(term, "priceDimensions").values():
            usd = float(need(dimension, "pricePerUnit").get("USD", 0))
            if usd > 0 and dimension.get("unit") == "Hrs":
                yield name, usd


def _batches(names: Sequence[str]) -> Iterable[list[str]]:
    return (
        list(names[start : start + _NAMES_AT_ONCE])
        for start in range(0, len(names), _NAMES_AT_ONCE)
    )
