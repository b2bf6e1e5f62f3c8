"""A look over an OpenStack project without renting: each thing that is missing, with its one fix."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from towline import errors
from towline.ports import Finding
from towline.providers.openstack_api import OpenStackApi
from towline.providers.openstack_catalog import Catalog, quota_text, room_for
from towline.providers.openstack_network import Network
from towline.providers.openstack_reading import Lacking

_SERVICES = ("compute", "network", "image")


async def look_over(api: OpenStackApi, catalog: Catalog, network: Network) -> list[Finding]:
    """Look for project, services, flavors with prices, quota, image and networks.

    Raises:
        ProviderError: As the port's `check`.
    """
    project = Finding("project", await api.project())
    services = [await _found(one, _service(api, one)) for one in _SERVICES]
    if any(one.fix for one in services):
        return [project, *services]
    flavors, limits = await asyncio.gather(catalog.flavors(), catalog.limits())
    room = any(room_for(flavor, limits) for flavor in flavors)
    fix = None if room or not flavors else "ask the cloud for a higher quota"
    return [
        project,
        *services,
        _priced(catalog, flavors),
        Finding("quota", quota_text(limits), fix),
        *await asyncio.gather(
            _found("image", _name(catalog.image())),
            _found("network", _name(network.inner())),
            _found("external network", _name(network.outer())),
        ),
    ]


def _priced(catalog: Catalog, flavors: list[Mapping[str, Any]]) -> Finding:
    """Whether there are flavors with GPUs, and a price for each."""
    unpriced = catalog.unpriced(flavors)
    if not flavors:
        fix = "name those that have some: `providers: {openstack: {gpus: {FLAVOR: H100:1}}}`"
        return Finding("offers", "no flavor is known to have a GPU", fix)
    if unpriced:
        fix = "set `providers: {openstack: {prices: {FLAVOR: USD per hour}}}`; '*' is for all"
        return Finding("offers", f"flavors without a price: {', '.join(unpriced)}", fix)
    return Finding("offers", f"{len(flavors)} flavors with GPUs")


async def _service(api: OpenStackApi, service: str) -> str:
    await api.require(service)
    return "in the catalog"


async def _name(look: Awaitable[Mapping[str, Any] | None]) -> str:
    found = await look
    return "none is needed" if found is None else str(found.get("name") or found.get("id"))


async def _found(name: str, look: Awaitable[str]) -> Finding:
    """What a look found; what is not there is a finding too."""
    try:
        return Finding(name, await look)
    except (errors.NotFound, Lacking) as missing:
        return Finding(name, missing.message, missing.hint)
