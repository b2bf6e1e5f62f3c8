"""Shadeform, a broker of many clouds: https://api.shadeform.ai/v1.

Built from the vendor's OpenAPI document, as its own command line carries it
(shadeform/shadeform-cli@21cc2c4). Instances carry the tag as their name and as a tag, and are
deleted by Shadeform itself at the order's end of life. Billing ends when an instance is
`deleting`; it is gone for us when it is no longer listed. Only virtual machines are offered.

The startup script installs the host key, and runs only after the instance is active: until then
its SSH server shows another key. Not verified on a live account: as which user the script runs;
that `auto_delete` fires (its fields are the document's `date_threshold` and `spend_threshold`; a
third-party one says `delete_at` and `spend_limit_in_cents`); the words of errors, of which no
document tells; whether an account's only SSH key becomes its default, which can't be deleted.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
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
from towline.ports import Finding, Memo
from towline.providers.account import Account, Driver, status_of
from towline.providers.cloud_init import host_key_script
from towline.providers.ends import end
from towline.providers.http import Rule, api_of
from towline.providers.listing import chip, flag, offers_of, price, size, whole, word
from towline.providers.pages import all_of
from towline.providers.parts import ident, label, need, port, rate, rows, segment, text, words
from towline.providers.times import rfc3339, utc_seconds

_BASE_URL = "https://api.shadeform.ai/v1"
_SPOT = "spot"
_STATUSES = {
    "creating": InstanceStatus.BUILDING,
    "pending_provider": InstanceStatus.BUILDING,
    "pending": InstanceStatus.BUILDING,
    "active": InstanceStatus.ACTIVE,
    "error": InstanceStatus.DEAD,
    "deleting": InstanceStatus.TERMINATING,
}
#: guesses at words, for refusals only; 409 without such a word stays an unknown outcome
_RULES = (
    Rule(r"^(400|422) .*(instance|key)\b.*(not found|does not exist)", errors.NotFound),
    Rule(r"^4\d\d .*(can ?not be deleted|in use)", errors.ProviderUnavailable),
    Rule(r"^(400|402|403|409|422) .*(balance|wallet|payment|credit)", errors.PaymentNeeded),
    Rule(r"^(400|403|409|422) .*(quota|limit)", errors.QuotaExceeded),
    Rule(r"^(400|409|422) .*(stock|capacity|sold out|available)", errors.NoCapacity),
)


class Shadeform(Driver):
    """One Shadeform account."""

    name = "shadeform"
    FEATURES = Features(
        host_key_grade="A",
        user_data=True,
        host_key_late=True,
        tags=True,
        server_ttl=True,
        spot=True,
        powered_off_bills=None,  # there is no such state
        console_url="https://platform.shadeform.ai/instances",
        leftovers=("key",),
        boot_s=600.0,
    )
    SETTINGS = ("cloud",)  # of the clouds that it brokers, the only one to use
    SSH_USER = "shadeform"

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        key = account.key()
        self._api = api_of(account, _BASE_URL, lambda: {"X-API-KEY": key}, _RULES)
        self._cloud = account.text("cloud", "")
        self._region = account.text("region", "")
        self._image = account.text("image", "")

    async def _all_offers(self) -> list[Offer]:
        params = {"cloud": self._cloud} if self._cloud else None
        answer = await self._api.get("/instances/types", params)
        return offers_of(need(answer, "instance_types"), self._offers_of)

    def _offers_of(self, kind: Mapping[str, Any]) -> Iterator[Offer]:
        image = self._image_of(kind) if kind.get("deployment_type") == "vm" else None
        if image is None:
            return
        for place in rows(need(kind, "availability")):
            if self._region in ("", place.get("region")):
                yield self._offer(kind, place, image)

    def _image_of(self, kind: Mapping[str, Any]) -> str | None:
        """What to boot: the setting, else the newest with CUDA; None when the setting is not had.

        "" leaves it to the cloud.
        """
        had = need(kind, "configuration").get("os_options") or []
        if self._image:
            return self._image if self._image in had else None
        return max((name for name in had if "cuda" in name), key=_newness, default="")

    def _offer(self, kind: Mapping[str, Any], place: Mapping[str, Any], image: str) -> Offer:
        has = need(kind, "configuration")
        model, count = chip(has.get("gpu_type")), whole(need(has, "num_gpus"))
        rental = place.get("rental_type", "")
        cents, dollars = kind.get("hourly_price"), place.get("hourly_price")
        cloud, name = word(need(kind, "cloud")), word(need(kind, "shade_instance_type"))
        return Offer(
            provider=self.name,
            type=f"{cloud}/{name}",
            price_usd_per_h=price(dollars, text=True) if rental == _SPOT else price(cents) / 100,
            gpu=model.model if model and count else None,
            gpus=count,
            vram_gb=size(has.get("vram_per_gpu_in_gb")),
            region=word(need(place, "region")),
            available=flag(place.get("available")),
            spot=rental == _SPOT,
            boot_s=size((kind.get("boot_time") or {}).get("max_boot_in_sec")),
            payload={"cloud": cloud, "type": name, "image": image, "rental": str(rental)},
        )

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Add the run's key, then create; see the port."""
        self.require_ours(order)
        body: dict[str, Any] = {
            "cloud": offer.payload["cloud"],
            "region": offer.region,
            "shade_instance_type": offer.payload["type"],
            "shade_cloud": True,
            "name": order.tag,
            "tags": [order.tag],
            "ssh_key_id": await self._key_id(order),
        }
        if offer.payload["image"]:
            body["os"] = offer.payload["image"]
        if offer.spot:
            body["rental_type"] = _SPOT
        if order.host_key is not None:
            script = base64.b64encode(host_key_script(order).encode()).decode()
            body["launch_configuration"] = {
                "type": "script",
                "script_configuration": {"base64_script": script},
            }
        if order.lifetime_s is not None:
            until = self.account.clock.now() + order.lifetime_s
            body["auto_delete"] = {"date_threshold": rfc3339(until)}
        answer = await self._api.send("POST", "/instances/create", body)
        return self.made(ident(answer, "id"), offer, order)

    async def _key_id(self, order: Order) -> str:
        """Look first: a lost answer may have added it."""
        for key in await self._keys():
            if text(key, "name") == order.tag:
                return ident(key, "id")
        body = {"name": order.tag, "public_key": order.public_key}
        return ident(await self._api.send("POST", "/sshkeys/add", body), "id")

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""
        name = segment(instance_id)
        if name is None:
            return None
        found = await self._api.find(f"/instances/{name}/info")
        return None if found is None else self._read(found)

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag; the API has no pages; see the port."""
        listed = all_of(await self._api.get("/instances"), "instances")
        ours = [self._read(one) for one in listed if parse_tag(_tag(one)) is not None]
        return [one for one in ours if one is not None]

    async def terminate(self, instance_id: InstanceId) -> None:
        """End an instance; see the port."""
        await end(self.get, instance_id, self._delete("instances", instance_id))

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:  # noqa: ARG002
        """List our keys; see the port."""
        return [
            Leftover(provider=self.name, kind="key", id=ident(key, "id"), tag=key["name"])
            for key in await self._keys()
            if parse_tag(need(key, "name", kind=str)) is not None
        ]

    async def remove(self, leftover: Leftover) -> None:
        """Remove a key; see the port."""
        await self._delete("sshkeys", leftover.id)

    async def check(self) -> list[Finding]:
        """Read what needs the key, then the offers; see the port."""
        count = len(await self.list_tagged())
        key = Finding("key", f"the API key is accepted; {count} instances are towline's")
        return [key, *await super().check()]

    async def _delete(self, what: str, name: str) -> None:
        if segment(name) is not None:
            await self._api.remove(f"/{what}/{name}/delete", method="POST")

    async def _keys(self) -> list[dict[str, Any]]:
        return all_of(await self._api.get("/sshkeys"), "ssh_keys")

    def _read(self, found: Mapping[str, Any]) -> Instance | None:
        """One instance in our words; None when it is gone."""
        word = need(found, "status", kind=str)
        if word == "deleted":
            return None
        host, why = text(found, "ip"), text(found, "status_details")
        usd = rate(found, "rental_terms", "hourly_price") or rate(found, "hourly_price") / 100
        is_active = word == "active"
        return Instance(
            id=InstanceId(ident(found, "id")),
            provider=self.name,
            tag=_tag(found),
            status=status_of(word, _STATUSES),
            address=self.address(host, port(found, "ssh_port"), text(found, "ssh_user") or None)
            if is_active and host
            else None,
            started_at=utc_seconds(found.get("created_at")),
            price_usd_per_h=usd,
            type=f"{text(found, 'cloud')}/{text(found, 'shade_instance_type')}",
            detail="" if is_active else f"{self.name} says {word}" + (f": {why}" if why else ""),
        )


def _tag(found: Mapping[str, Any]) -> str:
    """The tag among its tags, else its name."""
    marks = [one for one in words(found, "tags") if parse_tag(one) is not None]
    return next(iter(marks), "") or label(found, "name")


def _usd(price: object) -> float:
    """A price, which is a number or text."""
    try:
        return float(str(price))
    except ValueError as error:
        raise errors.ProviderReplyError(f"shadeform's price is no number: {price!r}") from error


def _newness(image: str) -> list[int]:
    """Order images such as "ubuntu22.04_cuda12.2_shade_os" by CUDA, then by system."""
    system, _cuda, version = image.partition("cuda")
    return [int(number) for part in (version, system) for number in re.findall(r"\d+", part)]
