"""Verda, once DataCrunch: https://api.verda.com/v1, after its SDKs and pages on API changes.

Instances carry the tag as hostname and description, their volume as its name. The host key comes
in by a startup script, an object of its own that is stored in plain text and goes with the run's
other leftovers; it may run when SSH answers already. The volume of the system is deleted with the
instance, and at a spot instance's end by Verda itself. No instance can be deleted while it is
being provisioned. An action's answer has a result for each instance: success may hide a failure.

Seen by clients, not documented: "Invalid instance id" for what is not there, "Can't discontinue a
provisioning instance", 503 with "No capacity available". Not verified on a live account: whether
an instance that is off goes on billing, whether lists besides that of scripts have pages, what a
volume that is gone is answered, and how soon a startup script runs.
"""

from __future__ import annotations

import asyncio
import dataclasses
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
from towline.core.offers import Listed
from towline.core.task import Resources
from towline.ports import Finding, Memo
from towline.providers.account import Account, Driver, status_of
from towline.providers.cloud_init import host_key_script
from towline.providers.ends import end
from towline.providers.http import Rule, rule_for
from towline.providers.parts import ident, need, number, rate, rows, segment, text
from towline.providers.times import utc_seconds
from towline.providers.verda_lists import disk_price, join, newest_image
from towline.providers.verda_session import Session

_DISK_GB = 100.0
_STATUSES = {
    "new": InstanceStatus.BUILDING,
    "ordered": InstanceStatus.BUILDING,
    "provisioning": InstanceStatus.BUILDING,
    "validating": InstanceStatus.BUILDING,
    "running": InstanceStatus.ACTIVE,
    "deleting": InstanceStatus.TERMINATING,
    "error": InstanceStatus.DEAD,
    "installation_failed": InstanceStatus.DEAD,
    "no_capacity": InstanceStatus.DEAD,
    "offline": InstanceStatus.DEAD,
    "starting_hibernation": InstanceStatus.DEAD,
    "hibernating": InstanceStatus.DEAD,
}
_GONE = ("discontinued", "deleted", "notfound")  # of spot instances that were taken away, too
_VOLUME_GONE = ("deleting", "deleted", "canceling", "canceled")
_FOLDERS = {"key": "/sshkeys", "script": "/scripts"}
_BUSY = "an instance can't be deleted while it is being provisioned; it is asked again"
_RULES = (
    Rule(
        r"invalid (instance|volume|script|ssh ?key) id|a discontinued instance|^40[04] not_found",
        errors.NotFound,
    ),
    Rule(r"a provisioning instance", errors.ProviderUnavailable, _BUSY),
    Rule(r"insufficient_funds", errors.PaymentNeeded),
    Rule(r"^(40\d|503 service_unavailable) .*(no|not enough) capacity", errors.NoCapacity),
    Rule(r"^40\d .*(not available|out of stock)", errors.NoCapacity),
    Rule(r"^40\d .*(quota|limit (exceeded|reached))", errors.QuotaExceeded),
    Rule(r"forbidden_action", errors.ProviderError),
)


class Verda(Driver):
    """One Verda account."""

    name = "verda"
    FEATURES = Features(
        host_key_grade="A",
        user_data=True,
        host_key_late=True,
        tags=True,  # a description
        spot=True,
        powered_off_bills=None,
        console_url="https://console.verda.com",
        leftovers=("key", "script", "volume"),
        boot_s=240.0,
    )
    SSH_USER = "root"

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._api = Session(account, _RULES)

    async def check(self) -> list[Finding]:
        """Look for offers and money; see the port."""
        found = await super().check()
        balance = await self._api.get("/balance")
        amount = number(need(balance, "amount"))
        fix = "add credit in Verda's console" if amount is not None and amount <= 0 else None
        text = f"{balance['amount']} {balance.get('currency') or ''}".rstrip()
        return [*found, Finding("balance", text, fix)]

    async def offers(self, need: Resources) -> Listed:
        """List what fits the need, with its disk's price; see the port."""
        fitting = await super().offers(need)
        price = disk_price(await self._api.get("/volume-types")) if fitting else None
        if price is None:
            return fitting
        cost = price * _disk_gb(need.disk_gb)
        priced = (dataclasses.replace(offer, storage_usd_per_h=cost) for offer in fitting)
        return Listed(priced, fitting.left_out)

    async def _all_offers(self) -> list[Offer]:
        await self._api.sign_in()  # once for all three
        types, fixed, spot = await asyncio.gather(
            self._api.get("/instance-types", {"currency": "usd"}),
            self._api.get("/instance-availability", {"isSpot": "false"}),
            self._api.get("/instance-availability", {"isSpot": "true"}),
        )
        wanted = self.account.settings.get("region")
        listed = join(self.name, types, fixed, spot)
        here = (offer for offer in listed if wanted in {None, offer.region})
        return Listed(here, listed.left_out)

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Add the run's key and the script with the host key, then deploy; see the port."""
        self.require_ours(order)
        image = await self._image(offer)
        volume: dict[str, Any] = {"name": order.tag, "size": round(_disk_gb(order.disk_gb))}
        if offer.spot:  # else it stays, and bills; refused where there is no spot
            volume["on_spot_discontinue"] = "delete_permanently"
        body = {
            "instance_type": offer.type,
            "image": image,
            "hostname": order.tag,
            "description": order.tag,
            "location_code": offer.region,
            "ssh_key_ids": [await self._key(order)],
            "startup_script_id": await self._script(order),
            "os_volume": volume,
            "is_spot": offer.spot,
            "contract": "SPOT" if offer.spot else "PAY_AS_YOU_GO",
            "pricing": "FIXED_PRICE",
        }
        return self.made(await self._api.make("/instances", body), offer, order)

    async def _image(self, offer: Offer) -> str:
        """The setting's image, else the newest Ubuntu with CUDA that the type may have."""
        wanted = self.account.text("image", "")
        if wanted:
            return wanted
        best = newest_image(await self._api.get("/images", {"instance_type": offer.type}))
        if best is None:
            message = f"verda has no Ubuntu with CUDA for {offer.type}"
            raise errors.ProviderError(message, hint="name one in providers.verda.image")
        return best

    async def _key(self, order: Order) -> str:
        """Look first: a lost answer may have made it."""
        for key in rows(await self._api.get("/sshkeys")):
            if key.get("name") == order.tag:
                return ident(key, "id")
        return await self._api.make("/sshkeys", {"name": order.tag, "key": order.public_key})

    async def _script(self, order: Order) -> str:
        """One of an earlier try is replaced: a script can't be changed, nor its text be relied on."""
        for script in await self._api.pages("/scripts"):
            if script.get("name") == order.tag:
                await self._drop("/scripts", ident(script, "id"))
        body = {"name": order.tag, "script": host_key_script(order)}
        return await self._api.make("/scripts", body)

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""
        found = await self._look(instance_id)
        return None if found is None else self._read(found)

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag; see the port."""
        listed = rows(await self._api.get("/instances"))
        ours = [self._read(one) for one in listed if parse_tag(_tag(one)) is not None]
        return [one for one in ours if one is not None]

    async def terminate(self, instance_id: InstanceId) -> None:
        """Delete an instance and the volume of its system; see the port."""
        found = await self._look(instance_id)
        if found is None:
            return
        body: dict[str, Any] = {"id": [instance_id], "action": "delete"}
        volume = text(found, "os_volume_id")
        if volume:  # there is none at first
            body |= {"volume_ids": [volume], "delete_permanently": True}
        await end(self.get, instance_id, self._end(body))

    async def _end(self, body: dict[str, Any]) -> None:
        _require_done(await self._api.send("PUT", "/instances", body))

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:  # noqa: ARG002
        """List our keys, startup scripts and volumes; see the port."""
        keys = rows(await self._api.get("/sshkeys"))
        scripts = await self._api.pages("/scripts")
        volumes = [
            one
            for one in rows(await self._api.get("/volumes"))
            if one.get("status") not in _VOLUME_GONE
        ]
        return [
            Leftover(
                provider=self.name,
                kind=kind,
                id=ident(one, "id"),
                tag=one["name"],
                since=utc_seconds(one.get("created_at")),
                price_usd_per_h=number(one.get("base_hourly_cost")) if kind == "volume" else 0.0,
            )
            for kind, listed in (("key", keys), ("script", scripts), ("volume", volumes))
            for one in listed
            if parse_tag(need(one, "name", kind=str)) is not None
        ]

    async def remove(self, leftover: Leftover) -> None:
        """Remove a key, a script or a volume; see the port."""
        if leftover.kind in _FOLDERS:
            await self._drop(_FOLDERS[leftover.kind], leftover.id)
            return
        body = {"id": [leftover.id], "action": "delete", "is_permanent": True}
        try:
            await self._api.send("PUT", "/volumes", body)
        except errors.NotFound:
            return

    async def _drop(self, folder: str, thing: str) -> None:
        name = segment(thing)
        if name is None:
            return
        try:
            await self._api.send("DELETE", f"{folder}/{name}")
        except errors.NotFound:
            return

    async def _look(self, instance_id: InstanceId) -> dict[str, Any] | None:
        name = segment(instance_id)
        if name is None:
            return None
        try:
            found: dict[str, Any] = need(await self._api.get(f"/instances/{name}"), kind=dict)
        except errors.NotFound:
            return None
        return found

    def _read(self, found: Mapping[str, Any]) -> Instance | None:
        """One instance in our words; None when it is gone."""
        word = need(found, "status", kind=str).lower()
        if word in _GONE:
            return None
        host = text(found, "ip")
        return Instance(
            id=InstanceId(ident(found, "id")),
            provider=self.name,
            tag=_tag(found),
            status=status_of(word, _STATUSES),
            address=self.address(host) if host else None,
            started_at=utc_seconds(found.get("created_at")),
            price_usd_per_h=rate(found, "price_per_hour"),
            type=text(found, "instance_type"),
            detail="" if word == "running" else f"{self.name} says {word}",
        )


def _tag(found: Mapping[str, Any]) -> str:
    """The tag as its description, else its hostname."""
    mark = text(found, "description")
    return mark if parse_tag(mark) is not None else need(found, "hostname", kind=str)


def _disk_gb(wanted: float | None) -> float:
    return max(wanted or 0.0, _DISK_GB)


def _require_done(results: Any) -> None:
    """Raise for an instance that was not deleted, whatever the answer's own status was."""
    for one in rows(results) if isinstance(results, list) else ():
        if one.get("status") == "success":
            continue
        said = f"{one.get('statusCode')} {one.get('error') or 'no reason given'}"
        rule = rule_for(_RULES, said) or Rule("", errors.ProviderUnavailable)
        raise rule.error(f"verda did not delete the instance: {said}", hint=rule.hint)
