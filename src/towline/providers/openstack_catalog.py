"""What an OpenStack cloud has to rent: flavors with GPUs, prices that the user knows, images, quota.

A flavor says in its extra specs which devices it gets, in words that each cloud chooses; where a
cloud hides them, or is from before 2018, only its name speaks. The setting `gpus` has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from towline import errors
from towline.core import gpu
from towline.core.instance import Offer
from towline.core.offers import Listed
from towline.providers.account import Account
from towline.providers.listing import ODD, NoOffer, offers_of
from towline.providers.openstack_api import OpenStackApi
from towline.providers.openstack_reading import VersionRefused
from towline.providers.parts import need, number
from towline.providers.settings import prices_of

_WITH_SPECS = "2.61"  # from this version on the list of flavors tells their extra specs
_EVERY = "*"
_NO_GPU = re.compile(r"nic|eth|nvme|ssd|qat", re.IGNORECASE)  # other devices have model numbers too
_MIB_PER_GB = 1024
#: limit, what is used of it, and the flavor's field that counts; -1 is no limit
_LIMITS = (
    ("maxTotalInstances", "totalInstancesUsed", None),
    ("maxTotalCores", "totalCoresUsed", "vcpus"),
    ("maxTotalRAMSize", "totalRAMUsed", "ram"),
)

Row = Mapping[str, Any]


class Catalog:
    """What one project can rent."""

    def __init__(self, api: OpenStackApi, account: Account) -> None:
        """Read the settings; nothing is asked yet.

        Raises:
            SpecError: A price is no price, or a GPU no GPU.
        """
        self._api = api
        self._account = account
        where = f"providers.{account.name}"
        self._prices = prices_of(account.settings.get("prices"), f"{where}.prices", free=True)
        self._gpus = _gpus_of(account.settings.get("gpus"), f"{where}.gpus")

    @property
    def has_free(self) -> bool:
        """Whether the user has said of a flavor that it costs nothing."""
        return 0 in self._prices.values()

    async def flavors(self) -> list[Row]:
        """Flavors with GPUs."""
        path = "/flavors/detail"
        try:
            found = await self._api.rows("compute", path, "flavors", version=_WITH_SPECS)
        except VersionRefused:
            found = await self._api.rows("compute", path, "flavors")
        return [
            one for one in found if not one.get("OS-FLV-DISABLED:disabled") and self._has_gpu(one)
        ]

    def unpriced(self, flavors: list[Row]) -> list[str]:
        """Names of those that have no price."""
        return [str(need(one, "name")) for one in flavors if self._price(one) is None]

    def offers(self, flavors: list[Row], limits: Row) -> Listed:
        """The flavors as offers."""
        return offers_of(flavors, lambda flavor: self._offers_of(flavor, limits))

    def _offers_of(self, flavor: Row, limits: Row) -> Iterator[Offer]:
        found, price = self._gpu(flavor), self._price(flavor)
        if found is None:
            return
        model, count = found
        if model.part:
            raise NoOffer("a part of a GPU")
        if price is None:
            raise NoOffer("no price")
        yield Offer(
            provider=self._account.name,
            type=str(need(flavor, "name")),
            price_usd_per_h=price,
            gpu=model.model,
            gpus=count,
            vram_gb=model.memory_gb,
            region=self._api.region,
            available=None if room_for(flavor, limits) else False,
            payload={"flavor": str(need(flavor, "id")), "disk_gb": str(flavor.get("disk") or 0)},
        )

    async def limits(self) -> Row:
        """The project's quota, and what is used of it."""
        found: Row = need(await self._api.get("compute", "/limits"), "limits", "absolute")
        return found

    async def image(self) -> Row:
        """The setting's image, else the newest Ubuntu, of those with CUDA if there are any.

        Raises:
            NotFound: There is none.
        """
        listed = await self._api.rows("image", "/images?status=active&limit=200", "images")
        wanted = self._account.settings.get("image")
        if wanted is not None:
            fitting = [one for one in listed if str(wanted) in {one.get("id"), one.get("name")}]
        else:
            fitting = [one for one in listed if _is_ubuntu(one)]
            fitting = [one for one in fitting if _has_driver(one)] or fitting
        if not fitting:
            what = f"image {str(wanted)!r}" if wanted is not None else "Ubuntu image"
            hint = "set `providers: {openstack: {image: ...}}` to an id or a name"
            raise errors.NotFound(f"openstack: the project sees no active {what}", hint=hint)
        return max(fitting, key=lambda one: str(one.get("created_at", "")))

    def _price(self, flavor: Row) -> float | None:
        return self._prices.get(str(need(flavor, "name")), self._prices.get(_EVERY))

    def _has_gpu(self, flavor: Row) -> bool:
        """Whether it has one, as far as it can be read; `offers` counts those that can't."""
        try:
            return self._gpu(flavor) is not None
        except ODD:
            return True

    def _gpu(self, flavor: Row) -> tuple[gpu.Gpu, int] | None:
        name = str(need(flavor, "name"))
        return self._gpus[name] if name in self._gpus else gpu_of(flavor)


def gpu_of(flavor: Row) -> tuple[gpu.Gpu, int] | None:
    """The GPUs of a flavor; None without any, or where nothing names the model."""
    name = str(need(flavor, "name"))
    told = list(_devices(flavor.get("extra_specs") or {}))
    model = next(filter(None, (gpu.parse(word) for word, _count in told)), None)
    is_part = any(gpu.is_part(word) for word, _count in told)  # such as resources:VGPU
    if model is None:
        model = gpu.parse(name)
        memory_gb = round((number(flavor.get("ram")) or 0) / _MIB_PER_GB)
        if model is not None and model.memory_gb == memory_gb:
            model = gpu.Gpu(model.model)  # the name speaks of the machine's own memory
    count = next((count for _word, count in told if count), None)
    if model is None:
        return None
    return replace(model, part=model.part or is_part), count or gpu.parse_count(name)


def room_for(flavor: Row, limits: Row) -> bool:
    """Whether the quota leaves room for one of a flavor, as far as it is known."""
    for most, used, field in _LIMITS:
        limit, taken = number(limits.get(most)), number(limits.get(used))
        wanted = number(flavor.get(field)) if field else 1.0
        if limit is not None and limit >= 0 and (taken or 0) + (wanted or 0) > limit:
            return False
    return True


def quota_text(limits: Row) -> str:
    """What is left of the quota, in words."""
    left = []
    for most, used, field in _LIMITS[:2]:
        limit, taken = number(limits.get(most)), number(limits.get(used)) or 0
        shown = "no limit" if limit is None or limit < 0 else f"{limit - taken:.0f} of {limit:.0f}"
        left.append(f"{field or 'instances'}: {shown}")
    return ", ".join(left) + " left"


def _devices(specs: Row) -> Iterator[tuple[str, int]]:
    """Words for GPUs in the extra specs, and how many of each; 0 where that is not said."""
    for alias in str(specs.get("pci_passthrough:alias", "")).split(","):
        word, _colon, count = alias.strip().partition(":")
        if _means_gpu(word):
            yield word, int(number(count) or 1)
    for key, value in specs.items():
        kind, _colon, what = str(key).partition(":")
        if kind.startswith("resources") and _means_gpu(what):
            yield what, int(number(value) or 0)
        elif kind.startswith("trait") and what.startswith("CUSTOM_") and _means_gpu(what):
            yield what, 0


def _means_gpu(word: str) -> bool:
    named = "gpu" in word.lower() or gpu.parse(word) is not None
    return named and _NO_GPU.search(word) is None


def _is_ubuntu(image: Row) -> bool:
    if image.get("image_type") == "snapshot" or image.get("architecture") == "aarch64":
        return False
    return "ubuntu" in f"{image.get('os_distro')} {image.get('name')}".lower()


def _has_driver(image: Row) -> bool:
    return re.search(r"cuda|gpu|nvidia", str(image.get("name")), re.IGNORECASE) is not None


def _gpus_of(value: Any, where: str) -> dict[str, tuple[gpu.Gpu, int]]:
    """The setting `gpus`.

    Raises:
        SpecError: It is no mapping, or names no GPU.
    """
    hint = "such as `gpus: {g1.large: H100:1}`"
    if value is not None and not isinstance(value, Mapping):
        raise errors.SpecError(f"{where} must give GPUs by flavor", hint=hint)
    try:
        return {str(name): gpu.parse_need(str(text)) for name, text in (value or {}).items()}
    except ValueError as error:
        raise errors.SpecError(f"{where}: {error}", hint=hint) from error
