"""AWS EC2: https://ec2.<region>.amazonaws.com, through boto3, after AWS's API reference.

Instances, volumes, keys and security groups carry the tag. User-data installs the host key. An
instance that is switched off from within is terminated, so it can end itself without any key; it
bills no more from `shutting-down` on. One account works in one region: setting `region`, else
AWS_REGION, else the profile's. Keys are the account's, else what boto3 finds by itself.

RunInstances carries a client token of tag and offer, so the same create is made once; another
offer of the same run is another create. A token stays with its instance for hours after its end:
the next number is taken then. EC2 is eventually consistent: create waits up to 16 s until its
instance is known; where that is too short, or its answer was lost, `get` may say None and lists
may lack it for some time, which only the caller's settle window covers.

Not verified live: that a terminated instance's token is answered with its present state (the
idempotency guide says only that a repeat "might contain updated information"), that spot takes
InstanceInitiatedShutdownBehavior, and that the usual image's cloud-init installs the host key.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Mapping
from datetime import datetime
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
from towline.core.renter import Renter
from towline.core.task import Resources
from towline.ports import Finding, Memo
from towline.providers.account import Account, Driver, status_of
from towline.providers.ec2_api import Aws, filtered
from towline.providers.ec2_launch import DISK_GB, PRICE_KEY, TAG_KEY, Launcher, word_of
from towline.providers.ec2_market import Market
from towline.providers.ends import end
from towline.providers.parts import ident, need, rate, rows, text, told

#: why an instance has ended, where somebody wished it: a user, or it was switched off from within
_WISHED = ("Client.UserInitiated", "Client.InstanceInitiated")
_TERMINATED = "terminated"
_STATUSES = {
    "pending": InstanceStatus.BUILDING,
    "running": InstanceStatus.ACTIVE,
    "shutting-down": InstanceStatus.TERMINATING,  # bills no more
    "stopping": InstanceStatus.DEAD,
    "stopped": InstanceStatus.DEAD,  # its volume bills
    _TERMINATED: InstanceStatus.DEAD,  # by AWS itself; any other is gone
}
_REMOVE = {
    "key": ("delete_key_pair", "KeyName"),
    "group": ("delete_security_group", "GroupId"),
    "volume": ("delete_volume", "VolumeId"),
}
#: Service Quotas' codes, in vCPUs: a new account has 0 of them
_QUOTAS = {
    "L-DB2E81BA": "G instances on demand",
    "L-417A185B": "P instances on demand",
    "L-3819A6DF": "G instances on spot",
    "L-7212CCBC": "P instances on spot",
}


class Ec2(Driver):
    """One AWS account in one region."""

    name = "ec2"
    FEATURES = Features(
        host_key_grade="A",
        end_self_argv=("sudo", "-n", "shutdown", "-h", "now"),
        user_data=True,
        tags=True,
        idempotency_key=True,
        powered_off_bills=False,  # switched off is terminated
        spot=True,
        console_url="https://console.aws.amazon.com/ec2/home#Instances:",
        leftovers=("key", "group", "volume"),
        boot_s=120.0,
    )
    SETTINGS = ("prices", "subnet", "profile", "image_owner")

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._aws = Aws(account)
        self._market = Market(self._aws, account)
        self._launcher = Launcher(self._aws, account)
        self._ended: set[str] = set()  # by this process, whatever AWS says of the reason

    def renter(self) -> Renter:
        """Which account and region this is; see the port."""
        known = super().renter()
        return dataclasses.replace(known, place={**known.place, "region": self._aws.region})

    async def account_id(self) -> str | None:
        """The number of the account; see the port. Every key may ask for it."""
        answer = await self._aws.read("get_caller_identity", service="sts")
        return str(need(answer, "Account"))

    async def _all_offers(self) -> list[Offer]:
        return await self._market.offers(DISK_GB)

    async def _offers_for(
        self,
        need: Resources,
        wanted: tuple[gpu.Gpu, int] | None,  # noqa: ARG002 - all are listed
    ) -> list[Offer]:
        return await self._market.offers(need.disk_gb or DISK_GB)

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Launch one; see the port."""
        self.require_ours(order)
        found = await self._launcher.launch(offer, order)
        since = _seconds(found.get("LaunchTime"))
        return self.made(ident(found, "InstanceId"), offer, order, since)

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port. Right after create it may not be known yet.

        One that AWS itself has ended is shown as dead, with AWS's reason, until somebody ends it.
        """
        if not _is_id(instance_id):
            return None
        try:
            found = await self._aws.instances(InstanceIds=[instance_id])
        except errors.NotFound:
            return None
        is_gone = word_of(found[0]) == _TERMINATED and not self._was_taken(found[0])
        return None if is_gone else self._read(found[0])

    def _was_taken(self, found: Mapping[str, Any]) -> bool:
        """Whether AWS ended it, as it does with a launch that fails and with spot machines."""
        why = text(found, "StateReason", "Code")
        wished = why.startswith(_WISHED) or ident(found, "InstanceId") in self._ended
        return bool(why) and not wished

    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag; see the port."""
        found = await self._aws.instances(Filters=[filtered("tag-key", TAG_KEY)])
        there = [one for one in found if word_of(one) != _TERMINATED]
        return [self._read(one) for one in there if parse_tag(_asked_tag(one)) is not None]

    async def terminate(self, instance_id: InstanceId) -> None:
        """End an instance; see the port."""
        if not _is_id(instance_id):
            return
        await end(self.get, instance_id, self._terminate(instance_id))

    async def _terminate(self, instance_id: InstanceId) -> None:
        answer = await self._aws.call("terminate_instances", InstanceIds=[instance_id])
        need(answer, "TerminatingInstances", 0)
        self._ended.add(instance_id)

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:  # noqa: ARG002
        """List our keys, groups and such volumes as no instance has; see the port."""
        ours = filtered("tag-key", TAG_KEY)
        keys, groups, volumes = await asyncio.gather(
            self._aws.read("describe_key_pairs", Filters=[ours]),
            self._aws.pages("describe_security_groups", "SecurityGroups", Filters=[ours]),
            self._aws.pages(
                "describe_volumes", "Volumes", Filters=[ours, filtered("status", "available")]
            ),
        )
        found = {"group": groups, "volume": volumes, "key": need(keys, "KeyPairs")}
        return [
            Leftover(
                provider=self.name,
                kind=kind,
                id=ident(row, _REMOVE[kind][1]),
                tag=_asked_tag(row),
                since=_seconds(row.get("CreateTime")),
            )
            for kind, listed in found.items()
            for row in rows(listed)
            if parse_tag(_asked_tag(row)) is not None
        ]

    async def remove(self, leftover: Leftover) -> None:
        """Remove one; a group is refused until its instance is gone; see the port."""
        operation, argument = _REMOVE[leftover.kind]
        try:
            await self._aws.call(operation, **{argument: leftover.id})
        except errors.NotFound:
            return

    async def check(self) -> list[Finding]:
        """Look for offers, a network, an image and quotas; see the port."""
        network = await self._market.network()
        image = await self._launcher.image(for_gpu=True)
        zones = ", ".join(network.subnets)
        return [
            *await super().check(),
            Finding("network", f"{network.vpc} has subnets in {zones}"),
            Finding("image", f"{image.get('Name', '')} ({need(image, 'ImageId')})"),
            *await asyncio.gather(*(self._quota(code, what) for code, what in _QUOTAS.items())),
        ]

    async def _quota(self, code: str, what: str) -> Finding:
        """How many vCPUs may run; what the keys may not ask for is no fault."""
        try:
            answer = await self._aws.read(
                "get_service_quota", service="service-quotas", ServiceCode="ec2", QuotaCode=code
            )
        except (errors.ProviderAuthError, errors.NotFound) as refused:
            return Finding("quota", f"{what}: not known ({refused.message})")
        vcpus = float(need(answer, "Quota", "Value"))
        fix = f"ask for quota {code} in AWS's console, Service Quotas; it takes days"
        return Finding("quota", f"{what}: {vcpus:.0f} vCPUs", None if vcpus else fix)

    def _read(self, found: Mapping[str, Any]) -> Instance:
        """One instance in our words."""
        word, host = word_of(found), text(found, "PublicIpAddress")
        reason = text(found, "StateReason", "Message") or text(found, "StateTransitionReason")
        return Instance(
            id=InstanceId(ident(found, "InstanceId")),
            provider=self.name,
            tag=_tag(found),
            status=status_of(word, _STATUSES),
            address=self.address(host) if host else None,
            started_at=_seconds(found.get("LaunchTime")),
            price_usd_per_h=rate(_tags(found), PRICE_KEY),
            type=text(found, "InstanceType"),
            detail="" if word == "running" else f"ec2 says {word} {reason}".strip(),
        )


def _tags(found: Mapping[str, Any]) -> dict[str, str]:
    listed = rows(told(found, "Tags", kind=list) or [])
    return {text(one, "Key"): text(one, "Value") for one in listed}


def _asked_tag(found: Mapping[str, Any]) -> str:
    """The tag of what was listed for having one.

    Raises:
        ProviderReplyError: It has none.
    """
    return str(need(_tags(found), TAG_KEY))


def _tag(found: Mapping[str, Any]) -> str:
    return _tags(found).get(TAG_KEY, "")


def _is_id(instance_id: str) -> bool:
    """Whether EC2 could have given it; others need no question."""
    return re.fullmatch(r"i-[0-9a-f]{8,17}", instance_id) is not None


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None
