"""A stand-in for DigitalOcean, built from its OpenAPI document (digitalocean/openapi) and issues.

From the document: paths, fields, pages with links, that the default list holds no GPU Droplets,
error forms, 202 with an action. From issues of clients: the sentences of 422. Not known, and so a
guess: how soon a droplet is listed, what a failed creation looks like, that a key of one public
key is refused whatever its name. Tags of the account stay when their droplet goes, as documented.
"""

import re
from datetime import UTC, datetime

from clouds.base import Cloud, Refuse, Reply, call, host_key_of

KEY = "dop_v1_test"
#: slug -> (USD/h, model, gpus, GiB of all, regions)
SIZES = {
    "s-1vcpu-1gb": (0.00893, None, 0, 0, ["nyc1", "tor1"]),
    "gpu-h100x1-80gb": (3.39, "nvidia_h100", 1, 80, ["nyc2", "tor1"]),
    "gpu-h100x8-640gb": (23.92, "nvidia_h100", 8, 640, ["tor1"]),
    "gpu-6000adax1-48gb": (1.57, "nvidia_rtx6000_ada", 1, 48, ["tor1"]),
    "gpu-mi300x1-192gb": (1.99, "amd_mi300x", 1, 192, ["atl1"]),
    "gpu-l40sx1-48gb": (1.57, "nvidia_l40s", 1, 48, []),
    "gpu-h100x1-80gb-spot": (1.0, "nvidia_h100", 1, 80, ["sfo3"]),
}
IMAGES = {"gpu-h100x1-base", "gpu-h100x8-base", "gpu-amd-base", "ubuntu-24-04-x64", "mine"}
_CREATE_FIELDS = {
    "name", "region", "size", "image", "ssh_keys", "backups", "ipv6", "monitoring", "tags",
    "user_data", "vpc_uuid", "volumes", "with_droplet_agent",
}  # fmt: skip


#: of a droplet, beside what is of use here
_ALSO_REQUIRED = {
    "memory": 245760, "vcpus": 20, "disk": 720, "locked": False, "features": [], "backup_ids": [],
    "next_backup_window": None, "snapshot_ids": [], "volume_ids": [],
}  # fmt: skip


class DigitalOcean(Cloud):
    def __init__(self, **more):
        super().__init__(**more)
        self.keys = {}  # id -> {name, public_key}
        self.tags = {"env:prod"}
        self.limit = 25
        self.account_status = "active"
        self.said = None  # the sentence of a 422 for the next droplets
        self.may_read_account = True
        self.largest_page = 200

    def new_id(self):
        return str(3_000_000 + self._number * 7)

    def left_over(self):
        return [*self.keys, *(tag for tag in self.tags if tag not in {"env:prod", "towline"})]

    def authorize(self, request):
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise _refuse(401, "unauthorized", "Unable to authenticate you.")

    def failure(self, status):
        word = {429: "too_many_requests", 403: "forbidden"}.get(status, "server_error")
        return {"id": word, "message": f"injected {status}", "request_id": "fake"}

    @call("GET", "/v2/account")
    def account(self, request):
        if not self.may_read_account:
            raise _refuse(403, "forbidden", "You are not authorized to perform this operation.")
        return {
            "account": {
                "droplet_limit": self.limit, "email": "me@example.org", "email_verified": True,
                "status": self.account_status, "status_message": "",
                "team": {"uuid": "team-of-the-fake", "name": "mine"},
            }
        }  # fmt: skip

    @call("GET", "/v2/sizes")
    def sizes(self, request):
        return self._page(request, "sizes", [_size(slug) for slug in SIZES])

    @call("GET", "/v2/account/keys")
    def list_keys(self, request):
        found = [{"id": int(key_id), **key} for key_id, key in self.keys.items()]
        return self._page(request, "ssh_keys", found)

    @call("POST", "/v2/account/keys")
    def add_key(self, request):
        if set(request.body) != {"name", "public_key"}:
            raise _refuse(422, "unprocessable_entity", "a field is wrong")
        if any(key["public_key"] == request.body["public_key"] for key in self.keys.values()):
            raise _refuse(422, "unprocessable_entity", "SSH Key is already in use on your account")
        key_id = str(max(map(int, self.keys), default=512_000) + 1)
        self.keys[key_id] = dict(request.body)
        return Reply(201, {"ssh_key": {"id": int(key_id), **request.body}})

    @call("DELETE", "/v2/account/keys/{key_id}")
    def delete_key(self, request, key_id):
        if self.keys.pop(key_id, None) is None:
            raise _not_found()
        return Reply(204)

    @call("GET", "/v2/tags")
    def list_tags(self, request):
        return self._page(request, "tags", [{"name": name} for name in sorted(self.tags)])

    @call("DELETE", "/v2/tags/{tag}")
    def delete_tag(self, request, tag):
        if tag not in self.tags:
            raise _not_found()
        self.tags.remove(tag)
        for machine in self.machines.values():
            machine.data["tags"] = [one for one in machine.data.get("tags", []) if one != tag]
        return Reply(204)

    @call("POST", "/v2/droplets")
    def launch(self, request):
        body = request.body
        self._require(body)
        if self.said is not None:
            raise _refuse(422, "unprocessable_entity", self.said)
        if body["region"] not in SIZES[body["size"]][4]:
            raise _refuse(422, "unprocessable_entity", "Size is not available in this region.")
        if len(self.alive()) >= self.limit:
            raise _refuse(
                422, "unprocessable_entity",
                "creating this/these droplet(s) will exceed your droplet limit",
            )  # fmt: skip
        price, model, gpus, _memory, _regions = SIZES[body["size"]]
        self.tags |= set(body.get("tags", []))
        machine = self.make(
            body["name"], body["size"], price, public_key=self._public_key(body),
            host_key=host_key_of(body.get("user_data")), gpus=gpus,
            gpu=model.split("_")[1].upper() if model else None, tags=body.get("tags", []),
            image=body["image"], vpc_uuid=body.get("vpc_uuid"),
        )  # fmt: skip
        return Reply(
            202,
            {
                "droplet": {**self._droplet(machine), "status": "new", "networks": {}},
                "links": {"actions": [{"id": 7, "rel": "create", "href": "/v2/actions/7"}]},
            },
        )

    @call("GET", "/v2/droplets")
    def list_instances(self, request):
        wanted = request.params.get("type", "droplets") == "gpus"
        found = [one for one in self.seen() if _has_gpus(one) == wanted]
        return self._page(request, "droplets", [self._droplet(one) for one in found])

    @call("GET", "/v2/droplets/{machine_id}")
    def get_instance(self, request, machine_id):
        return {"droplet": self._droplet(self._find(machine_id))}

    @call("GET", "/v2/droplets/{machine_id}/actions")
    def droplet_actions(self, request, machine_id):
        machine = self._find(machine_id)
        word = "completed" if self.is_active(machine) else "in-progress"
        if machine.status == "failed":
            word = "errored"
        return {"actions": [{"id": 7, "type": "create", "status": word}], "meta": {"total": 1}}

    @call("DELETE", "/v2/droplets/{machine_id}")
    def terminate(self, request, machine_id):
        self.end(self._find(machine_id))
        return Reply(204)

    def _require(self, body):
        """Refuse what the document does not allow."""
        if set(body) - _CREATE_FIELDS or not {"name", "region", "size", "image"} <= set(body):
            raise _refuse(422, "unprocessable_entity", "a field is wrong")
        if not re.fullmatch(r"[a-zA-Z0-9.\-]{1,63}", body["name"]):
            raise _refuse(422, "unprocessable_entity", "Name Only valid hostname characters")
        if any(not re.fullmatch(r"[a-zA-Z0-9_\-:]{1,255}", tag) for tag in body.get("tags", [])):
            raise _refuse(422, "unprocessable_entity", "a tag is wrong")
        if len(body.get("user_data", "")) > 64 * 1024 or body["size"] not in SIZES:
            raise _refuse(422, "unprocessable_entity", "a field is wrong")
        if body["image"] not in IMAGES:
            raise _refuse(422, "unprocessable_entity", "You specified an invalid image")

    def _public_key(self, body):
        keys = [self.keys.get(str(key_id)) for key_id in body.get("ssh_keys", [])]
        if not keys or None in keys:
            raise _refuse(422, "unprocessable_entity", "are invalid key identifiers for Droplet")
        return keys[0]["public_key"]

    def _find(self, machine_id):
        machine = self.find(machine_id)
        if machine is None:
            raise _not_found()
        return machine

    def _page(self, request, key, found):
        page = int(request.params.get("page", 1))
        size = min(int(request.params.get("per_page", 20)), self.largest_page)
        more = len(found) > page * size
        return {
            key: found[(page - 1) * size : page * size],
            "links": {"pages": {"next": f"{self.base_url}?page={page + 1}"} if more else {}},
            "meta": {"total": len(found)},
        }

    def _droplet(self, machine):
        word = "active" if self.is_active(machine) else "new"
        status = "new" if machine.status == "failed" else machine.status or word
        networks = [
            {"ip_address": "10.1.2.3", "type": "private"},
            {"ip_address": machine.host, "type": "public"},
        ]
        return {
            "id": int(machine.id),
            "name": machine.name,
            "status": status,
            "created_at": datetime.fromtimestamp(machine.created_at, UTC).isoformat(),
            "networks": {"v4": [] if status == "new" else networks, "v6": []},
            "tags": machine.data.get("tags", []),
            "size_slug": machine.type,
            "size": {"slug": machine.type, "price_hourly": machine.price_usd_per_h},
            "image": {"slug": machine.data.get("image")},
            "vpc_uuid": machine.data.get("vpc_uuid"),
            **_ALSO_REQUIRED,
            "region": {"slug": "tor1", "name": "Toronto 1", "available": True},
        }


def _size(slug):
    price, model, gpus, memory, regions = SIZES[slug]
    info = {"count": gpus, "vram": {"amount": memory, "unit": "gib"}, "model": model}
    return {
        "slug": slug, "memory": 245760, "vcpus": 20, "disk": 720, "transfer": 15.0,
        "price_monthly": price * 744, "price_hourly": price, "regions": regions,
        "available": bool(regions), "description": slug, **({"gpu_info": info} if gpus else {}),
    }  # fmt: skip


def _has_gpus(machine):
    return machine.type.startswith("gpu-")


def _not_found():
    return _refuse(404, "not_found", "The resource you were accessing could not be found.")


def _refuse(status, word, said):
    return Refuse(status, {"id": word, "message": said, "request_id": "fake"})
