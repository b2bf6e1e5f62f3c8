"""A stand-in for Shadeform, built from the OpenAPI document of its command line (21cc2c4).

Verified against the document: paths, fields, words of statuses, that a deleted instance is not
listed, that a key in use or the default one can't be deleted. Guesses: every error's status, code
and message (the document has none), that two keys of one name are allowed, that unknown fields are
refused, how late an instance is listed.
"""

import base64
import re
import time
import uuid
from datetime import datetime

from clouds.base import Cloud, Refuse, Reply, call

KEY = "shadeform-test-key"
SHADE_OS = ["ubuntu20.04_cuda12.0_shade_os", "ubuntu22.04_cuda12.10_shade_os", "ubuntu24.04"]


def kind(cloud, name, cents, places, *, gpus=1, vram=80, deployment="vm", os_options=SHADE_OS):
    """One entry of /instances/types; places: (region, available) or (region, available, dollars)
    for spot."""
    return {
        "cloud": cloud,
        "shade_instance_type": name,
        "cloud_instance_type": f"{cloud}-{name}",
        "configuration": {
            "memory_in_gb": 180, "storage_in_gb": 750, "vcpus": 28, "num_gpus": gpus,
            "gpu_type": name.split("x")[0] if gpus else None, "interconnect": "pcie", "os_options": os_options,
            "vram_per_gpu_in_gb": vram, "gpu_manufacturer": "nvidia",
        },
        "hourly_price": cents,
        "deployment_type": deployment,
        "availability": [
            {"region": region, "available": available, "display_name": region,
             "rental_type": "spot" if price else "on_demand"}
            | ({"hourly_price": price[0]} if price else {})
            for region, available, *price in places
        ],
        "boot_time": {"min_boot_in_sec": 180, "max_boot_in_sec": 300},
    }  # fmt: skip


TYPES = [
    kind("hyperstack", "H100", 240, [("canada-1", True), ("canada-1", True, "1.25")]),
    kind("nebius", "H100", 260, [("eu-north1", False)], os_options=["ubuntu22.04"]),
    kind("lambdalabs", "A100_80Gx8", 1432, [("us-east-1", True)], gpus=8),
    kind("vast", "H100", 99, [("somewhere", True)], deployment="container"),
    kind("latitude", "H100", 199, [("dallas", True)], deployment="baremetal"),
    kind("massedcompute", "CPU", 20, [("us-central-1", True)], gpus=0, vram=0),
]
_FIELDS = {
    "cloud", "region", "shade_instance_type", "shade_cloud", "name", "rental_type", "os",
    "template_id", "launch_configuration", "volume_ids", "ssh_key_id", "auto_delete", "alert",
    "volume_mount", "tags", "envs",
}  # fmt: skip
_REQUIRED = {"cloud", "region", "shade_instance_type", "shade_cloud", "name"}


class Shadeform(Cloud):
    prefix = "/v1"

    def __init__(self, **more):
        super().__init__(**more)
        self.keys = []  # as GET /sshkeys lists them
        self.sold_out = set()  # (cloud, type)
        self.balance = 100.0
        self.quota = 100

    def left_over(self):
        return [key["id"] for key in self.keys if not key["is_default"]]

    def authorize(self, request):
        if request.headers.get("x-api-key") != KEY:
            raise _refuse(401, "UNAUTHORIZED", "invalid api key")

    def failure(self, status):
        return _refuse(status, "ERROR", f"injected {status}").body

    def new_id(self):
        return str(uuid.uuid4())

    def settle(self):
        super().settle()
        for machine in self.machines.values():
            until = machine.data.get("delete_at")
            if until and until <= time.time() and machine.ended_at is None:
                self.end(machine)

    @call("GET", "/instances/types")
    def instance_types(self, request):
        known = {"cloud", "region", "num_gpus", "gpu_type", "shade_instance_type", "available"}
        if set(request.params) - known - {"sort"}:
            raise _refuse(400, "INVALID", "unknown filter")
        cloud = request.params.get("cloud")
        return {"instance_types": [one for one in TYPES if cloud in {None, one["cloud"]}]}

    @call("GET", "/sshkeys")
    def list_keys(self, request):
        return {"ssh_keys": self.keys}

    @call("POST", "/sshkeys/add")
    def add_key(self, request):
        if set(request.body) != {"name", "public_key"}:
            raise _refuse(400, "INVALID", "name and public_key are needed")
        key = {"id": self.new_id(), "is_default": False, **request.body}
        self.keys.append(key)
        return {"id": key["id"]}

    @call("POST", "/sshkeys/{key_id}/delete")
    def delete_key(self, request, key_id):
        key = next((one for one in self.keys if one["id"] == key_id), None)
        if key is None:
            raise _refuse(404, "NOT_FOUND", "no such ssh key")
        if any(one.data.get("key_id") == key_id for one in self.seen() if not one.ended_at):
            raise _refuse(400, "IN_USE", "the ssh key is in use")
        self.keys.remove(key)
        return Reply(200)

    @call("POST", "/instances/create")
    def launch(self, request):
        body = request.body
        if set(body) - _FIELDS or _REQUIRED - set(body) or body["shade_cloud"] is not True:
            raise _refuse(400, "INVALID", "a field is wrong")
        listed = self._listed(body)
        key = next((one for one in self.keys if one["id"] == body.get("ssh_key_id")), None)
        if key is None or not all(isinstance(tag, str) for tag in body.get("tags", [])):
            raise _refuse(400, "INVALID", "no such ssh key, or a tag is wrong")
        if (body["cloud"], body["shade_instance_type"]) in self.sold_out:
            raise _refuse(409, "OUT_OF_STOCK", "the instance type is out of stock")
        if self.balance <= 0:
            raise _refuse(400, "BALANCE", "insufficient wallet balance")
        if len(self.alive()) >= self.quota:
            raise _refuse(403, "QUOTA", "instance quota exceeded")
        machine = self.make(
            body["name"], body["shade_instance_type"], listed["hourly_price"] / 100,
            public_key=key["public_key"], host_key=_host_key(body.get("launch_configuration")),
            gpu=listed["configuration"]["gpu_type"], gpus=listed["configuration"]["num_gpus"],
            key_id=key["id"], asked=body, delete_at=_delete_at(body.get("auto_delete")),
        )  # fmt: skip
        return {"id": machine.id}

    def _listed(self, body):
        for one in TYPES:
            if (one["cloud"], one["shade_instance_type"]) == (
                body["cloud"],
                body["shade_instance_type"],
            ):
                rental = body.get("rental_type", "on_demand")
                places = {(at["region"], at["rental_type"]) for at in one["availability"]}
                if (body["region"], rental) not in places:
                    break
                if body.get("os") not in {None, *one["configuration"]["os_options"]}:
                    break
                return one
        raise _refuse(400, "INVALID", "no such type, region, rental type or os")

    @call("GET", "/instances")
    def list_instances(self, request):
        return {"instances": [self._instance(one) for one in self.seen()]}

    @call("GET", "/instances/{machine_id}/info")
    def get_instance(self, request, machine_id):
        return self._instance(self._find(machine_id))

    @call("POST", "/instances/{machine_id}/delete")
    def terminate(self, request, machine_id):
        self.end(self._find(machine_id))
        return Reply(200)

    def _find(self, machine_id):
        machine = self.find(machine_id)
        if machine is None:
            raise _refuse(404, "NOT_FOUND", "instance not found")
        return machine

    def _instance(self, machine):
        word = "active" if self.is_active(machine) else "pending_provider"
        if machine.ended_at is not None:
            word = "deleting"
        word = machine.status or word
        asked = machine.data.get("asked", {})
        rental = asked.get("rental_type", "on_demand")
        cents = round(machine.price_usd_per_h * 100)
        return {
            "id": machine.id,
            "cloud_instance_type": f"cloud-{machine.type}",
            "cloud_assigned_id": f"at-the-cloud-{machine.id}",
            "shade_cloud": True,
            "configuration": TYPES[0]["configuration"],
            "cost_estimate": "0.10",
            "cloud": asked.get("cloud", "hyperstack"),
            "region": asked.get("region", "canada-1"),
            "shade_instance_type": machine.type,
            "name": machine.name,
            "ip": machine.host if word == "active" else "",
            "ssh_user": self.user,
            "ssh_port": self.ssh_port,
            "status": word,
            "status_details": machine.data.get("details"),
            "hourly_price": cents,
            "rental_terms": {
                "rental_type": rental,
                "hourly_price": "1.25" if rental == "spot" else f"{cents / 100:.2f}",
            },
            "tags": asked.get("tags"),
            "launch_configuration": asked.get("launch_configuration"),
            "auto_delete": asked.get("auto_delete"),
            "created_at": _text(machine.created_at),
            "deleted_at": "0001-01-01T00:00:00Z",
        }


def _host_key(launch):
    """The key that the startup script would install; None without a script."""
    if launch is None:
        return None
    if launch.keys() != {"type", "script_configuration"} or launch["type"] != "script":
        raise _refuse(400, "INVALID", "launch_configuration is wrong")
    script = base64.b64decode(launch["script_configuration"]["base64_script"]).decode()
    found = re.search(r"echo (\S+) \| base64 -d > \S+/ssh_host_ed25519_key\.new", script)
    return base64.b64decode(found[1]).decode()


def _delete_at(wish):
    if wish is None:
        return None
    if set(wish) - {"date_threshold", "spend_threshold"}:
        raise _refuse(400, "INVALID", "auto_delete is wrong")
    until = datetime.fromisoformat(wish["date_threshold"])
    if until.tzinfo is None:
        raise _refuse(400, "INVALID", "date_threshold is not RFC 3339")
    return until.timestamp()


def _text(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _refuse(status, code, message):
    return Refuse(status, {"code": code, "message": message})
