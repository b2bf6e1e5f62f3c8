"""A stand-in for Lambda Cloud, built from its OpenAPI document 1.10.0 and what clients of it saw.

Verified against the document: paths, fields, error codes, limits of lengths. Not known, and so a
guess: how soon a launched instance is listed, and what a second key of one name is answered.
"""

import re

from clouds.base import Cloud, Refuse, call, host_key_of

KEY = "lambda-test-key"
TYPES = {
    "gpu_1x_h100_pcie": (249, "H100 (80 GB PCIe)", 1, ["us-west-1", "us-east-1"]),
    "gpu_1x_a10": (75, "A10 (24 GB PCIe)", 1, ["us-east-1"]),
    "gpu_8x_a100_80gb_sxm4": (1432, "A100 (80 GB SXM4)", 8, []),
    "cpu_4x_general": (20, "N/A", 0, ["us-east-1"]),
}


class LambdaCloud(Cloud):
    prefix = "/api/v1"

    def __init__(self, **more):
        super().__init__(**more)
        self.keys = {}  # id -> {name, public_key}
        self.sold_out = set()  # (type, region)
        self.sold_out_at_launch = set()  # what is listed as in stock, and is not
        self.gpu_inside = None  # another GPU than was sold
        self.quota = 100

    def left_over(self):
        return [key_id for key_id, key in self.keys.items() if not key.get("foreign")]

    def authorize(self, request):
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise _refuse(401, "global/invalid-api-key", "API key was invalid")

    def failure(self, status):
        return _refuse(status, "global/internal-error", f"injected {status}").body

    @call("GET", "/instance-types")
    def instance_types(self, request):
        return {"data": {name: self._type(name) for name in TYPES}}

    @call("GET", "/ssh-keys")
    def list_keys(self, request):
        return {"data": [{"id": key_id, **key} for key_id, key in self.keys.items()]}

    @call("POST", "/ssh-keys")
    def add_key(self, request):
        name, public_key = request.body["name"], request.body["public_key"]
        if len(name) > 64 or len(public_key) > 4096:
            raise _refuse(400, "global/invalid-parameters", "too long")
        if any(key["name"] == name for key in self.keys.values()):
            raise _refuse(400, "global/duplicate", f"a key named {name} exists")
        key_id = self.new_id()
        self.keys[key_id] = {"name": name, "public_key": public_key}
        return {"data": {"id": key_id, **self.keys[key_id]}}

    @call("DELETE", "/ssh-keys/{key_id}")
    def delete_key(self, request, key_id):
        if self.keys.pop(key_id, None) is None:
            raise _refuse(404, "global/object-does-not-exist", "no such key")
        return {"data": {}}

    @call("POST", "/instance-operations/launch")
    def launch(self, request):
        body = request.body
        known = {
            "region_name", "instance_type_name", "ssh_key_names", "name", "hostname", "image",
            "user_data", "tags", "firewall_rulesets", "file_system_names", "file_system_mounts",
        }  # fmt: skip
        kind, region = body["instance_type_name"], body["region_name"]
        keys = [one for one in self.keys.values() if one["name"] in body["ssh_key_names"]]
        if set(body) - known or len(body["ssh_key_names"]) != 1 or len(body.get("name", "")) > 64:
            raise _refuse(400, "global/invalid-parameters", "a field is wrong")
        for tag in body.get("tags", []):
            if not re.fullmatch(r"[a-z][a-z0-9\-:]+", tag["key"]) or len(tag["value"]) > 128:
                raise _refuse(400, "global/invalid-parameters", "a tag is wrong")
        if kind not in TYPES or not keys:
            raise _refuse(404, "global/object-does-not-exist", "no such type or key")
        if region not in TYPES[kind][3] or (kind, region) in (
            self.sold_out | self.sold_out_at_launch
        ):
            raise _refuse(
                400, "instance-operations/launch/insufficient-capacity",
                "Not enough capacity to fulfill launch request.",
            )  # fmt: skip
        if len(self.alive()) >= self.quota:
            raise _refuse(400, "global/quota-exceeded", "quota exceeded")
        cents, words, gpus, _regions = TYPES[kind]
        machine = self.make(
            body.get("name", ""), kind, cents / 100, public_key=keys[0]["public_key"],
            host_key=host_key_of(body.get("user_data")), gpu=(self.gpu_inside or words.split(" ")[0]) if gpus else None,
            gpus=gpus, tags=body.get("tags", []), region=region,
        )  # fmt: skip
        return {"data": {"instance_ids": [machine.id]}}

    @call("GET", "/instances")
    def list_instances(self, request):
        return {"data": [self._instance(one) for one in self.seen()]}

    @call("GET", "/instances/{machine_id}")
    def get_instance(self, request, machine_id):
        return {"data": self._instance(self._find(machine_id))}

    @call("POST", "/instance-operations/terminate")
    def terminate(self, request):
        found = [self._find(one) for one in request.body["instance_ids"]]
        for machine in found:
            self.end(machine)
        return {"data": {"terminated_instances": [self._instance(one) for one in found]}}

    def _find(self, machine_id):
        machine = self.find(machine_id)
        if machine is None:
            raise _refuse(404, "global/object-does-not-exist", "Specified instance does not exist.")
        return machine

    def _type(self, name):
        cents, words, gpus, regions = TYPES[name]
        return {
            "instance_type": {
                "name": name,
                "description": words,
                "gpu_description": words,
                "price_cents_per_hour": cents,
                "specs": {"vcpus": 26, "memory_gib": 200, "storage_gib": 1024, "gpus": gpus},
            },
            "regions_with_capacity_available": [
                {"name": region, "description": region}
                for region in regions
                if (name, region) not in self.sold_out
            ],
        }

    def _instance(self, machine):
        word = "active" if self.is_active(machine) else "booting"
        if machine.ended_at is not None:
            word = "terminating"
        kind = {"name": machine.type, "price_cents_per_hour": round(machine.price_usd_per_h * 100)}
        if machine.type in TYPES:
            kind = self._type(machine.type)["instance_type"]
        actions = ("migrate", "rebuild", "restart", "cold_reboot", "terminate")
        return {
            "ssh_key_names": [machine.name],
            "file_system_names": [],
            "actions": {name: {"available": True} for name in actions},
            "id": machine.id,
            "name": machine.name,
            "status": machine.status or word,
            "ip": machine.host if word == "active" else None,
            "tags": machine.data.get("tags", []),
            "region": {"name": machine.data.get("region"), "description": "somewhere"},
            "instance_type": kind,
            "jupyter_token": "secret-of-the-fake",
        }


def _refuse(status, code, message):
    return Refuse(status, {"error": {"code": code, "message": message}})
