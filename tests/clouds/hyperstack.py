"""A stand-in for Hyperstack, built from its OpenAPI document of June 2026 and its pages on billing.

Verified against the document: paths, fields, limits of lengths, the form of errors, what is
required. Seen by clients: flavors' GPU names are the pricebook's names, which prices one GPU; names
of images. Not known, and so a guess: the words of a refusal, that `count` is of all pages, that a
page past the end is a 404, how large a page may be, that names of keys clash in all environments.
"""

import time
from datetime import UTC, datetime

from clouds.base import Cloud, Refuse, call, host_key_of

KEY = "hyperstack-test-key"
#: name -> GPU, how many, regions
FLAVORS = {
    "n3-H100x1": ("H100-80G-PCIe", 1, ["CANADA-1", "NORWAY-1"]),
    "n3-H100x2": ("H100-80G-PCIe", 2, ["CANADA-1"]),
    "n3-A100x4": ("A100-80G-PCIe", 4, ["NORWAY-1"]),
    "n3-H100-spotx1": ("H100-80G-PCIe-spot", 1, ["CANADA-1"]),
    "n1-cpu-small": ("", 0, ["CANADA-1"]),
    "n3-X100x1": ("X100-unpriced", 1, ["CANADA-1"]),
}
PRICES = {
    "H100-80G-PCIe": 1.90, "A100-80G-PCIe": "1.35", "H100-80G-PCIe-spot": 0.95, "Public IP": None,
}  # fmt: skip
IMAGES = (
    "Ubuntu Server 22.04 LTS R535 CUDA 12.2 with Docker",
    "Ubuntu Server 24.04 LTS R570 CUDA 12.8",
    "Ubuntu Server 24.04 LTS R550 CUDA 12.4",
    "Ubuntu Server 24.04 LTS",
    "Windows Server 2022",
)
#: an image made for one flavor only
HARD = "Ubuntu Server 26.04 LTS R600 CUDA 13.1"
_KNOWN = {
    "assign_floating_ip", "callback_url", "count", "create_bootable_volume",
    "enable_port_randomization", "enhanced_monitoring_enabled", "environment_name", "flavor",
    "flavor_name", "image_name", "key_name", "labels", "name", "profile", "security_rules",
    "user_data", "volume_name",
}  # fmt: skip
_REQUIRED = {"count", "environment_name", "flavor_name", "key_name", "name"}


class Hyperstack(Cloud):
    prefix = "/v1"

    def __init__(self, **more):
        super().__init__(**more)
        self.environments = {1: ("default-CANADA-1", "CANADA-1"), 2: ("nordic", "NORWAY-1")}
        self.keys = {}  # id -> {name, environment, public_key}
        self.stock = {}  # (region, GPU) -> {"1x": machines}; what is not here is in stock
        self.spent, self.quota = False, 100
        self.page_limit, self.counts_page, self.empty_past_end = 100, False, False
        self.randomizes_anyway = False
        self._ids = 40

    def new_id(self):
        self._ids += 1
        return str(self._ids)

    def left_over(self):
        return list(self.keys)

    def authorize(self, request):
        if request.headers.get("api_key") != KEY:
            raise _refuse(401, "Unauthorized. Please provide a valid API key", "unauthorized")

    def failure(self, status):
        words = "Rate limit exceeded" if status == 429 else f"injected {status}"
        return _refuse(status, words, "injected").body

    # -- what there is --------------------------------------------------------------------------

    @call("GET", "/core/flavors")
    def list_flavors(self, request):
        groups = {}
        for name, (model, count, regions) in FLAVORS.items():
            for region in regions:
                groups.setdefault((model, region), []).append({
                    "id": len(groups), "name": name, "display_name": name, "gpu": model,
                    "gpu_count": count, "region_name": region, "cpu": 28, "ram": 180.0,
                    "disk": 100, "ephemeral": 750,
                    "stock_available": self._left(region, model, count) > 0,
                })  # fmt: skip
        data = [
            {"gpu": model, "region_name": region, "flavors": flavors}
            for (model, region), flavors in groups.items()
        ]
        return _good("Getting flavors successful", data=data)

    @call("GET", "/core/stocks")
    def list_stocks(self, request):
        regions = {}
        for (region, model), configurations in self.stock.items():
            regions.setdefault(region, []).append({
                "model": model, "available": str(max(configurations.values())),
                "configurations": {"8x": None, **configurations}, "planned_7_days": "0",
            })  # fmt: skip
        return {
            "stocks": [
                {"region": region, "stock-type": "GPU", "models": models}
                for region, models in regions.items()
            ]
        }

    @call("GET", "/pricebook")
    def pricebook(self, request):
        return [
            {
                "id": number, "name": name, "value": value, "original_value": value,
                "discount_applied": False, "start_time": None, "end_time": None,
            }
            for number, (name, value) in enumerate(PRICES.items())
        ]  # fmt: skip

    @call("GET", "/core/images")
    def list_images(self, request):
        region = request.params["region"]
        listed = [{"name": name, "flavor_restrictions": {}} for name in IMAGES]
        flavors = {"compatible_flavors": [{"flavor_name": "n3-A100x4"}], "restriction_type": "hard"}
        listed.append({"name": HARD, "flavor_restrictions": flavors})
        private = "Ubuntu 26.04 with CUDA 13.9, my snapshot"
        listed.append({"name": private, "is_public": False, "flavor_restrictions": None})
        group = {"region_name": region, "type": "Ubuntu", "logo": "", "images": listed}
        return _good("Getting images successful", images=[group])

    @call("GET", "/core/environments")
    def list_environments(self, request):
        listed = [
            {"id": number, "name": name, "region": region}
            for number, (name, region) in self.environments.items()
        ]
        return self._page(request, "environments", listed)

    @call("GET", "/billing/user-credit/credit")
    def credit(self, request):
        data = {"credit": 0 if self.spent else 25.5, "can_create_instance": not self.spent}
        return _good("OK", data={**data, "threshold": 0})

    # -- keys -----------------------------------------------------------------------------------

    @call("GET", "/core/keypairs")
    def list_keys(self, request):
        listed = [
            {"id": int(key_id), "created_at": "2026-01-02T03:04:05", **key}
            for key_id, key in self.keys.items()
        ]
        return self._page(request, "keypairs", listed)

    @call("POST", "/core/keypairs")
    def add_key(self, request):
        body = request.body
        if set(body) != {"name", "environment_name", "public_key"} or len(body["name"]) > 50:
            raise _refuse(400, "Invalid payload", "bad_request")
        if any(key["name"] == body["name"] for key in self.keys.values()):
            raise _refuse(409, "A keypair with this name exists", "conflict")
        environment = self._environment(body["environment_name"])
        key_id = self.new_id()
        self.keys[key_id] = {
            "name": body["name"], "environment": {"name": environment},
            "public_key": body["public_key"], "fingerprint": "00:11",
        }  # fmt: skip
        return _good("Import SSH successful", keypair={"id": int(key_id), **self.keys[key_id]})

    @call("DELETE", "/core/keypair/{key_id}")
    def delete_key(self, request, key_id):
        if self.keys.pop(key_id, None) is None:
            raise _refuse(404, "Keypair not found", "not_found")
        return _good("Keypair deleted")

    # -- machines -------------------------------------------------------------------------------

    @call("POST", "/core/virtual-machines")
    def launch(self, request):
        body = request.body
        if set(body) - _KNOWN or _REQUIRED - set(body) or len(body["name"]) > 50:
            raise _refuse(400, "Invalid payload", "bad_request")
        environment = self._environment(body["environment_name"])
        region = dict(self.environments.values())[environment]
        model, count, regions = FLAVORS.get(body["flavor_name"], ("", 0, []))
        if region not in regions:
            raise _refuse(404, "Flavor not found in this region", "not_found")
        self._require_image(body)
        if any(one.name == body["name"] for one in self.seen()):
            raise _refuse(409, "A virtual machine with this name exists", "conflict")
        if self.spent:
            raise _refuse(400, "Request failed", "insufficient_credit")
        if len(self.alive()) >= self.quota:
            raise _refuse(400, "Quota exceeded for instances", "bad_request")
        if self._left(region, model, count) < 1:
            raise _refuse(400, "Not enough stock for this flavor", "bad_request")
        machine = self.make(
            body["name"], body["flavor_name"], float(PRICES[model]) * count,
            public_key=self._public_key(body["key_name"], environment),
            host_key=host_key_of(body.get("user_data")), gpu=model.split("-")[0], gpus=count,
            labels=body.get("labels", []), environment=environment, region=region,
            rules=body.get("security_rules", []), address=body.get("assign_floating_ip", False),
            randomized=body.get("enable_port_randomization", True) or self.randomizes_anyway,
        )  # fmt: skip
        return _good("Virtual machine creation started", instances=[self._instance(machine)])

    @call("GET", "/core/virtual-machines")
    def list_instances(self, request):
        return self._page(request, "instances", [self._instance(one) for one in self.seen()])

    @call("GET", "/core/virtual-machines/{machine_id}")
    def get_instance(self, request, machine_id):
        return _good("OK", instance=self._instance(self._find(machine_id)))

    @call("DELETE", "/core/virtual-machines/{machine_id}")
    def terminate(self, request, machine_id):
        self.end(self._find(machine_id))
        return _good("Virtual machine deletion started")

    @call("GET", "/core/virtual-machines/{machine_id}/{verb}")
    def act(self, request, machine_id, verb):
        """Stop, start, hibernate, hard-reboot: a GET that changes something."""
        self.violations.append(f"{verb} {machine_id}")
        return _good("OK")

    def switched_off(self, machine):
        machine.status = machine.status or "SHUTOFF"

    # -- inside ---------------------------------------------------------------------------------

    def _left(self, region, model, count):
        return self.stock.get((region, model), {}).get(f"{count}x", 9)

    def _environment(self, name):
        if name not in dict(self.environments.values()):
            raise _refuse(404, "Environment not found", "not_found")
        return name

    def _require_image(self, body):
        image, flavor = body.get("image_name"), body["flavor_name"]
        if image not in IMAGES and not (image == HARD and flavor == "n3-A100x4"):
            raise _refuse(404, "Image not found", "not_found")

    def _public_key(self, name, environment):
        for key in self.keys.values():
            if (key["name"], key["environment"]["name"]) == (name, environment):
                return key["public_key"]
        raise _refuse(404, "Keypair not found in this environment", "not_found")

    def _find(self, machine_id):
        machine = self.find(machine_id)
        if machine is None:
            raise _refuse(404, "Virtual machine not found", "not_found")
        return machine

    def _page(self, request, field, listed):
        page = int(request.params.get("page", 1))
        size = min(int(request.params.get("page_size", 10)), self.page_limit)
        part = listed[(page - 1) * size : page * size]
        if page > 1 and not part and not self.empty_past_end:
            raise _refuse(404, "Page not found", "not_found")
        return _good(
            "OK",
            count=len(part if self.counts_page else listed),
            page=page,
            page_size=size,
            **{field: part},
        )

    def _instance(self, machine):
        word = "ACTIVE" if self.is_active(machine) else "BUILD"
        if machine.ended_at is not None:
            word = "DELETING"
        reachable = machine.data.get("address") and _lets_ssh_in(machine.data["rules"])
        environment = {
            "name": machine.data.get("environment"),
            "region": machine.data.get("region"),
        }
        return {
            "id": int(machine.id),
            "name": machine.name,
            "status": machine.status if machine.status and machine.ended_at is None else word,
            "vm_state": "active",
            "power_state": "RUNNING",
            "fixed_ip": "10.0.0.5",
            "floating_ip": machine.host if reachable and time.time() >= machine.active_at else None,
            "floating_ip_status": "ATTACHED" if reachable else None,
            "port_randomization": bool(machine.data.get("randomized")),
            "labels": machine.data.get("labels", []),
            "environment": environment,
            "flavor": {"name": machine.type},
            "keypair": {"name": machine.name},
            "created_at": datetime.fromtimestamp(machine.created_at, UTC).replace(tzinfo=None).isoformat(),
        }  # fmt: skip


def _lets_ssh_in(rules):
    return any(
        rule["direction"] == "ingress" and rule["protocol"] == "tcp"
        and rule["port_range_min"] <= 22 <= rule["port_range_max"]
        and rule["remote_ip_prefix"] == "0.0.0.0/0" and rule["ethertype"] == "IPv4"
        for rule in rules
    )  # fmt: skip


def _good(message, **more):
    return {"status": True, "message": message, **more}


def _refuse(status, message, reason):
    return Refuse(status, {"status": False, "message": message, "error_reason": reason})
