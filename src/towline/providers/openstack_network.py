"""An instance's network in OpenStack: where it is put, what lets SSH in, its public address.

An address is allocated for one run, with the tag as its description, and given to the instance in
the same call. A lost answer is looked for by that description, so there are never two; should the
look be of yesterday, Neutron refuses a second address for one port.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from towline import errors
from towline.core.instance import Instance, Order, parse_tag
from towline.providers.account import Account
from towline.providers.openstack_api import OpenStackApi
from towline.providers.parts import ident, label, need, rows, text, told

_SSH_PORT = 22
_EXTERNAL = "router:external"
#: of a port by which a router reaches a network; with high availability or not, distributed or not
_ROUTERS = ("router_interface", "ha_router_replicated")

Row = Mapping[str, Any]


class Network:
    """The networks, groups and addresses of one project."""

    def __init__(self, api: OpenStackApi, account: Account) -> None:
        """Read the settings; nothing is asked yet.

        Raises:
            SpecError: `floating_ip` is neither true nor false.
        """
        self._api = api
        self._settings = account.settings
        #: whether instances get an address of their own; else their network's is public
        self.floating: bool = account.settings.get("floating_ip", True)
        if not isinstance(self.floating, bool):
            message = f"providers.openstack.floating_ip must be true or false, not {self.floating}"
            raise errors.SpecError(message, hint="correct it in config.yaml")

    async def inner(self) -> Row:
        """The network for instances: the setting's, else the only one that a router connects.

        Raises:
            NotFound: There is none, or which one is meant can't be told.
        """
        listed, project = await asyncio.gather(
            self._api.rows("network", "/networks", "networks"), self._api.project()
        )
        if "network" in self._settings:
            return _named(listed, str(self._settings["network"]), "network")
        usable: list[Row] = [one for one in listed if self._may_use(one, project)]
        if len(usable) > 1:
            routed = await self._routed()
            usable = [one for one in usable if one.get("id") in routed] or usable
        if len(usable) == 1:
            return usable[0]
        hint = "set `providers: {openstack: {network: ...}}` to one that a router connects"
        if not usable:
            raise errors.NotFound("openstack: the project has no network", hint=hint)
        names = ", ".join(sorted(str(one.get("name")) for one in usable))
        raise errors.NotFound(f"openstack: several networks would do: {names}", hint=hint)

    def _may_use(self, network: Row, project: str) -> bool:
        shared = network.get("shared") is True
        if network.get(_EXTERNAL):
            return shared and not self.floating
        owner = network.get("project_id") or network.get("tenant_id")
        return shared or owner == project

    async def _routed(self) -> set[Any]:
        ports = await self._api.rows("network", "/ports", "ports")
        return {
            one.get("network_id")
            for one in ports
            if any(word in str(one.get("device_owner")) for word in _ROUTERS)
        }

    async def outer(self) -> Row | None:
        """The network that addresses are of; None where none is needed.

        Raises:
            NotFound: There is none.
        """
        if not self.floating:
            return None
        listed = await self._api.rows("network", f"/networks?{_EXTERNAL}=true", "networks")
        if "external_network" in self._settings:
            return _named(listed, str(self._settings["external_network"]), "external network")
        external = [one for one in listed if one.get(_EXTERNAL)]
        if not external:
            hint = (
                "ask the cloud for an external network; or, where instances have public addresses"
                " by themselves, set `providers: {openstack: {floating_ip: false}}`"
            )
            raise errors.NotFound("openstack: the project sees no external network", hint=hint)
        best: Row = next((one for one in external if one.get("is_default")), external[0])
        return best

    async def group(self, order: Order) -> str:
        """The run's security group, which lets SSH in; made by an earlier try or now."""
        found = [one for one in await self.groups() if one["name"] == order.tag]
        group = found[0] if found else await self._new_group(order)
        made = ident(group, "id")
        if not any(map(_lets_ssh_in, rows(told(group, "security_group_rules", kind=list) or []))):
            rule = {
                "security_group_id": made,
                "direction": "ingress",
                "ethertype": "IPv4",
                "protocol": "tcp",
                "port_range_min": _SSH_PORT,
                "port_range_max": _SSH_PORT,
                "remote_ip_prefix": "0.0.0.0/0",
            }
            body = {"security_group_rule": rule}
            await self._api.send("network", "POST", "/security-group-rules", body)
        return made

    async def _new_group(self, order: Order) -> Row:
        body = {"name": order.tag, "description": "SSH to one run of towline's"}
        answer = await self._api.send(
            "network", "POST", "/security-groups", {"security_group": body}
        )
        group: Row = need(answer, "security_group", kind=dict)
        return group

    async def groups(self) -> list[dict[str, Any]]:
        """Security groups whose name is a tag."""
        listed = await self._api.rows("network", "/security-groups", "security_groups")
        return [one for one in listed if parse_tag(label(one, "name")) is not None]

    async def addresses(self) -> list[dict[str, Any]]:
        """Floating addresses whose description is a tag."""
        listed = await self._api.rows("network", "/floatingips", "floatingips")
        return [one for one in listed if parse_tag(label(one, "description")) is not None]

    async def attach(self, instance: Instance) -> None:
        """Give an instance the run's address; allocate that if there is none yet.

        Raises:
            NotFound: There is no external network.
            QuotaExceeded, NoCapacity: No address may be made.
        """
        outer = await self.outer()
        if outer is None:
            return
        ports = await self._api.rows("network", f"/ports?device_id={instance.id}", "ports")
        ports = [one for one in ports if one.get("device_id") == instance.id]
        if not ports:
            return  # not known yet: asked again
        port, fixed = ident(ports[0], "id"), _fixed(ports[0])
        ours = [one for one in await self.addresses() if one["description"] == instance.tag]
        if any(one.get("port_id") == port for one in ours):
            return  # the list that `get` reads will show it
        if ours:
            await self._associate(ident(ours[0], "id"), port, fixed)
            return
        wanted = {
            "floating_network_id": need(outer, "id"),
            "port_id": port,
            "fixed_ip_address": fixed,
            "description": instance.tag,
        }
        await self._api.send("network", "POST", "/floatingips", {"floatingip": wanted})

    async def _associate(self, address: str, port: str, fixed: str) -> None:
        path = f"/floatingips/{address}"
        body = {"floatingip": {"port_id": port, "fixed_ip_address": fixed}}
        try:
            await self._api.send("network", "PUT", path, body)
        except errors.NotFound:
            return  # one of the two has just gone: the next look tells which

    def host(self, server: Row, addresses: list[dict[str, Any]], tag: str) -> str | None:
        """Where a server is reached from outside; None when it has no such address yet."""
        fixed = [
            text(address, "addr")
            for network in (told(server, "addresses", kind=dict) or {}).values()
            for address in rows(network)
            if address.get("version") == 4 and address.get("OS-EXT-IPS:type") != "floating"  # noqa: PLR2004
        ]
        if not self.floating:
            return next(filter(None, fixed), None)
        ours = [
            need(one, "floating_ip_address", kind=str)
            for one in addresses
            if one["description"] == tag and one.get("fixed_ip_address") in fixed
        ]
        return next(iter(ours), None)


def _fixed(port: Row) -> str:
    """A port's IPv4 address; where it has several, Neutron must be told which is meant.

    Raises:
        ProviderError: It has none.
    """
    found = [text(one, "ip_address") for one in rows(told(port, "fixed_ips", kind=list) or [])]
    plain = [one for one in found if one and ":" not in one]
    if not plain:
        hint = "set `providers: {openstack: {network: ...}}` to one that has a subnet of IPv4"
        raise errors.ProviderError("openstack: the instance has no IPv4 address", hint=hint)
    return plain[0]


def _lets_ssh_in(rule: Row) -> bool:
    return (
        rule.get("direction") == "ingress"
        and rule.get("ethertype") == "IPv4"
        and rule.get("protocol") == "tcp"
        and rule.get("port_range_min") == _SSH_PORT
    )


def _named(listed: list[dict[str, Any]], wanted: str, noun: str) -> Row:
    """The one of that id or name.

    Raises:
        NotFound: There is none.
    """
    found = [one for one in listed if wanted in {one.get("id"), one.get("name")}]
    if not found:
        names = ", ".join(sorted(str(one.get("name")) for one in listed)) or "none"
        hint = f"correct providers.openstack.{noun.replace(' ', '_')}; there is: {names}"
        raise errors.NotFound(f"openstack: the project sees no {noun} {wanted!r}", hint=hint)
    return found[0]
