"""Hyperstack: https://infrahub-api.nexgencloud.com/v1, after its OpenAPI document of June 2026.

A machine lives in an environment, which belongs to one region and is made in the
console: towline makes none. Keys belong to an environment too. Instances carry the tag as name and
label; user-data installs the host key. Stop, start and hibernate are GETs that act: none is called.

Not verified on a live account: the words of refusals for want of stock, quota or credit; whether
`count` of a list speaks of the page or of all, and what a page past the end is answered; that a
deleted machine's public address goes with it; whether names of keys clash across environments;
where SSH is found if ports are randomized although that was refused, for no field tells it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
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
from towline.providers.cloud_init import user_data
from towline.providers.ends import end
from towline.providers.http import Rule, api_of
from towline.providers.hyperstack_lists import PastTheEnd, all_rows, join, newest_image
from towline.providers.parts import ident, need, number, numeral, text, words
from towline.providers.times import utc_seconds

_BASE_URL = "https://infrahub-api.nexgencloud.com/v1"
_MACHINES, _KEYS, _ENVIRONMENTS = "/core/virtual-machines", "/core/keypairs", "/core/environments"
_SSH_RULE = {
    "direction": "ingress",
    "ethertype": "IPv4",
    "protocol": "tcp",
    "remote_ip_prefix": "0.0.0.0/0",
    "port_range_min": 22,
    "port_range_max": 22,
}
_STATUSES = {
    "creating": InstanceStatus.BUILDING,
    "build": InstanceStatus.BUILDING,
    "active": InstanceStatus.ACTIVE,
    "deleting": InstanceStatus.TERMINATING,
    "error": InstanceStatus.DEAD,
    # switched off it is of no use to a run, and is billed in full
    "stopping": InstanceStatus.DEAD,
    "shutoff": InstanceStatus.DEAD,
    "hibernating": InstanceStatus.DEAD,
    "hibernated": InstanceStatus.DEAD,
}
_CREDIT = "add credit in Hyperstack's console; nothing is rented"
_RULES = (
    # words of refusals only: a 429 and a 5xx are what their status says
    Rule(r"^40\d .*(credit|balance|payment)", errors.PaymentNeeded, _CREDIT),
    Rule(r"^40\d .*(quota|limit (exceeded|reached))", errors.QuotaExceeded),
    Rule(r"^40\d .*(stock|capacity|no valid host)", errors.NoCapacity),
    # of no instance
    Rule(r"^404 .*page not found", PastTheEnd),
    Rule(r"^404 .*(environment|flavor|image|region)", errors.ProviderError),
)


class Hyperstack(Driver):
    """One Hyperstack account."""

    name = "hyperstack"
    FEATURES = Features(
        host_key_grade="A",
        user_data=True,
        tags=True,
        powered_off_bills=True,
        console_url="https://console.hyperstack.cloud/virtual-machines",
        leftovers=("key",),
        boot_s=240.0,
    )
    SETTINGS = ("environment",)

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        key = account.key()
        self._api = api_of(account, _BASE_URL, lambda: {"api_key": key}, _RULES)

    async def check(self) -> list[Finding]:
        """Look for offers, environments and credit; see the port."""
        found = await super().check()
        places = await self._environments()
        text = ", ".join(f"{name} in {region}" for region, name in sorted(places.items()))
        found.append(
            Finding("environment", text or "there is none", None if places else self._fix())
        )
        credit = need(await self._api.get("/billing/user-credit/credit"), "data")
        fix = _CREDIT if credit.get("can_create_instance") is False else None
        found.append(Finding("credit", f"${credit.get('credit')} of credit", fix))
        return found

    async def offers(self, need: Resources) -> Listed:
        """List what fits the need, where there is an environment for it; see the port.

        Raises:
            SpecError: `resources.gpu` names no GPU; or there is no environment for what fits.
        """
        fitting = await super().offers(need)
        usable = Listed((offer for offer in fitting if offer.payload), fitting.left_out)
        if fitting and not usable:
            raise self._no_environment(offer.region for offer in fitting)
        return usable

    async def _all_offers(self) -> list[Offer]:
        places, book, stocks, flavors = await asyncio.gather(
            self._environments(),
            self._api.get("/pricebook"),
            self._api.get("/core/stocks"),
            self._api.get("/core/flavors"),
        )
        wanted = self.account.settings.get("region")
        listed = join(self.name, flavors, stocks, book)
        placed = (
            dataclasses.replace(
                offer,
                payload={"environment": places[offer.region]} if offer.region in places else {},
            )
            for offer in listed
            if wanted in {None, offer.region}
        )
        return Listed(placed, listed.left_out)

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Add the run's key to the environment, then create; see the port.

        Raises:
            SpecError: The tag is not towline's, or the offer's region has no environment.
        """
        self.require_ours(order)
        environment = offer.payload.get("environment")
        if environment is None:
            raise self._no_environment([offer.region])
        image = await self._image(offer)
        await self._add_key(order, environment)
        body = {
            "name": order.tag,
            "environment_name": environment,
            "flavor_name": offer.type,
            "image_name": image,
            "key_name": order.tag,
            "count": 1,
            "assign_floating_ip": True,
            "enable_port_randomization": False,  # it is on where nothing is said
            "security_rules": [_SSH_RULE],
            "labels": [order.tag],
            "user_data": user_data(order),
        }
        answer = await self._api.send("POST", _MACHINES, body)
        return self.made(ident(answer, "instances", 0, "id"), offer, order)

    async def _image(self, offer: Offer) -> str:
        """The setting's image, else the newest Ubuntu with CUDA that the flavor may have."""
        wanted = self.account.text("image", "")
        if wanted:
            return wanted
        answer = await self._api.get("/core/images", {"region": offer.region})
        best = newest_image(answer, offer.type)
        if best is None:
            message = f"hyperstack has no Ubuntu with CUDA for {offer.type} in {offer.region}"
            raise errors.ProviderError(message, hint="name one in providers.hyperstack.image")
        return best

    async def _add_key(self, order: Order, environment: str) -> None:
        """Look first: a lost answer may have made it, here or in another region's environment."""
        for key in await all_rows(self._api, _KEYS, "keypairs"):
            if key.get("name") != order.tag:
                continue
            if need(key, "environment", "name") == environment:
                return
            await self._remove_key(ident(key, "id"))  # two of one name may clash
        body = {
            "name": order.tag,
            "environment_name": environment,
            "public_key": order.public_key,
        }
        await self._api.send("POST", _KEYS, body)

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""
        path = _path(_MACHINES, instance_id)
        if path is None:
            return None
        answer = await self._api.find(path)
        return None if answer is None else self._read(need(answer, "instance"))

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag; see the port."""
        listed = await all_rows(self._api, _MACHINES, "instances")
        ours = [self._read(one) for one in listed if parse_tag(_tag(one)) is not None]
        return [one for one in ours if one is not None]

    async def attach_address(self, instance: Instance, memo: Memo) -> None:  # noqa: ARG002
        """Wait for the address that create asked for; see the port.

        Raises:
            ProviderError: It has one, but SSH is at a port that nobody tells.
        """
        path = _path(_MACHINES, instance.id)
        found = need(await self._api.get(path), "instance", kind=dict) if path else {}
        if self._hides_port(found):
            message = f"hyperstack has moved SSH of {instance.id} to a port that its API hides"
            hint = "see its port in the console, and set providers.hyperstack.ssh_port"
            raise errors.ProviderError(message, hint=hint)

    async def terminate(self, instance_id: InstanceId) -> None:
        """End an instance; see the port."""
        await end(self.get, instance_id, self._delete(_path(_MACHINES, instance_id)))

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:  # noqa: ARG002
        """List our keys in all environments; see the port."""
        return [
            Leftover(
                provider=self.name,
                kind="key",
                id=ident(key, "id"),
                tag=key["name"],
                since=utc_seconds(key.get("created_at")),
                price_usd_per_h=0.0,
            )
            for key in await all_rows(self._api, _KEYS, "keypairs")
            if parse_tag(need(key, "name", kind=str)) is not None
        ]

    async def remove(self, leftover: Leftover) -> None:
        """Remove a key; see the port."""
        await self._remove_key(leftover.id)

    async def _remove_key(self, key_id: str) -> None:
        await self._delete(_path("/core/keypair", key_id))  # no "s" here

    async def _delete(self, path: str | None) -> None:
        if path is not None:
            await self._api.remove(path)

    async def _environments(self) -> dict[str, str]:
        """By region, the environment to use: the setting's, else the oldest."""
        wanted = self.account.settings.get("environment")
        listed = [
            one
            for one in await all_rows(self._api, _ENVIRONMENTS, "environments")
            if wanted in (None, one.get("name"))
        ]
        listed.sort(key=lambda one: number(one.get("id")) or 0.0, reverse=True)
        return {str(need(one, "region")): str(need(one, "name")) for one in listed}

    def _no_environment(self, regions: Iterable[str | None]) -> errors.SpecError:
        places = ", ".join(sorted({str(region) for region in regions}))
        wanted = self.account.settings.get("environment")
        which = f"environment {wanted!r} is not" if wanted else "there is no environment"
        return errors.SpecError(f"hyperstack: {which} in {places}", hint=self._fix())

    def _fix(self) -> str:
        if "environment" in self.account.settings:
            return "correct providers.hyperstack.environment, or make it in Hyperstack's console"
        return "make an environment in Hyperstack's console (Environments, Create)"

    def _hides_port(self, found: Mapping[str, Any]) -> bool:
        return found.get("port_randomization") is True and "ssh_port" not in self.account.settings

    def _read(self, found: Mapping[str, Any]) -> Instance | None:
        """One instance in our words; None when it is gone."""
        word = need(found, "status", kind=str)
        if word.lower() == "deleted":
            return None
        host = "" if self._hides_port(found) else text(found, "floating_ip")
        return Instance(
            id=InstanceId(ident(found, "id")),
            provider=self.name,
            tag=_tag(found),
            status=status_of(word, _STATUSES),
            address=self.address(host) if host else None,
            started_at=utc_seconds(found.get("created_at")),
            type=text(found, "flavor", "name"),
            detail="" if word.lower() == "active" else f"{self.name} says {word}",
        )


def _tag(found: Mapping[str, Any]) -> str:
    """The tag among its labels, else its name."""
    marks = [one for one in words(found, "labels") if parse_tag(one) is not None]
    return next(iter(marks), "") or need(found, "name", kind=str)


def _path(folder: str, number: str) -> str | None:
    """The path of one thing; None for what can't be its id: ids are numbers."""
    name = numeral(number)
    return f"{folder}/{name}" if name else None
