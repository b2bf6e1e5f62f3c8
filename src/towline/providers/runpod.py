"""RunPod: https://api.runpod.io/v2, after its OpenAPI document 2.0.0 (runpod/docs@081392f).

Instances are pods, which are containers: no host key can be given, and the run's key reaches them
in their environment, so the image must start an SSH server from PUBLIC_KEY as RunPod's own do. The
account's own set of keys is never touched, for the API can only replace it whole. Names are all
that carries the tag; they are not unique, and no list has pages. A pod that has exited bills its
disk until it is deleted. Offers are GPUs of one cloud, "secure" unless the setting `cloud` says
"community"; pods that may be taken away exist in the older API only and are not offered.

A pod ends itself by the key that RunPod gives to each pod and for that pod only. Not verified on a
live account: that this key may delete by the REST API (`runpodctl`, which the documentation names
for it, is tried too); what a refusal for lack of capacity says, for 400 has no code; how soon a
new pod shows in the list; that hosts of the community cloud have a public address.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
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
from towline.core.offers import Listed
from towline.core.task import Resources
from towline.ports import Finding
from towline.providers.account import Account, Driver, status_of
from towline.providers.ends import end
from towline.providers.http import Rule, api_of
from towline.providers.listing import chip, offers_of, price, size, word
from towline.providers.pages import all_of
from towline.providers.parts import ident, label, need, port, rate, segment, text, told
from towline.providers.times import utc_seconds

_BASE_URL = "https://api.runpod.io/v2"
_IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
_CUDA = "12.8"  # what that image asks of the host's driver
_DISK_GB = 50.0
_DISK_USD_PER_GB_H = 0.10 / 720  # "Container disk: $0.10/GB/month", Pods, Storage options
_STATUSES = {
    "provisioning": InstanceStatus.BUILDING,
    "starting": InstanceStatus.BUILDING,
    "running": InstanceStatus.ACTIVE,
    "exited": InstanceStatus.DEAD,
    "error": InstanceStatus.DEAD,
}
_STOCK = ("HIGH", "MEDIUM", "LOW")  # what there is most of is tried first
_RULES = (
    Rule(r"^4\d\d .*(balance|insufficient fund)", errors.PaymentNeeded),
    Rule(r"^403 .*\bpool\b", errors.NoCapacity, "the account has no access to these machines"),
    Rule(
        r"^400 ",  # the document says of both meanings: try the next candidate
        errors.NoCapacity,
        "RunPod answers alike when it has none left and when it dislikes the request itself",
    ),
)
#: $0 is the API; the key is not on any command line, where other users of the machine could see it
_END_SELF = r"""
of() {
  eval "value=\${$1:-}"
  [ -n "$value" ] || value=$(tr '\0' '\n' < /proc/1/environ | sed -n "s/^$1=//p" | head -n 1)
  echo "$value"
}
RUNPOD_API_KEY=$(of RUNPOD_API_KEY); POD=$(of RUNPOD_POD_ID); URL="$0/pods/$POD"
[ -n "$RUNPOD_API_KEY" ] && [ -n "$POD" ] || exit 1
export RUNPOD_API_KEY URL
ask() {
  if command -v curl > /dev/null; then
    echo "header = \"Authorization: Bearer $RUNPOD_API_KEY\"" |
      curl --config - --silent --fail --max-time 60 --request DELETE "$URL"
  else
    python3 -c 'import os
from urllib.request import Request, urlopen
key = "Bearer " + os.environ["RUNPOD_API_KEY"]
urlopen(Request(os.environ["URL"], method="DELETE", headers={"Authorization": key}), timeout=60)'
  fi
}
until ask || runpodctl remove pod "$POD"; do sleep 15; done
"""


class RunPod(Driver):
    """One RunPod account."""

    name = "runpod"
    FEATURES = Features(
        host_key_grade="B",
        containers=False,  # a pod is one, and can't run another
        powered_off_bills=True,
        console_url="https://console.runpod.io/pods",
        leftovers=(),
        boot_s=180.0,
    )
    SETTINGS = ("cloud", "min_cuda")  # which hosts; "12.4": the least CUDA of their driver
    SSH_USER = "root"

    def __init__(self, account: Account) -> None:
        """Check the settings; see the base.

        Raises:
            SpecError: Also for a cloud that does not exist.
        """
        super().__init__(account)
        key, base_url = account.key(), account.text("base_url", _BASE_URL)
        self._api = api_of(account, _BASE_URL, lambda: {"Authorization": f"Bearer {key}"}, _RULES)
        self.features = dataclasses.replace(
            self.features, end_self_argv=("sh", "-c", _END_SELF, base_url.rstrip("/"))
        )
        self._region = account.text("region", "")
        self._image = account.text("image", _IMAGE)
        self._cuda = account.text("min_cuda", _CUDA if self._image == _IMAGE else "")
        self._cloud = account.text("cloud", "secure").lower()
        if self._cloud not in {"secure", "community"}:
            message = f"providers.runpod.cloud must be secure or community, not {self._cloud!r}"
            raise errors.SpecError(message, hint="correct it in config.yaml")

    async def _offers_for(
        self,
        need: Resources,
        wanted: tuple[gpu.Gpu, int] | None,
    ) -> list[Offer]:
        """Ask for the stock of as many GPUs as are needed."""
        listed = await self._offers_of(wanted[1] if wanted else 1)
        disk = math.ceil(need.disk_gb or _DISK_GB) * _DISK_USD_PER_GB_H
        priced = (dataclasses.replace(offer, storage_usd_per_h=disk) for offer in listed)
        return Listed(priced, listed.left_out)

    async def _all_offers(self) -> list[Offer]:
        return await self._offers_of(1)

    async def _offers_of(self, count: int) -> Listed:
        params = {"include": "AVAILABILITY", "product": "POD", "count": count}
        params |= {"cloud": self._cloud.upper()}
        if self._cuda:
            params["minCudaVersion"] = self._cuda
        answer = await self._api.get("/catalog/gpus", params)
        listed = offers_of(need(answer, "gpus"), lambda kind: self._offers_by_place(kind, count))
        here = (offer for offer in listed if self._region in {"", offer.region})
        return Listed(here, listed.left_out)

    def _has(self, kind: Mapping[str, Any], count: int) -> bool:
        """Whether the cloud has so many of them on one host, and the default image drives them."""
        if kind.get("manufacturer") == "AMD" and self._image == _IMAGE:
            return False
        if not kind.get(self._cloud):
            return False
        return bool(need(kind, "maxCount", self._cloud) >= count)

    def _offers_by_place(self, kind: Mapping[str, Any], count: int) -> list[Offer]:
        """One for each data center that has them, the fullest first; else one for all."""
        if not self._has(kind, count):
            return []
        places = {
            word(need(at, "id")): at.get("availability") for at in kind.get("dataCenters") or []
        }
        had = {at: level for at, level in places.items() if level in _STOCK}
        model = chip(word(need(kind, "id")))
        everywhere = Offer(
            provider=self.name,
            type=_type(need(kind, "id"), count),
            price_usd_per_h=price(need(kind, "price", self._cloud)) * count,
            gpu=model.model if model else None,
            gpus=count,
            vram_gb=size(kind.get("memory")),
            available=_in_stock(kind.get("availability")),
            payload={"gpu": need(kind, "id")},
        )
        return [
            dataclasses.replace(everywhere, region=at, available=True)
            for at in sorted(had, key=lambda at: _STOCK.index(had[at]))
        ] or [everywhere]

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Create a pod whose environment holds the run's key; see the port."""
        self.require_ours(order)
        wanted: dict[str, Any] = {"id": offer.payload["gpu"], "count": offer.gpus}
        if self._cuda:
            wanted["minCudaVersion"] = self._cuda
        body: dict[str, Any] = {
            "name": order.tag,
            "image": self._image,
            "gpu": wanted,
            "cloud": self._cloud.upper(),
            "disk": math.ceil(order.disk_gb or _DISK_GB),
            "ports": ["22/tcp"],
            "env": {"PUBLIC_KEY": order.public_key},  # in place of the account's keys
            "startSsh": True,
        }
        if offer.region is not None:
            body["dataCenterIds"] = [offer.region]
        answer = await self._api.send("POST", "/pods", body)
        made = self.made(ident(answer, "id"), offer, order)
        return dataclasses.replace(
            made, price_usd_per_h=rate(answer, "cost") or offer.price_usd_per_h
        )

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one pod; see the port."""
        name = segment(instance_id)
        found = None if name is None else await self._api.find(f"/pods/{name}")
        return None if found is None else self._read(found)

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag as its name; see the port."""
        listed = all_of(await self._api.get("/pods"), "pods")
        ours = [self._read(one) for one in listed if parse_tag(label(one, "name")) is not None]
        return [one for one in ours if one is not None]

    async def terminate(self, instance_id: InstanceId) -> None:
        """Delete a pod with its disk; see the port."""
        name = segment(instance_id)
        if name is not None:
            await end(self.get, instance_id, self._api.remove(f"/pods/{name}"))

    async def check(self) -> list[Finding]:
        """Look for pods of ours that have exited, then read the offers; see the port."""
        pods = await self.list_tagged()
        exited = sum(one.status is InstanceStatus.DEAD for one in pods)
        message = f"the API key is accepted; {len(pods)} pods are towline's, {exited} have exited"
        fix = "`towline gc` ends them: their disks bill" if exited else None
        return [Finding("pods", message, fix), *await super().check()]

    def _read(self, found: Mapping[str, Any]) -> Instance | None:
        """One pod in our words; None when it is gone."""
        word = need(found, "status", kind=str)
        if word == "TERMINATED":
            return None
        host = text(found, "ssh", "direct", "host")
        user, at = text(found, "ssh", "direct", "username"), port(found, "ssh", "direct", "port")
        return Instance(
            id=InstanceId(ident(found, "id")),
            provider=self.name,
            tag=label(found, "name"),
            status=status_of(word, _STATUSES),
            address=self.address(host, at, user or None) if host and at else None,
            started_at=utc_seconds(found.get("createdAt")),
            price_usd_per_h=rate(found, "cost"),
            type=_type(text(found, "gpu", "id"), told(found, "gpu", "count", kind=int) or 0),
            detail="" if word == "RUNNING" else f"{self.name} says {word}",
        )


def _type(name: str, count: int) -> str:
    return name if count == 1 else f"{count}x {name}"


def _in_stock(level: str | None) -> bool | None:
    return None if level is None else level in _STOCK
