"""DigitalOcean's GPU Droplets: https://api.digitalocean.com, after digitalocean/openapi (2026-08).

A droplet carries the tag as its name and as a tag of the account, which outlives it and so comes
back in `leftovers`. User-data installs the host key. A list holds either droplets with GPUs or
those without, so both are read. Nothing but `terminate` ends billing: a droplet that is switched
off bills on, and one can't end itself. "202 Accepted" promises nothing: while a droplet is new,
the action that creates it is looked at, too.

Not verified on a live account: the words in which a refusal of 422 says that there is no capacity
(from issues of its clients; all others are taken for other refusals), that sizes ending in
"-spot" may be taken away (so they are offered as such only), what a failed creation leaves, and
how soon a new droplet shows in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from towline.core.offers import Listed
from towline.ports import Finding, Memo
from towline.providers.account import Account, Driver, status_of
from towline.providers.cloud_init import user_data
from towline.providers.ends import end
from towline.providers.http import Rule, api_of
from towline.providers.listing import chip, entries, offers_of, price, size, whole, word
from towline.providers.pages import all_of, require_end
from towline.providers.parts import ident, need, numeral, rate, rows, segment, text, told, words
from towline.providers.times import utc_seconds

_BASE_URL = "https://api.digitalocean.com"
_TAG = "towline"  # of all its droplets, for people who look at the console
_PAGE = 200
_CPU_IMAGE = "ubuntu-24-04-x64"
_STATUSES = {
    "new": InstanceStatus.BUILDING,
    "active": InstanceStatus.ACTIVE,
    "off": InstanceStatus.DEAD,  # and bills on
    "archive": InstanceStatus.DEAD,
}
_RULES = (
    Rule(r"droplet limit|will exceed", errors.QuotaExceeded),
    Rule(r"^4(03|22) .*(payment|billing|verify|locked)", errors.PaymentNeeded),
    Rule(r"pending event", errors.ProviderUnavailable),  # of a droplet that is still made
    Rule(r"^422 .*(not available|unavailable|capacity|out of stock)", errors.NoCapacity),
    Rule(r"^404 not_found", errors.NotFound),
    Rule(r"^4(04|10) ", errors.ProviderError, "is providers.digitalocean.base_url right?"),
)


class DigitalOcean(Driver):
    """One DigitalOcean team."""

    name = "digitalocean"
    SSH_USER = "root"
    SETTINGS = ("vpc_uuid",)
    FEATURES = Features(
        host_key_grade="A",
        user_data=True,
        tags=True,
        containers=False,
        powered_off_bills=True,
        console_url="https://cloud.digitalocean.com/gpus",
        leftovers=("key", "tag"),
        boot_s=180.0,
    )

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        key = account.key()
        self._api = api_of(account, _BASE_URL, lambda: {"Authorization": f"Bearer {key}"}, _RULES)

    async def _all_offers(self) -> list[Offer]:
        only = self.account.text("region", "").lower()
        sizes = await self._pages("/v2/sizes", "sizes", entries)
        listed = offers_of(sizes, self._offers_of)
        fitting = (one for one in listed if not only or one.region == only)
        return Listed(fitting, listed.left_out)

    def _offers_of(self, kind: Mapping[str, Any]) -> list[Offer]:
        slug, gpus = word(need(kind, "slug")), kind.get("gpu_info") or {}
        model, count = chip(gpus.get("model")), whole(gpus.get("count", 0))
        memory_gb = size((gpus.get("vram") or {}).get("amount"))  # of all of them together
        in_stock = need(kind, "available") is True
        return [
            Offer(
                provider=self.name,
                type=slug,
                price_usd_per_h=price(kind.get("price_hourly")),
                gpu=model.model if model else None,
                gpus=count,
                vram_gb=memory_gb / count if memory_gb and count else None,
                region=None if region is None else word(region),
                available=region is not None and in_stock,
                spot=slug.endswith("-spot"),
                payload={"image": _image(str(gpus.get("model", "")), count)},
            )
            for region in need(kind, "regions") or [None]
        ]

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Add the run's key, then create; see the port."""
        self.require_ours(order)
        body = {
            "name": order.tag,
            "region": offer.region,
            "size": offer.type,
            "image": self.account.text("image", offer.payload["image"]),
            "ssh_keys": [await self._key(order)],
            "user_data": user_data(order),
            "tags": [_TAG, order.tag],
        }
        if vpc_uuid := self.account.text("vpc_uuid", ""):
            body["vpc_uuid"] = vpc_uuid
        answer = await self._api.send("POST", "/v2/droplets", body)
        return self.made(ident(answer, "droplet", "id"), offer, order)

    async def _key(self, order: Order) -> int:
        """The id of the run's key. Look first: one that is there is refused, whatever its name."""
        ours = order.public_key.split()[:2]  # without the comment
        for key in await self._pages("/v2/account/keys", "ssh_keys"):
            if text(key, "public_key").split()[:2] == ours:
                return int(need(key, "id", kind=int))
        body = {"name": order.tag, "public_key": order.public_key}
        made = await self._api.send("POST", "/v2/account/keys", body)
        return int(need(made, "ssh_key", "id", kind=int))

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""
        number = numeral(instance_id)
        if number is None:
            return None
        answer = await self._api.find(f"/v2/droplets/{number}")
        if answer is None:
            return None
        found = need(answer, "droplet", kind=dict)
        failed = need(found, "status") == "new" and await self._failed(number)
        return self._read(found, failed=failed)

    async def _failed(self, number: str) -> bool:
        """Whether the droplet's creation has failed."""
        answer = await self._api.find(f"/v2/droplets/{number}/actions")
        return answer is not None and any(
            action.get("type") == "create" and action.get("status") == "errored"
            for action in all_of(answer, "actions")
        )

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag, with GPUs and without; see the port."""
        found = [
            *await self._pages("/v2/droplets", "droplets", type="gpus"),
            *await self._pages("/v2/droplets", "droplets", type="droplets"),
        ]
        return [self._read(one) for one in found if parse_tag(_tag(one)) is not None]

    async def terminate(self, instance_id: InstanceId) -> None:
        """Destroy an instance; see the port."""
        number = numeral(instance_id)
        if number is not None:
            await end(self.get, instance_id, self._api.remove(f"/v2/droplets/{number}"))

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:  # noqa: ARG002
        """List our keys, and the account's tags that are ours; see the port."""
        keys = await self._pages("/v2/account/keys", "ssh_keys")
        tags = await self._pages("/v2/tags", "tags")
        found = [("key", ident(key, "id"), need(key, "name", kind=str)) for key in keys]
        found += [("tag", *[need(tag, "name", kind=str)] * 2) for tag in tags]
        return [
            Leftover(provider=self.name, kind=kind, id=name, tag=tag)
            for kind, name, tag in found
            if parse_tag(tag) is not None
        ]

    async def remove(self, leftover: Leftover) -> None:
        """Remove a key or a tag; see the port."""
        folder = {"key": "/v2/account/keys", "tag": "/v2/tags"}[leftover.kind]
        name = segment(leftover.id)
        if name is not None:
            await self._api.remove(f"{folder}/{name}")

    async def check(self) -> list[Finding]:
        """Ask for offers, and whether the account may create; see the port."""
        return [*await super().check(), await self._standing()]

    async def account_id(self) -> str | None:
        """The team's id; see the port."""
        account = need(await self._api.get("/v2/account"), "account")
        team = (account.get("team") or {}).get("uuid")
        return None if team is None else str(team)

    async def _standing(self) -> Finding:
        try:
            account = need(await self._api.get("/v2/account"), "account")
        except errors.ProviderAuthError:  # of a token with few scopes
            return Finding("account", "this token may not read the account's status")
        status, limit = need(account, "status"), account.get("droplet_limit")
        message = f"{status}, at most {limit} droplets"
        if status == "active":
            return Finding("account", message)
        said = account.get("status_message") or "see DigitalOcean's console"
        return Finding("account", message, str(said))

    async def _pages(
        self, path: str, key: str, read: Callable[[Any], list[Any]] = rows, **params: str
    ) -> list[dict[str, Any]]:
        """All rows of a list, to its last page."""
        found: list[dict[str, Any]] = []
        page = 0
        while True:
            page += 1
            answer = await self._api.get(path, {**params, "page": page, "per_page": _PAGE})
            part = read(need(answer, key))
            found += part
            if not text(answer, "links", "pages", "next"):
                require_end(answer, len(found))
                return found
            if not part:
                raise errors.ProviderReplyError(f"{self.name}'s list {path} has no end")

    def _read(self, found: Mapping[str, Any], *, failed: bool = False) -> Instance:
        """One instance in our words."""
        word = "a failed creation" if failed else need(found, "status", kind=str)
        status = InstanceStatus.DEAD if failed else status_of(word, _STATUSES)
        networks = rows(told(found, "networks", "v4", kind=list) or [])
        public = [text(one, "ip_address") for one in networks if one.get("type") == "public"]
        host = next(filter(None, public), None)
        return Instance(
            id=InstanceId(ident(found, "id")),
            provider=self.name,
            tag=_tag(found),
            status=status,
            address=self.address(host) if host else None,
            started_at=utc_seconds(found.get("created_at")),
            price_usd_per_h=rate(found, "size", "price_hourly"),
            type=text(found, "size_slug"),
            detail="" if status is not InstanceStatus.DEAD else f"{self.name} says {word}",
        )


def _tag(found: Mapping[str, Any]) -> str:
    """The tag among its tags, else its name."""
    marks = [mark for mark in words(found, "tags") if parse_tag(mark) is not None]
    return next(iter(marks), "") or need(found, "name", kind=str)


def _image(model: str, count: int) -> str:
    """The image with drivers for such GPUs; those of one H100 are the ones of every other one."""
    if not count:
        return _CPU_IMAGE
    if model.startswith("amd"):
        return "gpu-amd-base"
    return "gpu-h100x8-base" if count > 1 else "gpu-h100x1-base"
