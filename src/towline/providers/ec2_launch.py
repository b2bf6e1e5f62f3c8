"""Launching one EC2 instance: its image, key, security group, and client token."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from towline import errors
from towline.core.backoff import delays
from towline.core.instance import Offer, Order
from towline.providers.account import Account
from towline.providers.cloud_init import user_data
from towline.providers.ec2_api import Aws, TokenSpent, Untold, filtered
from towline.providers.parts import ident, need

TAG_KEY, PRICE_KEY = "towline", "towline-usd-per-h"
_SSH_PORT = 22
DISK_GB = 100.0
_TOKENS = 20  # instances of one run on one offer
_VISIBLE = (0.5, 4.0, 6)  # pauses and tries until what is new is known everywhere
_OWNERS = ["amazon", "099720109477"]  # the second is Canonical
_GPU_IMAGE = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"
_CPU_IMAGE = "ubuntu/images/hvm-ssd*/ubuntu-noble-24.04-amd64-server-*"
_ENDED = ("shutting-down", "terminated")


class Launcher:
    """Makes the instances of one account."""

    def __init__(self, aws: Aws, account: Account) -> None:
        self._aws = aws
        self._account = account

    async def launch(self, offer: Offer, order: Order) -> Mapping[str, Any]:
        """Add the run's key and security group, then launch, zone after zone.

        Raises:
            NoCapacity: No zone has the type now.
            ProviderError: As `Aws.call`.
        """
        image = await self.image(for_gpu=offer.gpu is not None)
        await self._add_key(order)
        group = await self._group(need(offer.payload, "vpc"), order)
        body = _body(offer, order, image)
        refused = errors.NoCapacity(f"ec2: no zone has {offer.type}")
        for subnet in need(offer.payload, "subnets").split():
            try:
                found = await self._launched(order, {**body, **_placed(subnet, group)})
            except errors.NoCapacity as none_here:
                refused = none_here
            else:
                await self._await_known(ident(found, "InstanceId"))
                return found
        raise refused

    async def _launched(self, order: Order, body: dict[str, Any]) -> Mapping[str, Any]:
        """The instance of the first token that is not spent on one that has ended."""
        for number in range(_TOKENS):
            token = _token(order, body, number)
            try:
                launch = functools.partial(
                    self._aws.call, "run_instances", **body, ClientToken=token
                )
                answer = await self._once_visible(launch)
                found = [need(answer, "Instances", 0, kind=dict)]
            except TokenSpent:
                found = await self._aws.instances(Filters=[filtered("client-token", token)])
                if not found or any(word_of(one) not in _ENDED for one in found):
                    raise  # an earlier create may have made it: the caller looks for the tag
            if word_of(found[0]) not in _ENDED:
                made: Mapping[str, Any] = found[0]
                return made
        raise errors.NoCapacity(f"ec2: {_TOKENS} instances of this run have ended on this offer")

    async def _await_known(self, instance_id: str) -> None:
        """Wait a little until `get` will not take a new instance for one that is gone."""
        ask = functools.partial(self._aws.instances, InstanceIds=[instance_id])
        with contextlib.suppress(errors.ProviderError):  # it is rented, whatever this says
            await self._once_visible(ask)

    async def _once_visible(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask again while EC2 says that it does not know what was just made."""
        first_s, longest_s, tries = _VISIBLE
        for pause_s in itertools.islice(delays(first_s, longest_s), tries):
            try:
                return await ask()
            except (errors.NotFound, Untold):
                await self._account.clock.sleep(pause_s)
        return await ask()

    async def image(self, *, for_gpu: bool) -> Mapping[str, Any]:
        """The image that is set, or the newest usual one.

        Raises:
            ProviderError: There is none; as `Aws.call`.
        """
        word = self._account.text("image", _GPU_IMAGE if for_gpu else _CPU_IMAGE)
        owner = self._account.settings.get("image_owner")
        which: dict[str, Any] = {"ImageIds": [word]}
        if not word.startswith("ami-"):  # a name alone could be anybody's
            which = {
                "Owners": [str(owner)] if owner else _OWNERS,
                "Filters": [
                    filtered("name", word),
                    filtered("state", "available"),
                    filtered("architecture", "x86_64"),
                ],
            }
        found = need(await self._aws.read("describe_images", **which), "Images")
        if not found:
            message = f"ec2: region {self._aws.region} has no image {word!r}"
            hint = "set `providers: {ec2: {image: ami-...}}`; its user is `ssh_user`"
            raise errors.ProviderError(message, hint=hint)
        newest: Mapping[str, Any] = max(found, key=lambda one: str(one.get("CreationDate", "")))
        return newest

    async def _add_key(self, order: Order) -> None:
        """Look first: two keys of one name are refused, and a lost answer may have made one."""
        named = [filtered("key-name", order.tag)]
        if need(await self._aws.read("describe_key_pairs", Filters=named), "KeyPairs"):
            return
        await self._aws.call(
            "import_key_pair",
            KeyName=order.tag,
            PublicKeyMaterial=order.public_key.encode(),
            TagSpecifications=[{"ResourceType": "key-pair", "Tags": tags(order.tag)}],
        )

    async def _group(self, vpc: str, order: Order) -> str:
        """The run's security group, which lets SSH in; made by an earlier try or now."""
        named = [filtered("group-name", order.tag), filtered("vpc-id", vpc)]
        found = await self._aws.pages("describe_security_groups", "SecurityGroups", Filters=named)
        if found and found[0].get("IpPermissions"):
            return str(need(found[0], "GroupId"))
        group = need(found[0] if found else await self._new_group(vpc, order), "GroupId")
        rule = {
            "IpProtocol": "tcp",
            "FromPort": _SSH_PORT,
            "ToPort": _SSH_PORT,
            "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
        }
        allow = functools.partial(
            self._aws.call,
            "authorize_security_group_ingress",
            GroupId=group,
            IpPermissions=[rule],
        )
        await self._once_visible(allow)
        return str(group)

    async def _new_group(self, vpc: str, order: Order) -> Any:
        return await self._aws.call(
            "create_security_group",
            GroupName=order.tag,
            Description="SSH to one run of towline's",
            VpcId=vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": tags(order.tag)}],
        )


def tags(tag: str, **more: str) -> list[dict[str, str]]:
    """What everything of ours carries: the tag as its name, and under a key of its own."""
    named = {"Name": tag, TAG_KEY: tag, **more}
    return [{"Key": key, "Value": value} for key, value in named.items()]


def word_of(found: Mapping[str, Any]) -> str:
    """EC2's word for an instance's state."""
    return str(need(found, "State", "Name"))


def _body(offer: Offer, order: Order, image: Mapping[str, Any]) -> dict[str, Any]:
    """What RunInstances is asked for, but for the place."""
    carried = tags(order.tag, **{PRICE_KEY: f"{offer.price_usd_per_h:.4f}"})
    body = {
        "ImageId": need(image, "ImageId"),
        "InstanceType": offer.type,
        "MinCount": 1,
        "MaxCount": 1,
        "KeyName": order.tag,
        "UserData": user_data(order),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required"},
        "BlockDeviceMappings": [_root(image, order.disk_gb or DISK_GB)],
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": carried} for kind in ("instance", "volume")
        ],
    }
    if offer.spot:
        once = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        body["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": once}
    return body


def _placed(subnet: str, group: str) -> dict[str, Any]:
    """One network interface with a public address, which goes with the instance."""
    interface = {
        "DeviceIndex": 0,
        "SubnetId": subnet,
        "Groups": [group],
        "AssociatePublicIpAddress": True,
        "DeleteOnTermination": True,
    }
    return {"NetworkInterfaces": [interface]}


def _root(image: Mapping[str, Any], disk_gb: float) -> dict[str, Any]:
    """The root volume, at least as large as the image, which goes with the instance."""
    name = need(image, "RootDeviceName")
    sizes = [
        one["Ebs"].get("VolumeSize", 0)
        for one in image.get("BlockDeviceMappings", [])
        if one.get("DeviceName") == name and "Ebs" in one
    ]
    size = max(math.ceil(disk_gb), *sizes)
    return {
        "DeviceName": name,
        "Ebs": {"VolumeSize": size, "VolumeType": "gp3", "DeleteOnTermination": True},
    }


def _token(order: Order, body: Mapping[str, Any], number: int) -> str:
    """At most 64 ASCII characters that stand for one instance of this run on this offer.

    Made of what the offer says, and of nothing that may change between two tries of one create,
    such as the newest image: changed words under an old token are refused, under a new token they
    would be a second instance.
    """
    place = body["NetworkInterfaces"][0]["SubnetId"]
    offer = [body["InstanceType"], place, "InstanceMarketOptions" in body, number]
    return f"{order.tag}-{hashlib.sha256(json.dumps(offer).encode()).hexdigest()[:24]}"
