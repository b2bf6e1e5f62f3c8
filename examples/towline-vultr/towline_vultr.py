"""Vultr Cloud GPU as a provider of towline: plans of whole GPUs, on demand, without bare metal.

Written after Vultr's API v2 as its Go client (govultr v3), its public plans and users' reports show
it. Nobody has verified it on a live account. Unverified above all: the words for a plan out of
stock and for a missing payment, that `gpu_vram_gb` is the sum over a plan's GPUs, that the images
have NVIDIA's driver, how late a new instance is listed, and what a suspended one costs.
"""

import base64
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from towline import errors
from towline.core import gpu
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
from towline.providers.account import Account, Driver, status_of
from towline.providers.cloud_init import user_data
from towline.providers.ends import end
from towline.providers.http import Rule, api_of
from towline.providers.pages import require_end
from towline.providers.parts import ident, label, need, number, numeral, rows, segment, text, words
from towline.providers.times import utc_seconds

IMAGE = "Ubuntu 22.04 LTS x64"
MONTH_H = 730
WHOLE_GB = {"A16": 16, "A40": 48, "L40S": 48, "A100": 80, "H100": 80, "B200": 192}
RAISE = "ask Vultr's support to raise the account's limit"
ADMIT = "admit this machine's address at Account > API > Access Control"

RULES = (
    Rule(r"^4\d\d .*invalid instance.?id", errors.NotFound),
    Rule(r"already pending destruction", errors.NotFound),
    Rule(r"currently locked", errors.ProviderUnavailable),
    Rule(r"^4\d\d .*(reached the maximum|limit increase)", errors.QuotaExceeded, RAISE),
    Rule(r"^40[13] .*unauthorized ip", errors.ProviderAuthError, ADMIT),
    Rule(r"^4\d\d .*(payment|credit|billing)", errors.PaymentNeeded),
    Rule(r"^4\d\d .*(not available|sold out|out of stock|capacity)", errors.NoCapacity),
)
STATUS = {"active": InstanceStatus.ACTIVE, "suspended": InstanceStatus.DEAD}
WORDS = ("status", "power_status", "server_status")


class Vultr(Driver):
    """Rents Vultr's Cloud GPU instances."""

    name = "vultr"
    SSH_USER = "root"
    FEATURES = Features(
        host_key_grade="A", user_data=True, tags=True, powered_off_bills=True, leftovers=("key",)
    )

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self.api = api_of(account, "https://api.vultr.com/v2", self._headers, RULES)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.account.key()}"}

    async def _all_offers(self) -> list[Offer]:
        await self.api.get("/ssh-keys", {"per_page": 1})  # plans are shown without a key too
        plans, wanted = await self._rows("/plans", type="vcg"), self.account.text("region", "")
        offers = [o for plan in plans for o in _offers(plan) if wanted in {"", o.region}]
        stock = {region: await self._stock(region) for region in {o.region for o in offers}}
        return [replace(o, available=o.type in stock[o.region]) for o in offers]

    async def _stock(self, region: str | None) -> list[Any]:
        answer = await self.api.get(f"/regions/{region}/availability", {"type": "vcg"})
        found: list[Any] = need(answer, "available_plans", kind=list)
        return found

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Ask once for an instance, with the order's key and host key."""
        self.require_ours(order)
        body = {
            "region": offer.region,
            "plan": offer.type,
            "os_id": await self._image(),
            "label": order.tag,
            "hostname": order.tag,
            "tags": [order.tag],
            "sshkey_id": [await self._key(order)],
            "user_data": base64.b64encode(user_data(order).encode()).decode(),
        }
        row = need(await self.api.send("POST", "/instances", body), "instance")
        return self.made(ident(row, "id"), offer, order, utc_seconds(row.get("date_created")))

    async def _image(self) -> int:
        image = self.account.text("image", IMAGE)
        if numeral(image):
            return int(image)
        for row in await self._rows("/os"):
            if row.get("name") == image:
                return int(need(row, "id"))
        raise errors.ProviderError(f"Vultr has no image '{image}'")

    async def _key(self, order: Order) -> str:
        for key in await self.leftovers({}):
            if key.tag == order.tag:
                return key.id
        body = {"name": order.tag, "ssh_key": order.public_key}
        return str(need(await self.api.send("POST", "/ssh-keys", body), "ssh_key", "id"))

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read an instance; None when Vultr knows none by this id."""
        part = segment(instance_id)
        answer = await self.api.find(f"/instances/{part}") if part else None
        return None if answer is None else self._instance(need(answer, "instance"))

    async def list_tagged(self) -> list[Instance]:
        """List what carries a tag, from every page."""
        found = await self._rows("/instances")
        return [self._instance(row) for row in found if parse_tag(label(row, "label"))]

    async def terminate(self, instance_id: InstanceId) -> None:
        """Destroy an instance, and its disk with it."""
        if part := segment(instance_id):
            await end(self.get, instance_id, self.api.remove(f"/instances/{part}"))

    async def leftovers(self, memos: object) -> list[Leftover]:
        """List the keys that carry a tag."""
        del memos  # every key is found by its name
        keys = [row for row in await self._rows("/ssh-keys") if parse_tag(label(row, "name"))]
        return [
            Leftover(
                provider=self.name,
                kind="key",
                id=ident(row, "id"),
                tag=row["name"],
                since=utc_seconds(row.get("date_created")),
            )
            for row in keys
        ]

    async def remove(self, leftover: Leftover) -> None:
        """Delete a key."""
        if part := segment(leftover.id):
            await self.api.remove(f"/ssh-keys/{part}")

    def _instance(self, row: dict[str, Any]) -> Instance:
        found = InstanceId(ident(row, "id"))
        said = [text(row, word).lower() for word in WORDS]
        status = status_of(said[0], STATUS)
        if status is InstanceStatus.ACTIVE and said[1] == "stopped":  # as it is while it installs
            status = InstanceStatus.DEAD if said[2] == "ok" else InstanceStatus.BUILDING
        host = text(row, "main_ip") or "0.0.0.0"
        return Instance(
            id=found,
            provider=self.name,
            tag=label(row, "label"),
            status=status,
            address=None if host == "0.0.0.0" else self.address(host),
            started_at=utc_seconds(row.get("date_created")),
            type=text(row, "plan"),
            detail=" ".join(said) if status is InstanceStatus.DEAD else "",
        )

    async def _rows(self, path: str, **params: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.api.get(path, {"per_page": 500, **params})
            found += rows(need(answer, path[1:].replace("-", "_")))
            after = need(answer, "meta", "links", "next")
            if not after:
                require_end(answer, len(found))
                return found
            if after == params.get("cursor"):
                raise errors.ProviderReplyError(f"Vultr gave one page of {path} twice")
            params["cursor"] = after


def _offers(plan: dict[str, Any]) -> Iterator[Offer]:
    """Give a plan's offers, one a region; none for a part of a GPU and for an unknown one."""
    model = gpu.parse(str(plan.get("gpu_type")))
    whole = WHOLE_GB.get(model.model) if model else None
    vram, price = number(plan.get("gpu_vram_gb")), number(plan.get("hourly_cost"))
    price = price or (number(plan.get("monthly_cost")) or 0) / MONTH_H
    if not (model and whole and vram and price) or vram % whole:
        return
    for region in words(plan, "locations"):
        if segment(region) and plan.get("deploy_ondemand") is not False:
            yield Offer(
                provider=Vultr.name,
                type=str(need(plan, "id")),
                price_usd_per_h=price,
                gpu=model.model,
                gpus=int(vram // whole),
                vram_gb=whole,
                region=region,
            )
