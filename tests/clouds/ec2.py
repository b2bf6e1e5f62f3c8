"""A stand-in for EC2 in one region: moto's, made stricter and given time, prices and machines.

From moto 5 (https://docs.getmoto.org), asked in this process: instance types, offerings, filters,
tags, keys, security groups, volumes, networks, describe calls and their XML. Written here after
AWS's API reference, for moto has none of it: client tokens (same token and parameters, same
instance; other parameters, IdempotentParameterMismatch), the states pending and shutting-down,
`terminated` instances that stay listed, shutdown = terminate, capacity and vCPU quotas, a group that
can't be deleted while an instance has it, prices on demand and on spot, service quotas, pages.

Guesses: HTTP status codes of some errors, what a token of an ended instance is answered (here: that
instance in its present state), and the order in which a request is checked.

moto keeps its state in the process, so only the newest of these clouds lives.
"""

import base64
import binascii
import json
import os
import re
import time
from urllib.parse import parse_qsl, urlencode
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from clouds.base import Cloud, Refuse, call, host_key_of

os.environ |= {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # read once, when moto is imported
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
    "MOTO_ENABLE_AMI_VALIDATION": "true",
    "MOTO_ENABLE_KEYPAIR_VALIDATION": "true",
}

KEY_ID, SECRET = "AKIATESTTESTTESTTEST", "ec2-test-secret"
REGION, ACCOUNT = "us-east-1", "123456789012"
#: type -> USD per hour on demand; others have no price
PRICES = {"p5.4xlarge": 6.88, "p5.48xlarge": 55.04, "g6.xlarge": 0.8048, "g5.xlarge": 1.006}
#: type -> zone -> USD per hour on spot
SPOT = {"p5.4xlarge": {"us-east-1a": 3.1, "us-east-1b": 2.9}, "g6.xlarge": {"us-east-1a": 0.35}}
_DLAMI = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04)"
_UBUNTU = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server"
_IMAGES = [
    ("ami-0000000000000dd01", f"{_DLAMI} 20260601", "898082745236", "amazon", "2026-06-01"),
    ("ami-0000000000000dd02", f"{_DLAMI} 20261101", "898082745236", "amazon", "2026-11-01"),
    ("ami-0000000000000bad1", f"{_DLAMI} 20270101", "666666666666", None, "2027-01-01"),
    ("ami-0000000000000bb01", f"{_UBUNTU}-20261001", "099720109477", None, "2026-10-01"),
]
_CODES = {
    "pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64,
    "stopped": 80,
}  # fmt: skip
#: what the base class's failures are at EC2
_FAILURES = {
    "429": (503, "RequestLimitExceeded"),
    "402": (403, "OptInRequired"),
    "403": (403, "UnauthorizedOperation"),
    "500": (500, "InternalError"),
    "503": (503, "Unavailable"),
    "400": (400, "OperationNotPermitted"),
    "409": (409, "IncorrectState"),
    **dict.fromkeys(("refused", "unsuccessful", "failed"), (200, "InternalError")),
}
_RUN_FIELDS = {
    "Action", "Version", "ImageId", "InstanceType", "MinCount", "MaxCount", "KeyName", "UserData",
    "InstanceInitiatedShutdownBehavior", "MetadataOptions", "BlockDeviceMapping",
    "TagSpecification", "InstanceMarketOptions", "NetworkInterface", "ClientToken", "SubnetId",
    "SecurityGroupId", "Placement", "IamInstanceProfile", "EbsOptimized",
}  # fmt: skip


def _forwarded(action):
    """A call that is moto's as it is."""

    @call("POST", f"/{action}")
    def forward(self, request):
        return self._ask(request)

    return forward


class Ec2(Cloud):
    settings = {"region": REGION}  # noqa: RUF012 - of its account in config.yaml
    at_once = 1  # moto keeps its state in the process
    page = 3  # reservations and rows in one answer

    describe_images = _forwarded("DescribeImages")
    describe_subnets = _forwarded("DescribeSubnets")
    describe_types = _forwarded("DescribeInstanceTypes")
    describe_offerings = _forwarded("DescribeInstanceTypeOfferings")
    describe_keys = _forwarded("DescribeKeyPairs")
    import_key = _forwarded("ImportKeyPair")
    delete_key = _forwarded("DeleteKeyPair")
    describe_groups = _forwarded("DescribeSecurityGroups")
    describe_volumes = _forwarded("DescribeVolumes")
    delete_volume = _forwarded("DeleteVolume")

    @call("POST", "/GetCallerIdentity")
    def caller_identity(self, request):
        return (
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<GetCallerIdentityResult><Account>{ACCOUNT}</Account></GetCallerIdentityResult>"
            "</GetCallerIdentityResponse>"
        )

    def __init__(self, *, group_late_s=0.0, known_late_s=0.0, **more):
        super().__init__(**more)
        #: how long a new group, and an instance whose create was answered, are not known yet
        self.group_late_s, self.known_late_s = group_late_s, known_late_s
        self.sold_out = set()  # (type, zone)
        self.quota = 1000  # vCPUs
        self.tokens = {}  # client token -> (parameters, machine's id, answer)
        self.refusals = {}  # action -> (status, code): of all its calls
        self.headers = {}  # of the last request
        self._late_groups = {}  # id -> when it is known everywhere
        self._hidden = {}  # machine's id -> moto's reservation
        from moto.ec2.models import ec2_backends
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.test import Client

        self._moto = Client(DomainDispatcherApplication(create_backend_app))
        self._moto.post("/moto-api/reset")
        self.backend = ec2_backends[ACCOUNT][REGION]
        for image in _IMAGES:
            self._add_image(*image)

    def _add_image(self, ami_id, name, owner, alias, day):
        from datetime import UTC, datetime

        from moto.ec2.models.amis import Ami

        self.backend.amis[ami_id] = Ami(
            self.backend, ami_id, name=name, owner_id=owner, owner_alias=alias, public=True,
            architecture="x86_64", root_device_type="ebs", virtualization_type="hvm",
            creation_date=datetime.fromisoformat(day).replace(tzinfo=UTC), region_name="us-east-1a",
        )  # fmt: skip

    # -- what the base class asks ---------------------------------------------------------------

    def answer(self, method, target, headers, raw):
        """All calls have one path: the action's name takes its place."""
        action = dict(parse_qsl(raw.decode(errors="replace"))).get("Action", "")
        action = headers.get("x-amz-target", "").rpartition(".")[2] or action
        return super().answer(method, f"/{action}", headers, raw)

    def authorize(self, request):
        self.headers = request.headers
        if f"Credential={KEY_ID}/" not in request.headers.get("authorization", ""):
            raise _refuse(401, "AuthFailure", "AWS was not able to validate the access credentials")
        action = request.path.removeprefix("/")
        if action in self.refusals:
            status, code = self.refusals[action]
            if "x-amz-target" in request.headers:  # of the other services, which speak JSON
                raise Refuse(status, {"__type": code, "message": "refused by the test"})
            raise _refuse(status, code, "refused by the test")

    def _failed(self, kind):
        if kind not in _FAILURES:
            return super()._failed(kind)
        status, code = _FAILURES[kind]
        return status, _error(code, f"injected {kind}"), {}

    def _read_wrongly(self, name, kind, answer):
        if kind not in {"partial", "empty", "null"}:
            return super()._read_wrongly(name, kind, answer)
        status, text, headers = answer
        root = ET.fromstring(text)
        rows = next(child for child in root if child.tag.endswith(("Set", "Info")))
        if kind == "null":
            root.remove(rows)
        for row in list(rows)[-1:] if kind == "partial" else list(rows):
            rows.remove(row)
        return status, ET.tostring(root, encoding="unicode"), headers

    def left_over(self):
        named = [(key.key_name, key.key_name) for key in self.backend.key_pairs.values()]
        named += [
            (group.id, group.name)
            for groups in self.backend.groups.values()
            for group in groups.values()
        ]
        named += [
            (volume.id, tag["value"])
            for volume in self.backend.volumes.values()
            if volume.status == "available"
            for tag in volume.get_tags()
        ]
        return [one for one, name in named if name.startswith("towline-")]

    def publish_image(self, ami_id="ami-0000000000000dd03"):
        """A newer one of the usual image appears."""
        _ami, _name, owner, alias, _day = _IMAGES[0]
        self._add_image(ami_id, f"{_DLAMI} 20261120", owner, alias, "2026-11-20")

    def zone_of(self, instance_id):
        return self.backend.get_instance(instance_id).availability_zone

    def place_foreign(self, name, **data):
        """With our key of tags, as a look-alike may have it."""
        made = self.backend.run_instances(
            _IMAGES[-1][0], 1, None, [], instance_type="g6.xlarge", is_instance_type_default=False,
            region_name=REGION, tags={"instance": {"Name": name, "towline": name}},
            key_name=self._foreign_key(),
        )  # fmt: skip
        return self.make(
            name, "foreign", 1.0, foreign=True, machine_id=made.instances[0].id, **data
        )

    def _foreign_key(self):
        if "foreign" not in self.backend.key_pairs:
            self.backend.create_key_pair("foreign", "ed25519", None)
        return "foreign"

    def take_away(self, machine, code, message):
        """AWS itself ends it, as it does with a launch that fails and with spot machines."""
        machine.data["reason"] = (code, message)
        self.end(machine)

    def switched_off(self, machine):
        behaviour = self._instance(machine).instance_initiated_shutdown_behavior
        if behaviour == "terminate":
            self.end(machine)
        else:
            machine.status = "stopped"

    # -- instances ------------------------------------------------------------------------------

    @call("POST", "/RunInstances")
    def launch(self, request):
        form = dict(parse_qsl(request.text, keep_blank_values=True))
        unknown = {key.split(".")[0] for key in form} - _RUN_FIELDS
        if unknown:
            raise _refuse(400, "UnknownParameter", f"not recognized: {sorted(unknown)}")
        token = form.pop("ClientToken", None)
        if token is not None and (len(token) > 64 or not token.isascii()):
            raise _refuse(400, "InvalidParameterValue", "ClientToken: at most 64 ASCII characters")
        if token in self.tokens:
            return self._again(form, token)
        self._require_room(form)
        self._require_groups(form)
        text = self._ask(request)
        machine = self._machine(form, re.search(r"<instanceId>(i-\w+)<", text)[1])
        machine.visible_at += self.known_late_s
        if token is not None:
            self.tokens[token] = (form, machine.id, text)
        return _in_state(text, self._word(machine))

    def _again(self, form, token):
        """An old token: the instance that it has made, as it is now."""
        before, machine_id, text = self.tokens[token]
        if form != before:
            message = "The request uses the same client token as a previous, but non-identical one."
            raise _refuse(400, "IdempotentParameterMismatch", message)
        return _in_state(text, self._word(self.machines[machine_id]))

    def _require_room(self, form):
        kind, zone = form["InstanceType"], self._zone(form)
        spot = form.get("InstanceMarketOptions.MarketType") == "spot"
        sizes = [self._type(one.type)["VCpuInfo"]["DefaultVCpus"] for one in self.alive()]
        if sum(sizes) + self._type(kind)["VCpuInfo"]["DefaultVCpus"] > self.quota:
            code = "MaxSpotInstanceCountExceeded" if spot else "VcpuLimitExceeded"
            raise _refuse(400, code, "You have requested more vCPU capacity than your limit.")
        if (kind, zone) in self.sold_out:
            message = f"We currently do not have sufficient {kind} capacity in {zone}."
            raise _refuse(500, "InsufficientInstanceCapacity", message)

    def _require_groups(self, form):
        for key, value in form.items():
            if not re.fullmatch(r"NetworkInterface\.\d+\.SecurityGroupId\.\d+", key):
                continue
            known = any(value in groups for groups in self.backend.groups.values())
            if not known or self._late_groups.get(value, 0.0) > time.time():
                raise _refuse(
                    400, "InvalidGroup.NotFound", f"The security group '{value}' does not exist"
                )

    def _machine(self, form, machine_id):
        """The machine behind an instance that moto has made."""
        kind = form["InstanceType"]
        spot = form.get("InstanceMarketOptions.MarketType") == "spot"
        card = next(iter(self._type(kind).get("GpuInfo", {}).get("Gpus", [])), {})
        tags = self._instance_tags(machine_id)
        key = self.backend.key_pairs[form["KeyName"]]
        memory = card.get("MemoryInfo", {}).get("SizeInMiB")
        return self.make(
            tags.get("Name", ""), kind, SPOT[kind][self._zone(form)] if spot else PRICES[kind],
            machine_id=machine_id, public_key=key.material_public.decode(),
            host_key=host_key_of(_user_data(form)), gpu=card.get("Name"),
            gpus=card.get("Count", 0), memory_mib=memory, spot=spot,
            groups=[value for key, value in form.items() if ".SecurityGroupId." in key],
        )  # fmt: skip

    @call("POST", "/DescribeInstances")
    def list_instances(self, request):
        form = dict(parse_qsl(request.text))
        if form.get("Filter.1.Name") == "client-token":  # a filter that moto has not
            _form, machine_id, _text = self.tokens.get(form["Filter.1.Value.1"], (None, None, None))
            if machine_id is None or self.machines[machine_id].visible_at > time.time():
                return _answer("DescribeInstances", "<reservationSet/>")
            form = {
                "Action": form["Action"],
                "Version": form["Version"],
                "InstanceId.1": machine_id,
            }
            request.text = urlencode(form)
        pages = {} if "InstanceId.1" in form else {"MaxResults": self.page}
        return self._ask(request, **pages)

    @call("POST", "/TerminateInstances")
    def terminate(self, request):
        form = dict(parse_qsl(request.text))
        ids = [value for key, value in form.items() if key.startswith("InstanceId.")]
        for one in ids:
            if not re.fullmatch(r"i-[0-9a-f]{8,17}", one):
                raise _refuse(400, "InvalidInstanceID.Malformed", f'Invalid id: "{one}"')
            if self.find(one) is None and not self._was(one):
                raise _refuse(
                    400, "InvalidInstanceID.NotFound", f"The instance ID '{one}' does not exist"
                )
        rows = ""
        for one in ids:
            machine, before = self.machines[one], self._word(self.machines[one])
            self.end(machine)
            rows += (
                f"<item><instanceId>{one}</instanceId>"
                f"<currentState>{_state(self._word(machine))}</currentState>"
                f"<previousState>{_state(before)}</previousState></item>"
            )
        return _answer("TerminateInstances", f"<instancesSet>{rows}</instancesSet>")

    # -- groups, prices, quotas -----------------------------------------------------------------

    @call("POST", "/CreateSecurityGroup")
    def create_group(self, request):
        text = self._ask(request)
        group = re.search(r"<groupId>(sg-\w+)<", text)[1]
        self._late_groups[group] = time.time() + self.group_late_s
        return text

    @call("POST", "/AuthorizeSecurityGroupIngress")
    def allow_ingress(self, request):
        return self._ask(request)

    @call("POST", "/DeleteSecurityGroup")
    def delete_group(self, request):
        self.settle()
        group = dict(parse_qsl(request.text))["GroupId"]
        for machine in self.machines.values():
            if group in machine.data.get("groups", []) and self._word(machine) != "terminated":
                raise _refuse(
                    400, "DependencyViolation", f"resource {group} has a dependent object"
                )
        return self._ask(request)

    @call("POST", "/DescribeSpotPriceHistory")
    def spot_prices(self, request):
        form = dict(parse_qsl(request.text))
        if form.get("ProductDescription.1") != "Linux/UNIX" or "StartTime" not in form:
            raise _refuse(400, "InvalidParameterValue", "this stand-in knows Linux's prices of now")
        types = {value for key, value in form.items() if key.startswith("InstanceType.")}
        rows = [
            f"<item><instanceType>{kind}</instanceType>"
            f"<productDescription>Linux/UNIX</productDescription><spotPrice>{price:.6f}</spotPrice>"
            f"<timestamp>{moment}</timestamp><availabilityZone>{zone}</availabilityZone></item>"
            for kind, zones in SPOT.items()
            if kind in types
            for zone, now in zones.items()
            for moment, price in (
                ("2026-11-02T00:00:00.000Z", now),
                ("2026-11-01T00:00:00.000Z", 9 * now),
            )
        ]
        start = int(form.get("NextToken") or 0)
        after = start + self.page if start + self.page < len(rows) else ""
        return _answer(
            "DescribeSpotPriceHistory",
            f"<spotPriceHistorySet>{''.join(rows[start : start + self.page])}</spotPriceHistorySet>"
            f"<nextToken>{after}</nextToken>",
        )

    @call("POST", "/GetProducts")
    def products(self, request):
        asked = {one["Field"]: one["Value"] for one in request.body["Filters"]}
        if request.body["ServiceCode"] != "AmazonEC2" or asked["regionCode"] != REGION:
            return {"FormatVersion": "aws_v1", "PriceList": []}
        rows = [_product(kind, price) for kind, price in {**PRICES, "p4d.24xlarge": 0.0}.items()]
        start = int(request.body.get("NextToken") or 0)
        more = {"NextToken": str(start + self.page)} if start + self.page < len(rows) else {}
        return {"FormatVersion": "aws_v1", "PriceList": rows[start : start + self.page], **more}

    @call("POST", "/GetServiceQuota")
    def service_quota(self, request):
        code = request.body["QuotaCode"]
        return {"Quota": {"ServiceCode": "ec2", "QuotaCode": code, "Value": float(self.quota)}}

    # -- moto -----------------------------------------------------------------------------------

    def _ask(self, request, **more):
        """moto's answer, with its instances brought to the present before."""
        self.settle()
        for machine in self.machines.values():
            self._sync(machine)
        text = request.text + "".join(f"&{key}={value}" for key, value in more.items())
        headers = {key: request.headers[key] for key in ("authorization", "content-type")}
        answer = self._moto.post("/", data=text, headers=headers)
        if answer.status_code != 200:
            raise Refuse(answer.status_code, answer.get_data(as_text=True))
        return answer.get_data(as_text=True)

    def _sync(self, machine):
        if machine.visible_at > time.time():
            for number, reservation in list(self.backend.reservations.items()):
                if reservation.instances[0].id == machine.id:
                    self._hidden[machine.id] = self.backend.reservations.pop(number)
            return
        hidden = self._hidden.pop(machine.id, None)
        if hidden is not None:
            self.backend.reservations[hidden.id] = hidden
        instance, word = self._instance(machine), self._word(machine)
        if word == "terminated" and instance.state != "terminated":
            self.backend.terminate_instances([machine.id])
        instance._state.name, instance._state.code = word, _CODES[word]
        if "reason" in machine.data:
            instance.state_reason.code, instance.state_reason.message = machine.data["reason"]
        instance.nics[0].public_ip = machine.host if word == "running" else None

    def _instance(self, machine):
        return self.backend.get_instance(machine.id)

    def _instance_tags(self, machine_id):
        return {
            tag["key"]: tag["value"] for tag in self.backend.get_instance(machine_id).get_tags()
        }

    def _word(self, machine):
        """EC2's word for a machine's state."""
        if machine.ended_at is not None:
            return "shutting-down" if machine.gone_at > time.time() else "terminated"
        if machine.status:
            return machine.status
        return "running" if self.is_active(machine) else "pending"

    def _was(self, machine_id):
        machine = self.machines.get(machine_id)
        return machine is not None and machine.ended_at is not None

    def _type(self, name):
        from moto.ec2.models.instance_types import INSTANCE_TYPES

        return INSTANCE_TYPES[name]

    def _zone(self, form):
        subnet = form.get("NetworkInterface.1.SubnetId") or form["SubnetId"]
        return self.backend.get_subnet(subnet).availability_zone


def _user_data(form):
    try:
        text = base64.b64decode(form.get("UserData", ""), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _refuse(
            400, "InvalidParameterValue", "Invalid BASE64 encoding of user data"
        ) from None
    if len(text) > 16384:
        raise _refuse(400, "InvalidParameterValue", "User data is limited to 16384 bytes")
    return text


def _product(kind, price):
    terms = {
        "A.B": {
            "priceDimensions": {"A.B.C": {"unit": "Hrs", "pricePerUnit": {"USD": f"{price:.10f}"}}}
        }
    }
    attributes = {"instanceType": kind, "operatingSystem": "Linux"}
    return json.dumps({"product": {"attributes": attributes}, "terms": {"OnDemand": terms}})


def _state(word):
    return f"<code>{_CODES[word]}</code><name>{word}</name>"


def _in_state(text, word):
    """An answer of RunInstances with its instance in that state."""
    state = f"<instanceState>{_state(word)}</instanceState>"
    return re.sub(r"<instanceState>.*?</instanceState>", state, text, flags=re.DOTALL)


def _answer(action, inner):
    return (
        f'<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>test</requestId>{inner}</{action}Response>"
    )


def _error(code, message):
    return (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        "</Errors><RequestID>test</RequestID></Response>"
    )


def _refuse(status, code, message):
    return Refuse(status, _error(code, message))
