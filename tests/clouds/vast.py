"""A stand-in for Vast.ai, built from its OpenAPI document (vast-ai/docs) and its pages on errors.

From the document: paths, fields, filters, error words, pages of 25, the least time between two
calls, that a wrong key is answered 404, and that an instance which is not there reads as null. Not
known, and so a guess: how soon an instance is listed, that a search's dph_total is the instance's,
the words for want of credit. `onstart` is run for real, in an empty home.
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from clouds.base import Cloud, Refuse, call

KEY = "vast-test-key"
#: ask -> (gpu_name, num_gpus, gpu_ram MB, dph_base, min_bid, geolocation)
ASKS = {
    "7001": ("H100 SXM", 1, 81559, 1.87, 0.9, "California, US"),
    "7002": ("H100 PCIE", 1, 81559, 1.95, 1.0, "Sweden, SE"),
    "7003": ("H100 NVL", 1, 95830, 2.05, 1.1, "Texas, US"),
    "7004": ("H100 SXM", 8, 81559, 15.2, 8.0, "Norway, NO"),
    "7005": ("RTX 4090", 1, 24564, 0.35, 0.2, "Quebec, CA"),
    "7006": ("RTX 4060 Ti", 1, 16380, 0.09, 0.05, "Quebec, CA"),
    **{f"70{number}": ("H100 SXM", 1, 81559, 0.5, 0.3, "Texas, US") for number in range(11, 17)},
}
#: cheap ones, and what speaks against each
_FLAWS = {
    "7011": {"verification": "unverified"},
    "7012": {"reliability": 0.8},
    "7013": {"disk_space": 10.0},
    "7014": {"duration": 3600.0},
    "7015": {"direct_port_count": 0},
    "7016": {"rentable": False},
}
_USD_PER_GB_MONTH = 0.15
_HOURS = 30 * 24
_OPERATORS = {
    "eq": lambda has, wants: has == wants,
    "neq": lambda has, wants: has != wants,
    "gte": lambda has, wants: has >= wants,
    "lte": lambda has, wants: has <= wants,
    "in": lambda has, wants: has in wants,
}
_CREATE_FIELDS = {
    "image", "template_hash_id", "label", "disk", "runtype", "target_state", "price", "env",
    "cancel_unavail", "vm", "onstart", "args", "args_str", "use_jupyter_lab", "jupyter_dir",
    "python_utf8", "lang_utf8", "force", "user", "image_login", "volume_info",
}  # fmt: skip
_RUNTYPES = {"ssh", "jupyter", "args", "ssh_proxy", "ssh_direct", "jupyter_proxy", "jupyter_direct"}


class Vast(Cloud):
    creates = ("rent",)
    settings = {"pace": 0}  # noqa: RUF012 - what it wants of pace stands in `interval_s`

    def __init__(self, **more):
        super().__init__(**more)
        self.taken = set()  # asks that are let
        self.gone = set()  # asks whose machine was let to somebody else since the search
        self.credit = 25.0
        self.may_read_user = True
        self.starts_stopped = False  # create answers success: false, and an id
        self.interval_s = {}  # call -> least time
        self.too_fast = 0
        self.page = 25
        self.searches = []
        self._asked_at = {}

    def new_id(self):
        return str(20_000_000 + int.from_bytes(os.urandom(3), "big"))

    def authorize(self, request):
        own = [f"Bearer {one.data['api_key']}" for one in self.machines.values() if not one.foreign]
        said = request.headers.get("authorization")
        if said is None:
            raise _refuse(403, "auth_error", "This action requires login.")
        if said != f"Bearer {KEY}" and said not in own:
            raise _refuse(404, "auth_error", "Invalid user key")
        request.own = said in own

    def failure(self, status):
        if status == 429:
            return "API requests too frequent: endpoint threshold=4.5"
        return {"success": False, "error": "injected", "msg": f"injected {status}"}

    def end(self, machine):
        super().end(machine)
        self.taken.discard(machine.data.get("ask"))

    @call("GET", "/api/v0/bundles/")
    def search(self, request):
        self._in_time("search")
        query = json.loads(request.params["q"])
        self.searches.append(dict(query))
        limit, kind = query.pop("limit", 64), query.pop("type", "ondemand")
        order, disk = query.pop("order", []), query.pop("allocated_storage", 8)
        if kind not in {"ondemand", "bid", "reserved"} or len(order) > 1:
            raise _refuse(400, "invalid_request", "Invalid query")
        found = [self._offer(ask, kind, disk) for ask in ASKS if ask not in self.taken]
        for field, conditions in query.items():
            for operator, wants in conditions.items():
                found = [one for one in found if _OPERATORS[operator](_column(one, field), wants)]
        if order:
            found.sort(key=lambda one: one[order[0][0]], reverse=order[0][1] == "desc")
        return {"offers": found[:limit]}

    @call("PUT", "/api/v0/asks/{ask}/")
    def rent(self, request, ask):
        self._in_time("rent")
        body = request.body
        if set(body) - _CREATE_FIELDS or not body.get("image") or not ask.isdigit():
            raise _refuse(400, "invalid_args", "error 400/3467: Invalid args")
        if len(body.get("label", "")) > 256 or len(body.get("onstart", "")) > 4096:
            raise _refuse(400, "invalid_args", "error 400/3468: too long")
        if body.get("runtype", "ssh") not in _RUNTYPES:
            raise _refuse(400, "invalid_args", "error 400/3469: no such runtype")
        if ask not in ASKS or ask in self.taken:
            raise _refuse(
                404, "invalid_args",
                f"error 404/3603: no_such_ask Instance type by id {ask} is not available.",
            )  # fmt: skip
        waits = ask in self.gone and not body.get("cancel_unavail", "price" not in body)
        if ask in self.gone and not waits:
            raise _refuse(410, "no_such_ask", f"Instance type {ask} is no longer available.")
        if self.credit <= 0:
            raise _refuse(400, "invalid_args", "Your account lacks credit; see the billing page.")
        if "price" in body and not max(0.001, ASKS[ask][4]) <= body["price"] <= 128:
            raise _refuse(400, "invalid_price", "the bid is too low")
        machine = self._rented(ask, body)
        stopped = self.starts_stopped or waits
        if stopped:
            machine.status = "stopped"
        return {
            "success": not stopped,
            "new_contract": int(machine.id),
            "instance_api_key": machine.data["api_key"],
        }

    @call("GET", "/api/v1/instances/")
    def list_instances(self, request):
        self._in_time("list_instances")
        every = sorted(self.seen(), key=lambda one: int(one.id))
        after = request.params.get("after_token")
        if after is not None and not after.startswith("after="):
            raise _refuse(400, "invalid_token", "Invalid pagination token")
        rest = [one for one in every if after is None or int(one.id) > int(after[6:])]
        limit = min(int(request.params.get("limit", 25)), self.page)
        page = rest[:limit]
        return {
            "success": True,
            "instances": [self._instance(one) for one in page],
            "instances_found": len(page),
            "total_instances": len(every),
            "label_counts": {},
            "next_token": f"after={page[-1].id}" if len(rest) > limit else None,
        }

    @call("GET", "/api/v0/instances/{machine_id}/")
    def get_instance(self, request, machine_id):
        self._in_time("get_instance")
        machine = self.find(_integer(machine_id))
        return {"instances": self._instance(machine) if machine else None}

    @call("DELETE", "/api/v0/instances/{machine_id}/")
    def destroy(self, request, machine_id):
        self._in_time("destroy")
        machine = self.find(_integer(machine_id))
        if machine is None:
            raise _refuse(404, "no_such_instance", f"Instance {machine_id} not found.")
        if request.own and request.headers["authorization"] != f"Bearer {machine.data['api_key']}":
            raise _refuse(401, "auth_error", "this key is another instance's")
        self.end(machine)
        return {"success": True}

    @call("GET", "/api/v0/users/current/")
    def current_user(self, request):
        if not self.may_read_user:
            raise _refuse(401, "auth_error", "the key lacks user_read")
        return {"id": 5, "credit": self.credit, "balance": 0, "can_pay": False}

    def _in_time(self, name):
        """Refuse what comes sooner than it may."""
        now, before = time.monotonic(), self._asked_at.get(name)
        self._asked_at[name] = now
        if before is not None and now - before < self.interval_s.get(name, 0.0):
            self.too_fast += 1
            raise Refuse(429, f"API requests too frequent: endpoint threshold={name}")

    def _rented(self, ask, body):
        model, gpus, _memory, base, _bid, _place = ASKS[ask]
        disk = body.get("disk", 8)
        self.taken.add(ask)
        return self.make(
            body.get("label", ""), model, body.get("price", base) + _storage(disk),
            public_key=authorized_keys(body.get("onstart", "")), gpu=model, gpus=gpus,
            ask=ask, api_key=os.urandom(8).hex(), disk=disk, onstart=body.get("onstart", ""),
            image=body["image"], bid="price" in body,
        )  # fmt: skip

    def _offer(self, ask, kind, disk):
        model, gpus, memory, base, bid, place = ASKS[ask]
        price = bid if kind == "bid" else base
        return {
            "id": int(ask), "ask_contract_id": int(ask), "gpu_name": model, "num_gpus": gpus,
            "gpu_ram": memory, "dph_base": price, "dph_total": price + _storage(disk),
            "min_bid": bid, "is_bid": kind == "bid", "geolocation": place, "disk_space": 500.0,
            "storage_cost": _USD_PER_GB_MONTH, "inet_up": 800.5, "inet_down": 912.0,
            "inet_up_cost": 0.02, "inet_down_cost": 0.01, "reliability": 0.99,
            "direct_port_count": 100, "rentable": True, "rented": False, "duration": 2.0e6,
            "verification": "verified", **_FLAWS.get(ask, {}),
        }  # fmt: skip

    def _instance(self, machine):
        word = "running" if self.is_active(machine) else "loading"
        stopped = machine.status in {"stopped", "outbid"}
        gpus = ASKS[machine.data["ask"]][1] if "ask" in machine.data else 1
        return {
            "id": int(machine.id),
            "label": machine.name or None,
            "actual_status": None if stopped else machine.status or word,
            "cur_state": "stopped" if stopped else "running",
            "next_state": "stopped" if stopped else "running",
            "intended_status": "stopped" if stopped else "running",
            "status_msg": machine.data.get("said"),
            "ssh_host": machine.host,
            "ssh_port": self.ssh_port,
            "public_ipaddr": machine.host,
            "gpu_name": machine.type,
            "num_gpus": gpus,
            "dph_total": machine.price_usd_per_h,
            "is_bid": machine.data.get("bid", False),
            "start_date": machine.created_at,
            "onstart": machine.data.get("onstart"),
            "jupyter_token": "secret-of-the-fake",
        }


def authorized_keys(onstart, starts=1):
    """What root's authorized keys hold after so many starts of a container with that script."""
    with tempfile.TemporaryDirectory() as home:
        for _ in range(starts):
            subprocess.run(
                ["sh", "-c", onstart], env={"HOME": home, "PATH": os.environ["PATH"]}, check=True
            )
        keys = Path(home, ".ssh", "authorized_keys")
        return keys.read_text().strip() if keys.exists() else ""


def _column(offer, field):
    match field:
        case "verified":
            return offer["verification"] == "verified"
        case "geolocation":
            return offer["geolocation"].rpartition(" ")[2]
    return offer[field]


def _integer(machine_id):
    if not machine_id.isdigit():
        raise _refuse(400, "invalid_args", "invalid instance_id")
    return machine_id


def _storage(disk):
    return disk * _USD_PER_GB_MONTH / _HOURS


def _refuse(status, word, said):
    return Refuse(status, {"success": False, "error": word, "msg": said})
