"""Lambda Cloud: https://cloud.lambda.ai/api/v1, after its OpenAPI document 1.10.0.

Instances carry the tag as their name and as a tag. User-data installs the host key. There is no
stop state and no way for an instance to end itself: only `terminate` ends billing. Not verified on
a live account: that a launch whose tags are refused never starts anything, and how soon a new
instance shows in the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towline import errors
from towline.core.instance import (
    Features,
    Instance,
    InstanceId,
    InstanceStatus,
    Leftover,
    Offer,
    Order,
    parse_tag,
)
from towline.ports import Memo
from towline.providers.account import Account, Driver, status_of
from towline.providers.cloud_init import user_data
from towline.providers.ends import end
from towline.providers.http import Rule, api_of
from towline.providers.listing import chip, offers_of, price, whole, word
from towline.providers.pages import all_of
from towline.providers.parts import ident, need, rate, rows, segment, text, told

_BASE_URL = "https://cloud.lambda.ai/api/v1"
_TAG_KEY = "towline"
_STATUSES = {
    "booting": InstanceStatus.BUILDING,
    "active": InstanceStatus.ACTIVE,
    "unhealthy": InstanceStatus.DEAD,
    "preempted": InstanceStatus.DEAD,
    "terminating": InstanceStatus.TERMINATING,
}
_RULES = (
    Rule(r"insufficient-capacity", errors.NoCapacity),
    Rule(r"quota-exceeded", errors.QuotaExceeded),
    Rule(r"account-inactive", errors.PaymentNeeded, "the account is not active; see its console"),
    Rule(r"^40\d global/object-does-not-exist", errors.NotFound),
    Rule(r"^4(04|10) ", errors.ProviderError, "is providers.lambda.base_url right?"),
    Rule(r"provider/", errors.ProviderUnavailable),
)


class LambdaCloud(Driver):
    """One Lambda account."""

    name = "lambda"
    FEATURES = Features(
        host_key_grade="A",
        user_data=True,
        tags=True,
        powered_off_bills=None,  # there is no such state
        console_url="https://cloud.lambda.ai/instances",
        leftovers=("key",),
        boot_s=240.0,
    )

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        key = account.key()
        self._api = api_of(account, _BASE_URL, lambda: {"Authorization": f"Bearer {key}"}, _RULES)

    async def _all_offers(self) -> list[Offer]:
        types = need(await self._api.get("/instance-types"), "data")
        return offers_of(
            list(types.values()) if isinstance(types, dict) else types, self._offers_of
        )

    def _offers_of(self, listed: Mapping[str, Any]) -> list[Offer]:
        kind = need(listed, "instance_type")
        name, count = word(need(kind, "name")), whole(need(kind, "specs").get("gpus", 0))
        model = chip(kind.get("gpu_description")) if count else None
        places = need(listed, "regions_with_capacity_available")
        regions: list[str | None] = [word(need(region, "name")) for region in places]
        return [
            Offer(
                provider=self.name,
                type=name,
                price_usd_per_h=price(kind.get("price_cents_per_hour")) / 100,
                gpu=model.model if model else None,
                gpus=count,
                vram_gb=model.memory_gb if model else None,
                region=region,
                available=region is not None,
            )
            for region in regions or [None]
        ]

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Add the run's key, then launch; see the port."""
        self.require_ours(order)
        await self._add_key(order)
        body = {
            "region_name": offer.region,
            "instance_type_name": offer.type,
            "ssh_key_names": [order.tag],
            "name": order.tag,
            "tags": [{"key": _TAG_KEY, "value": order.tag}],
            "user_data": user_data(order),
        }
        answer = await self._api.send("POST", "/instance-operations/launch", body)
        return self.made(ident(answer, "data", "instance_ids", 0), offer, order)

    async def _add_key(self, order: Order) -> None:
        """Look first: two keys of one name are refused, and a lost answer may have made one."""
        if any(text(key, "name") == order.tag for key in await self._keys()):
            return
        await self._api.send(
            "POST", "/ssh-keys", {"name": order.tag, "public_key": order.public_key}
        )

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""
        name = segment(instance_id)
        if name is None:
            return None
        answer = await self._api.find(f"/instances/{name}")
        return None if answer is None else self._read(need(answer, "data"))

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag; see the port."""
        listed = all_of(await self._api.get("/instances"), "data")
        tags = {
            ident(one, "id"): _tag(one) for one in listed
        }  # others may have neither name nor tag
        ours = [self._read(one) for one in listed if parse_tag(tags[str(one["id"])]) is not None]
        return [one for one in ours if one is not None]

    async def terminate(self, instance_id: InstanceId) -> None:
        """End an instance; see the port."""
        body = {"instance_ids": [instance_id]}
        asked = self._api.send("POST", "/instance-operations/terminate", body)
        await end(self.get, instance_id, asked)

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:  # noqa: ARG002
        """List our keys; see the port."""
        return [
            Leftover(provider=self.name, kind="key", id=ident(key, "id"), tag=key["name"])
            for key in await self._keys()
            if parse_tag(need(key, "name", kind=str)) is not None
        ]

    async def remove(self, leftover: Leftover) -> None:
        """Remove a key; see the port."""
        await self._api.remove(f"/ssh-keys/{leftover.id}")

    async def _keys(self) -> list[dict[str, Any]]:
        return all_of(await self._api.get("/ssh-keys"), "data")

    def _read(self, found: Mapping[str, Any]) -> Instance | None:
        """One instance in our words; None when it is gone."""
        word = need(found, "status", kind=str)
        if word == "terminated":
            return None
        host = text(found, "ip")
        return Instance(
            id=InstanceId(ident(found, "id")),
            provider=self.name,
            tag=_tag(found),
            status=status_of(word, _STATUSES),
            address=self.address(host) if host else None,
            price_usd_per_h=rate(found, "instance_type", "price_cents_per_hour") / 100,
            type=text(found, "instance_type", "name"),
            detail="" if word == "active" else f"{self.name} says {word}",
        )


def _tag(found: Mapping[str, Any]) -> str:
    """The tag among its tags, else its name."""
    listed = rows(told(found, "tags", kind=list) or [])
    marks = [text(one, "value") for one in listed if one.get("key") == _TAG_KEY]
    return next(iter(marks), "") or text(found, "name")
