"""Vast.ai: containers on machines of many owners, https://console.vast.ai, after its OpenAPI
document (vast-ai/docs, 2026) and that repository's pages on creating, limits and errors.

Whoever owns the machine can read what is on it: nothing secret belongs there.

The label carries the tag. The run's key goes in by `onstart`, which appends it to root's
authorized keys at each start of the container: so create stays one call that leaves nothing
behind, whose lost answer loses no key. A key of the account would be pushed to every instance
that runs there, and one attached by a second call would be missing when that call fails.

Vast wants a least time between two calls of one kind, which `Pace` keeps within this process.
A container ends itself with the key that Vast puts into it, which can do nothing else. One that
was outbid or stopped keeps its disk, which bills until it is destroyed.

Not verified on a live account: that the line which `onstart` added outlives keys that Vast adds
later; that the lowest bid wins; that a search's price is the instance's; the words of a refusal
for want of credit; how soon a new instance shows in the list; that it reads as null once gone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from towline import errors
from towline.core import gpu
from towline.core.instance import (
    Features,
    Instance,
    InstanceId,
    InstanceStatus,
    Offer,
    Order,
    parse_tag,
)
from towline.core.task import Resources
from towline.ports import Finding
from towline.providers.account import Account, Driver, status_of
from towline.providers.ends import end
from towline.providers.http import Rule, api_of
from towline.providers.listing import chip, offers_of, price, size, whole, word
from towline.providers.pace import Pace
from towline.providers.pages import require_end
from towline.providers.parts import ident, label, need, number, numeral, port, rate, rows, text
from towline.providers.vast_scripts import end_self_argv, onstart

_BASE_URL = "https://console.vast.ai"
_IMAGE = "vastai/base-image:@vastai-automatic-tag"  # the document's own default
_DISK_GB = 20.0
_RELIABILITY = 0.95
_LASTS_S = 86400  # the owner's offer stands for this long at least
_ROWS = 500  # of a search; the account has so many a day
_PAGE = 25
#: least time between two calls of one kind (x-rateLimit of the document)
_INTERVALS_S = {"search": 2.0, "create": 4.5, "get": 2.0, "list": 1.0, "destroy": 3.0}
_STATUSES = {
    "running": InstanceStatus.ACTIVE,
    "exited": InstanceStatus.DEAD,  # its disk bills
    "stopped": InstanceStatus.DEAD,
    "frozen": InstanceStatus.DEAD,  # paused, and bills as if it ran
    # it may come back by itself; of a host that is not heard of nothing may be concluded
    "loading": InstanceStatus.BUILDING,
    "rebooting": InstanceStatus.BUILDING,
    "unknown": InstanceStatus.BUILDING,
    "offline": InstanceStatus.BUILDING,
}
_RULES = (
    Rule(r"auth_error|invalid user key", errors.ProviderAuthError),  # comes as 404, too
    Rule(r"no_such_instance", errors.NotFound),
    Rule(r"no_such_ask|invalid_price", errors.NoCapacity),
    Rule(r"search_quota_exceeded", errors.ProviderError, "its searches of the day are used up"),
    Rule(r"^40[03] .*(credit|billing|payment)", errors.PaymentNeeded),
    Rule(r"^4(04|10) ", errors.ProviderError, "its API has changed; is there a newer towline?"),
)
#: what Vast calls a model; of one that is not here all offers are read
_NAMES = {
    "A100": ("A100 PCIE", "A100 SXM4"),
    "A6000": ("RTX A6000",),
    "H100": ("H100 PCIE", "H100 SXM", "H100 NVL"),
    "H200": ("H200", "H200 NVL"),
    "L40S": ("L40S",),
    "RTX3090": ("RTX 3090",),
    "RTX4090": ("RTX 4090",),
    "RTX5090": ("RTX 5090",),
}


class Vast(Driver):
    """One Vast.ai account."""

    name = "vast"
    SSH_USER = "root"
    SETTINGS = ("disk_gb", "reliability", "pace")
    FEATURES = Features(
        host_key_grade="B",
        containers=True,
        tags=True,
        powered_off_bills=True,  # the disk
        spot=True,
        console_url="https://cloud.vast.ai/instances/",
        leftovers=(),
        boot_s=180.0,  # "1-5 minutes depending on the Docker image size"
    )

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        key, base_url = account.key(), account.text("base_url", _BASE_URL).rstrip("/")
        self._api = api_of(account, _BASE_URL, lambda: {"Authorization": f"Bearer {key}"}, _RULES)
        slower = account.number("pace", 1.0)  # 0 for an account without these limits
        self._pace = Pace(account.clock, {kind: s * slower for kind, s in _INTERVALS_S.items()})
        self.features = dataclasses.replace(self.features, end_self_argv=end_self_argv(base_url))

    async def _all_offers(self) -> list[Offer]:
        return await self._offers_for(Resources(), None)

    async def _offers_for(self, wish: Resources, wanted: tuple[gpu.Gpu, int] | None) -> list[Offer]:
        """Search, for the market is too large to list."""
        disk_gb = wish.disk_gb or self.account.number("disk_gb", _DISK_GB)
        region = self.account.text("region", "") if wish.region == "any" else wish.region
        query: dict[str, Any] = {
            "type": "bid" if wish.spot else "ondemand",
            "verified": {"eq": True},
            "rentable": {"eq": True},
            "direct_port_count": {"gte": 1},
            "reliability": {"gte": self.account.number("reliability", _RELIABILITY)},
            "duration": {"gte": _LASTS_S},
            "disk_space": {"gte": disk_gb},
            "allocated_storage": disk_gb,  # its price is in dph_total then
            "order": [["dph_total", "asc"]],
            "limit": _ROWS,
        }
        if region:
            query["geolocation"] = {"in": [region.upper()]}
        if wanted is not None:
            query["num_gpus"] = {"eq": wanted[1]}
        if wanted is not None and wanted[0].model in _NAMES:
            query["gpu_name"] = {"in": list(_NAMES[wanted[0].model])}
        await self._pace.turn("search")
        answer = await self._api.get("/api/v0/bundles/", {"q": json.dumps(query)})
        return offers_of(need(answer, "offers"), lambda one: self._offers_of(one, spot=wish.spot))

    def _offers_of(self, found: Mapping[str, Any], *, spot: bool) -> Iterator[Offer]:
        if spot and size(found.get("min_bid")) is None:
            return
        model, memory_mib = chip(word(need(found, "gpu_name"))), size(found.get("gpu_ram"))
        speeds = [size(found.get(way)) for way in ("inet_up", "inet_down")]
        tolls = [size(found.get(way)) or 0.0 for way in ("inet_up_cost", "inet_down_cost")]
        yield Offer(
            provider=self.name,
            type=_type(found),
            price_usd_per_h=price(found.get("dph_total")),
            gpu=model.model if model else None,
            gpus=whole(need(found, "num_gpus")),
            vram_gb=memory_mib / 1024 if memory_mib else None,
            region=_country(found),
            available=True,  # the search names what is rentable
            spot=spot,
            net_mbit=min((speed for speed in speeds if speed), default=None),
            traffic_usd_per_gb=max(tolls),
            storage_usd_per_h=0.0,  # in the price
            payload={"ask": str(whole(need(found, "id"))), "bid": str(found.get("min_bid") or "")},
        )

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Accept an owner's offer; see the port."""
        self.require_ours(order)
        body: dict[str, Any] = {
            "image": self.account.text("image", _IMAGE),
            "label": order.tag,
            "disk": order.disk_gb or self.account.number("disk_gb", _DISK_GB),
            "runtype": "ssh_direct",
            "onstart": onstart(order.public_key),
            "cancel_unavail": True,  # rather none than one that waits for its turn
        }
        if offer.spot:
            body["price"] = float(offer.payload["bid"])
        await self._pace.turn("create")
        path = f"/api/v0/asks/{offer.payload['ask']}/"
        # also beside `success: false` an instance is named: one that did not start
        answer = await self._api.send("PUT", path, body, as_it_is=True)
        return self.made(ident(answer, "new_contract"), offer, order)

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""
        number = numeral(instance_id)
        if number is None:
            return None
        await self._pace.turn("get")
        answer = await self._api.find(f"/api/v0/instances/{number}/")
        found = None if answer is None else need(answer, "instances")
        return None if found is None else self._read(found)

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag, page by page; see the port."""
        found: list[dict[str, Any]] = []
        tokens: list[str] = []
        while True:
            params = {"limit": _PAGE, **({"after_token": tokens[-1]} if tokens else {})}
            await self._pace.turn("list")
            answer = await self._api.get("/api/v1/instances/", params)
            found += rows(need(answer, "instances"))
            token = need(answer, "next_token")
            if not token:
                require_end(answer, len(found))
                return [self._read(one) for one in found if parse_tag(label(one, "label"))]
            if token in tokens:
                raise errors.ProviderReplyError(f"{self.name}'s list of instances has no end")
            tokens.append(token)

    async def terminate(self, instance_id: InstanceId) -> None:
        """Destroy an instance and its disk; see the port."""
        number = numeral(instance_id)
        if number is not None:
            await self._pace.turn("destroy")
            await end(self.get, instance_id, self._api.remove(f"/api/v0/instances/{number}/"))

    async def account_id(self) -> str | None:
        """The user's number; see the port."""
        return str(need(await self._api.get("/api/v0/users/current/"), "id"))

    async def check(self) -> list[Finding]:
        """Ask for offers, and for the account's credit; see the port."""
        warning = "owners of its machines can read what is on them; send no secrets"
        return [*await super().check(), await self._credit(), Finding("privacy", warning)]

    async def _credit(self) -> Finding:
        try:
            user = await self._api.get("/api/v0/users/current/")
        except errors.ProviderAuthError:  # of a key for instances only
            return Finding("credit", "this key may not read the account's credit")
        usd = (need(user, "credit") or 0.0) + (user.get("balance") or 0.0)
        fix = None if usd > 0 or user.get("can_pay") else "add credit in Vast's console"
        return Finding("credit", f"${usd:.2f}", fix)

    def _read(self, found: Mapping[str, Any]) -> Instance:
        """One instance in our words."""
        status, host, at = _status(found), text(found, "ssh_host"), port(found, "ssh_port")
        word, why = text(found, "actual_status"), text(found, "status_msg")
        live = status is InstanceStatus.ACTIVE and host and at
        return Instance(
            id=InstanceId(ident(found, "id")),
            provider=self.name,
            tag=label(found, "label"),
            status=status,
            address=self.address(host, at) if live else None,
            started_at=number(found.get("start_date")),
            price_usd_per_h=rate(found, "dph_total"),
            type=_type(found),
            detail=""
            if status is not InstanceStatus.DEAD
            else f"{self.name} says {word or 'stopped'}: {why or 'no reason'}",
        )


def _status(found: Mapping[str, Any]) -> InstanceStatus:
    """Stopped in all three words is outbid, or stopped by hand: it does not come back by itself."""
    states = {text(found, name) for name in ("cur_state", "next_state", "intended_status")}
    unmade = "OCI runtime create failed" in text(found, "status_msg")
    word = text(found, "actual_status")  # null while it is made
    if states == {"stopped"} or (unmade and word == "created"):
        return InstanceStatus.DEAD
    return status_of(word, _STATUSES)


def _type(found: Mapping[str, Any]) -> str:
    return f"{need(found, 'num_gpus')}x {need(found, 'gpu_name')}"


def _country(found: Mapping[str, Any]) -> str | None:
    """US of "California, US"."""
    return str(found.get("geolocation") or "").rpartition(",")[2].strip() or None
