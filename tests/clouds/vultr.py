"""A stand-in for Vultr's API v2, as far as towline uses it.

Built from Vultr's Go client govultr v3 (paths, fields, pages, wrappers), from the live answers that
users published (202, 204 and 404, the order of the three status words, `0.0.0.0`, the words for a
limit, a locked server and an unknown id) and from the plans that gpuhunt's tests quote. Guessed:
the words for a plan out of stock.
"""

import base64
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from clouds.base import Cloud, Refuse, Reply, call, host_key_of

KEY = "VULTRKEY0123456789ABCDEFGHIJKLMNOPQR"
PASSWORD = "q7{Sw0rdOfRoot!}"
PAGE = 2
FIELDS = {"region", "plan", "os_id", "label", "hostname", "tags", "sshkey_id", "user_data"}
IMAGES = [
    {"id": 2136, "name": "Debian 12 x64 (bookworm)", "arch": "x64", "family": "debian"},
    {"id": 2284, "name": "Ubuntu 24.04 LTS x64", "arch": "x64", "family": "ubuntu"},
    {"id": 1743, "name": "Ubuntu 22.04 LTS x64", "arch": "x64", "family": "ubuntu"},
]


def plan(name, gpu, vram, hourly, places, **more):
    fields = {"vcpu_count": 12, "ram": 122880, "disk": 1400, "disk_count": 1, "bandwidth": 10240}
    return {
        "id": name,
        **fields,
        "monthly_cost": round(hourly * 730, 2),
        "hourly_cost": hourly,
        "type": "vcg",
        "locations": places,
        "gpu_vram_gb": vram,
        "gpu_type": gpu,
        **more,
    }


PLANS = [
    plan("vcg-a100-1c-6g-4vram", "NVIDIA_A100", 4, 0.123, ["ewr"]),
    plan("vcg-a100-12c-120g-80vram", "NVIDIA_A100", 80, 2.397, ["ewr", "", "ord"]),
    plan("vcg-h100-12c-240g-80vram", "NVIDIA_H100", 80, 2.99, ["sea", "ewr"]),
    plan("vcg-h100-216c-1914gb-640vram", "NVIDIA_H100", 640, 23.92, ["sea"]),
    plan("vcg-l40s-8c-90g-48vram", "NVIDIA_L40S", 48, 1.671, ["ord"], deploy_ondemand=False),
    plan("vcg-x1-8c-90g-48vram", "NVIDIA_X1", 48, 0.1, ["ord"]),
]

SOLD_OUT = {("ewr", "vcg-h100-12c-240g-80vram")}


def refuse(status, words):
    return Refuse(status, {"error": words, "status": status})


def paged(name, items, params):
    """Return one page, and the cursor of the next in meta.links."""
    if not set(params) <= {"per_page", "cursor", "type"}:
        raise refuse(400, "Invalid query parameter")
    start = 0
    if cursor := params.get("cursor"):
        if not cursor.startswith("bmV4dF9f"):  # "next__"
            raise refuse(400, "Invalid cursor")
        start = int(base64.b64decode(cursor + "==").decode(errors="replace")[6:] or 0)
    end = start + min(PAGE, int(params.get("per_page", 100)))
    after = base64.b64encode(f"next__{end}".encode()).decode() if end < len(items) else ""
    links = {"next": after, "prev": ""}
    return {name: items[start:end], "meta": {"total": len(items), "links": links}}


def date(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class Vultr(Cloud):
    prefix = "/v2"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.plans = [dict(each) for each in PLANS]
        self.refusal = None  # (status, words) of the next answers to a create
        self.gone = (404, "Invalid instance-id.")
        self.spoil = lambda row: row  # what is done to the answer to a create
        self.unassigned = set()  # ids whose address is not there yet
        self.words = {}  # id to (power_status, server_status)
        self.keys = [
            {"id": str(uuid.uuid4()), "name": name, "ssh_key": "ssh-ed25519 AAAA them", **at}
            for name in ("laptop", "towline", "ci")
            for at in ({"date_created": "2024-05-01T10:00:00+00:00"},)
        ]
        self.foreign = {key["id"] for key in self.keys}

    def authorize(self, request):
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise refuse(401, "Invalid API token.")

    def failure(self, status):
        return {"error": "Something is wrong at Vultr", "status": status}

    def left_over(self):
        return [key["id"] for key in self.keys if key["id"] not in self.foreign]

    # -- catalogue

    @call("GET", "/plans")
    def list_plans(self, request):
        if request.params.get("type") != "vcg":
            raise refuse(400, "Invalid plan type")
        return paged("plans", self.plans, request.params)

    @call("GET", "/regions/{region}/availability")
    def availability(self, request, region):
        there = [each["id"] for each in self.plans if region in each["locations"]]
        if not there:
            raise refuse(404, "Invalid region.")
        return {"available_plans": [name for name in there if (region, name) not in SOLD_OUT]}

    @call("GET", "/os")
    def list_images(self, request):
        return paged("os", IMAGES, request.params)

    # -- keys

    @call("GET", "/ssh-keys")
    def list_keys(self, request):
        return paged("ssh_keys", self.keys, request.params)

    @call("POST", "/ssh-keys")
    def add_key(self, request):
        if set(request.body) != {"name", "ssh_key"} or not request.body["ssh_key"].startswith(
            "ssh-"
        ):
            raise refuse(400, "Invalid SSH key")
        now = date(time.time())
        self.keys.append({"id": str(uuid.uuid4()), "date_created": now, **request.body})
        return Reply(201, {"ssh_key": self.keys[-1]})

    @call("DELETE", "/ssh-keys/{key_id}")
    def remove_key(self, request, key_id):
        if key_id not in {key["id"] for key in self.keys}:
            raise refuse(404, "Invalid SSH key ID.")
        assert key_id not in self.foreign, "another's key was deleted"
        self.keys = [key for key in self.keys if key["id"] != key_id]
        return Reply(204)

    # -- instances

    @call("POST", "/instances")
    def launch(self, request):
        body = request.body
        if set(body) != FIELDS:
            raise refuse(400, f"Invalid fields: {sorted(set(body) ^ FIELDS)}")
        chosen = next((each for each in self.plans if each["id"] == body["plan"]), None)
        if chosen is None:
            raise refuse(400, "Invalid plan chosen.")
        if body["region"] not in chosen["locations"]:
            raise refuse(400, "Invalid region.")
        if self.refusal:
            raise refuse(*self.refusal)
        if body["os_id"] not in {image["id"] for image in IMAGES}:
            raise refuse(400, "Invalid os_id.")
        given = [key["ssh_key"] for key in self.keys if key["id"] in body["sshkey_id"]]
        if len(given) != len(body["sshkey_id"]) or not given:
            raise refuse(400, "Invalid SSH key ID.")
        user_data = base64.b64decode(body["user_data"], validate=True).decode()
        machine = self.make(
            body["label"],
            body["plan"],
            chosen["hourly_cost"],
            public_key=given[0],
            host_key=host_key_of(user_data),
            gpu=chosen["gpu_type"].removeprefix("NVIDIA_"),
            gpus=max(1, chosen["gpu_vram_gb"] // 80),
            region=body["region"],
            tags=body["tags"],
            hostname=body["hostname"],
        )
        row = self.row(machine) | {"default_password": PASSWORD}
        return Reply(202, {"instance": self.spoil(row)})

    @call("GET", "/instances")
    def list_instances(self, request):
        return paged("instances", [self.row(each) for each in self.seen()], request.params)

    @call("GET", "/instances/{machine_id}")
    def get_instance(self, request, machine_id):
        machine = self.find(machine_id)
        if machine is None or machine.ended_at:
            raise refuse(*self.gone)
        return {"instance": self.row(machine)}

    @call("DELETE", "/instances/{machine_id}")
    def terminate(self, request, machine_id):
        machine = self.find(machine_id)
        if machine is None:
            raise refuse(*self.gone)
        if machine.ended_at:
            raise refuse(400, "Unable to destroy server: Server is already pending destruction.")
        self.end(machine)
        return Reply(204)

    def row(self, machine):
        active = self.is_active(machine)
        fresh = ("running", "ok") if active else ("running", "none")
        power, server = self.words.get(machine.id, fresh)
        return {
            "id": machine.id,
            "os": "Ubuntu 22.04 x64",
            "ram": 122880,
            "disk": 1400,
            "plan": machine.type,
            "main_ip": machine.host if active and machine.id not in self.unassigned else "0.0.0.0",
            "vcpu_count": 12,
            "region": machine.data.get("region", "ewr"),
            "date_created": date(machine.created_at),
            "status": machine.status or ("active" if active else "pending"),
            "power_status": power,
            "server_status": server,
            "internal_ip": "",
            "label": machine.name,
            "hostname": machine.data.get("hostname", ""),
            "tags": machine.data.get("tags", []),
            "os_id": 1743,
            "features": [],
            "user_scheme": "root",
        }


def install(site):
    """Put the example's package into a folder, as pip would; the folder."""
    source = Path(__file__).parents[2] / "examples" / "towline-vultr" / "towline_vultr.py"
    info = site / "towline_vultr-1.0.dist-info"
    info.mkdir(parents=True)
    (site / source.name).write_text(source.read_text("utf-8"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: towline-vultr\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[towline.providers]\nvultr = towline_vultr:Vultr\n")
    return site
