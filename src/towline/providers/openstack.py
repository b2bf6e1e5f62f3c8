"""Any OpenStack cloud: Nova, Neutron, Glance and Keystone v3, after its API reference.

Servers carry the tag as name and in their metadata, keys and groups as name, addresses as
description. User-data on a config drive installs the host key. OpenStack knows no prices: the user
sets them, and a flavor without one is not offered. Nor does it know of stock: a create is accepted,
and a host that can't be found shows as a server in ERROR, which acquire ends before it goes on.

Not verified on a live cloud: that a server that is switched off bills on [inferred: its host keeps
its resources]; how clouds name their GPUs in extra specs; that every Nova takes a group's id where
its reference says name, as its source does (names need not be unique); that a project may list the
ports of its routers; that microversion 2.61 shows extra specs to everybody; the words of a quota's
refusal.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

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
from towline.core.renter import Renter
from towline.ports import Finding, Memo
from towline.providers.account import Account, Driver, status_of
from towline.providers.cloud_init import user_data
from towline.providers.ends import end
from towline.providers.openstack_api import OpenStackApi
from towline.providers.openstack_catalog import Catalog
from towline.providers.openstack_check import look_over
from towline.providers.openstack_network import Network
from towline.providers.parts import ident, label, need, number, rate, segment, text
from towline.providers.times import utc_seconds

_TAG_KEY, _PRICE_KEY, _TYPE_KEY = "towline", "towline-usd-per-h", "towline-type"
_DISK_GB = 100.0
_SERVERS, _KEYS = "/servers", "/os-keypairs"
_STATUSES = {
    "build": InstanceStatus.BUILDING,
    "active": InstanceStatus.ACTIVE,
    "password": InstanceStatus.ACTIVE,
    "migrating": InstanceStatus.ACTIVE,
    "verify_resize": InstanceStatus.ACTIVE,
    # it comes back by itself
    "reboot": InstanceStatus.BUILDING,
    "hard_reboot": InstanceStatus.BUILDING,
    "resize": InstanceStatus.BUILDING,
    "revert_resize": InstanceStatus.BUILDING,
    "unknown": InstanceStatus.BUILDING,  # its host does not answer: nothing may be concluded
    "error": InstanceStatus.DEAD,
    "rebuild": InstanceStatus.DEAD,  # its disk is written anew
    "rescue": InstanceStatus.DEAD,
    # switched off it is of no use to a run, and its host keeps what it has
    "shutoff": InstanceStatus.DEAD,
    "paused": InstanceStatus.DEAD,
    "suspended": InstanceStatus.DEAD,
    "shelved": InstanceStatus.DEAD,
    "shelved_offloaded": InstanceStatus.DEAD,
}
_GONE = ("deleted", "soft_deleted")
#: kind -> service, folder, the row's field that is its id, the one that is its tag
_KINDS = {
    "key": ("compute", _KEYS, "name", "name"),
    "group": ("network", "/security-groups", "id", "name"),
    "address": ("network", "/floatingips", "id", "description"),
}


class OpenStack(Driver):
    """One project in one region of an OpenStack cloud."""

    name = "openstack"
    FEATURES = Features(
        host_key_grade="A",
        user_data=True,
        tags=True,
        powered_off_bills=True,
        leftovers=("key", "group", "address"),
        boot_s=180.0,
    )
    SETTINGS = ("cloud", "prices", "gpus", "network", "external_network", "floating_ip")

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._api = OpenStackApi(account)
        self._catalog = Catalog(self._api, account)
        free = self.features.free or self._catalog.has_free
        self.features = dataclasses.replace(self.features, free=free)
        self._network = Network(self._api, account)

    def renter(self) -> Renter:
        """Which cloud and region this is; see the port. Its project is the account."""
        known = super().renter()
        place = {"base_url": self._api.keystone, "region": self._api.region or ""}
        return dataclasses.replace(known, place={k: v for k, v in place.items() if v})

    async def account_id(self) -> str | None:
        """The id of the project; see the port."""
        return await self._api.project()

    async def check(self) -> list[Finding]:
        """Look for project, services, flavors, quota, image and networks; see the port."""
        return await look_over(self._api, self._catalog, self._network)

    async def _all_offers(self) -> list[Offer]:
        flavors, limits = await asyncio.gather(self._catalog.flavors(), self._catalog.limits())
        return self._catalog.offers(flavors, limits)

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Add the run's key and security group, then create; see the port.

        Raises:
            NotFound: There is no image or network; nothing was made.
        """
        self.require_ours(order)
        image, network, _outer = await asyncio.gather(
            self._catalog.image(), self._network.inner(), self._network.outer()
        )
        await self._add_key(order)
        group = await self._network.group(order)
        server = {
            "name": order.tag,
            "flavorRef": need(offer.payload, "flavor"),
            "key_name": order.tag,
            "metadata": {
                _TAG_KEY: order.tag,
                _PRICE_KEY: str(offer.price_usd_per_h),
                _TYPE_KEY: offer.type,
            },
            "user_data": base64.b64encode(user_data(order).encode()).decode(),
            "config_drive": True,
            "security_groups": [{"name": group}],
            "networks": [{"uuid": need(network, "id")}],
            **_disk(offer, order, image),
        }
        answer = await self._api.send("compute", "POST", _SERVERS, {"server": server})
        return self.made(ident(answer, "server", "id"), offer, order)

    async def _add_key(self, order: Order) -> None:
        """Look first: two keys of one name are refused, and a lost answer may have made one."""
        if await self._api.find("compute", f"{_KEYS}/{order.tag}") is None:
            body = {"name": order.tag, "public_key": order.public_key}
            await self._api.send("compute", "POST", _KEYS, {"keypair": body})

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""
        name = segment(instance_id)
        found = await self._api.find("compute", f"{_SERVERS}/{name}") if name else None
        if found is None:
            return None
        read = await self._read([need(found, "server", kind=dict)])
        return read[0] if read else None

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag; see the port."""
        listed = await self._api.rows("compute", f"{_SERVERS}/detail", "servers")
        return await self._read([one for one in listed if parse_tag(_tag(one))])

    async def attach_address(self, instance: Instance, memo: Memo) -> None:  # noqa: ARG002
        """Allocate an address with the tag as description, if there is none yet; see the port."""
        await self._network.attach(instance)

    async def terminate(self, instance_id: InstanceId) -> None:
        """End an instance; see the port."""
        name = segment(instance_id)
        if name is not None:
            await end(self.get, instance_id, self._api.remove("compute", f"{_SERVERS}/{name}"))

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:  # noqa: ARG002
        """List our keys, groups and addresses; see the port. A volume goes with its instance."""
        keys, groups, addresses = await asyncio.gather(
            self._api.rows("compute", _KEYS, "keypairs"),
            self._network.groups(),
            self._network.addresses(),
        )
        listed = {
            "key": [need(one, "keypair", kind=dict) for one in keys],
            "group": groups,
            "address": addresses,
        }
        return [
            Leftover(
                provider=self.name,
                kind=kind,
                id=ident(row, _KINDS[kind][2]),
                tag=row[_KINDS[kind][3]],
                since=utc_seconds(row.get("created_at")),
                price_usd_per_h=None if kind == "address" else 0.0,
            )
            for kind, found in listed.items()
            for row in found
            if parse_tag(label(row, _KINDS[kind][3])) is not None
        ]

    async def remove(self, leftover: Leftover) -> None:
        """Remove one; a group is refused until its instance is gone; see the port."""
        service, folder, _id, _tag_field = _KINDS[leftover.kind]
        name = segment(leftover.id)
        if name is not None:
            await self._api.remove(service, f"{folder}/{name}")

    async def _read(self, servers: list[Mapping[str, Any]]) -> list[Instance]:
        """Servers in our words, without those that are gone."""
        there = [one for one in servers if need(one, "status", kind=str).lower() not in _GONE]
        up = [one for one in there if _status(one) is InstanceStatus.ACTIVE]
        addresses = await self._network.addresses() if up and self._network.floating else []
        return [self._instance(one, addresses) for one in there]

    def _instance(self, found: Mapping[str, Any], addresses: list[dict[str, Any]]) -> Instance:
        word, tag = need(found, "status", kind=str), _tag(found)
        status = _status(found)
        is_up = status is InstanceStatus.ACTIVE
        host = self._network.host(found, addresses, tag) if is_up else None
        reason = text(found, "fault", "message")
        return Instance(
            id=InstanceId(ident(found, "id")),
            provider=self.name,
            tag=tag,
            status=status,
            address=self.address(host) if host else None,
            started_at=utc_seconds(found.get("created")),
            price_usd_per_h=rate(found, "metadata", _PRICE_KEY),
            type=text(found, "metadata", _TYPE_KEY),
            detail="" if is_up else f"{self.name} says {word} {reason}".strip(),
        )


def _status(server: Mapping[str, Any]) -> InstanceStatus:
    """What Nova's word means, with what it is about to do."""
    if server.get("OS-EXT-STS:task_state") == "deleting":
        return InstanceStatus.TERMINATING
    return status_of(need(server, "status"), _STATUSES)


def _tag(server: Mapping[str, Any]) -> str:
    """The tag in its metadata, else its name."""
    mark = text(server, "metadata", _TAG_KEY)
    return mark if parse_tag(mark) is not None else need(server, "name", kind=str)


def _disk(offer: Offer, order: Order, image: Mapping[str, Any]) -> dict[str, Any]:
    """The flavor's own disk; a volume where it has none, or one that is too small."""
    own_gb = number(offer.payload.get("disk_gb")) or 0.0
    if own_gb and own_gb >= (order.disk_gb or 0.0):
        return {"imageRef": need(image, "id")}
    volume = {
        "boot_index": 0,
        "uuid": need(image, "id"),
        "source_type": "image",
        "destination_type": "volume",
        "volume_size": math.ceil(
            max(order.disk_gb or _DISK_GB, number(image.get("min_disk")) or 0)
        ),
        "delete_on_termination": True,
    }
    return {"block_device_mapping_v2": [volume]}
