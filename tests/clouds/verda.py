"""A stand-in for Verda, built from its SDKs for Python and Go and its pages on API changes.

From the SDKs: paths, fields, ids as bare text, results of actions (202, 207), codes of errors,
prices as text, words for states. From the pages: pages of scripts, the required location, tokens of
an hour. Seen by clients: what is said of an id that is not there and of an instance that is being
provisioned; `on_spot_discontinue` is refused where there is no spot; an instance that is deleted
without naming its volume leaves it. Not known, and so a guess: statuses of these refusals, the
words for a quota, whether a failed action is a 400 or a result in a 207, how long an instance can't
be deleted, what a volume that is gone is answered.
"""

import base64
import os
import re
import time
from datetime import UTC, datetime

from clouds.base import Cloud, Refuse, Reply, call

CLIENT, SECRET = "verda-test-client", "verda-test-secret"
#: name -> price, spot price, what its GPUs are called, how many, GB in all
TYPES = {
    "1H100.80S.30V": ("2.29", "0.80", "1x H100 SXM5 80GB", 1, 80),
    "8H100.80S.176V": ("18.32", "6.40", "8x H100 SXM5 80GB", 8, 640),
    "2A6000.20V": ("0.98", "0", "2x NVidia RTX A6000 48GB", 2, 96),
    "CPU.4V.16G": ("0.03", None, "", 0, 0),
}
IMAGES = [
    "ubuntu-22.04", "ubuntu-22.04-cuda-12.4-docker", "ubuntu-24.04-cuda-12.8-open-docker",
    "ubuntu-24.04-cuda-9.9", "ubuntu-20.04-cuda-13.5",
]  # fmt: skip
CLUSTER_IMAGE = "ubuntu-26.04-cuda-14.0-cluster"
_KNOWN = {
    "instance_type", "image", "hostname", "description", "ssh_key_ids", "location_code",
    "startup_script_id", "os_volume", "volumes", "existing_volumes", "is_spot", "coupon",
    "contract", "pricing",
}  # fmt: skip
_REQUIRED = {"instance_type", "image", "hostname", "description", "location_code"}


class Verda(Cloud):
    prefix = "/v1"

    def __init__(self, **more):
        super().__init__(**more)
        self.keys, self.scripts, self.volumes = {}, {}, {}  # id -> what it is
        self.tokens = {}  # token -> until when
        self.token_life_s = 3600
        self.stock = {  # is spot -> place -> types
            False: {"FIN-01": ["1H100.80S.30V", "CPU.4V.16G"], "ICE-01": ["1H100.80S.30V"]},
            True: {"FIN-03": ["1H100.80S.30V", "8H100.80S.176V"]},
        }
        self.balance, self.quota, self.page_limit = 12.5, 100, 100
        self.sold_out_status, self.refuses_as_a_whole = 503, False

    def new_id(self):
        text = os.urandom(16).hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def left_over(self):
        volumes = [name for name, one in self.volumes.items() if one["status"] != "deleted"]
        return [*self.keys, *self.scripts, *volumes]

    def authorize(self, request):
        if request.path == f"{self.prefix}/oauth2/token":
            return
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.tokens.get(token, 0) < time.time():
            raise _refuse(401, "unauthorized_request", "Invalid or expired token")

    def failure(self, status):
        return _refuse(status, "server_error", f"injected {status}").body

    @call("POST", "/oauth2/token")
    def sign_in(self, request):
        wanted = {
            "grant_type": "client_credentials", "client_id": CLIENT, "client_secret": SECRET,
        }  # fmt: skip
        if request.body != wanted:
            raise _refuse(400, "invalid_request", "Invalid client id or client secret")
        token = os.urandom(8).hex()
        self.tokens[token] = time.time() + self.token_life_s
        return {
            "access_token": token, "refresh_token": "r", "token_type": "Bearer",
            "scope": "cloud-api-v1", "expires_in": self.token_life_s,
        }  # fmt: skip

    # -- what there is --------------------------------------------------------------------------

    @call("GET", "/instance-types")
    def list_types(self, request):
        assert request.params == {"currency": "usd"}
        return [
            {
                "id": name, "instance_type": name, "price_per_hour": price, "spot_price": spot,
                "gpu": {"description": words, "number_of_gpus": count}, "currency": "usd",
                "gpu_memory": {"description": f"{memory}GB GPU RAM", "size_in_gigabytes": memory},
            }
            for name, (price, spot, words, count, memory) in TYPES.items()
        ]  # fmt: skip

    @call("GET", "/instance-availability")
    def list_stock(self, request):
        places = self.stock[{"true": True, "false": False}[request.params["isSpot"]]]
        return [
            {"location_code": place, "availabilities": types} for place, types in places.items()
        ]

    @call("GET", "/volume-types")
    def volume_types(self, request):
        return [
            {"type": "HDD", "price": {"price_per_month_per_gb": 0.05, "currency": "usd"}},
            {"type": "NVMe", "price": {"price_per_month_per_gb": 0.20, "currency": "usd"}},
        ]

    @call("GET", "/images")
    def list_images(self, request):
        assert request.params["instance_type"] in TYPES
        listed = [*((name, False) for name in IMAGES), (CLUSTER_IMAGE, True)]
        return [
            {"id": self.new_id(), "image_type": name, "name": name, "is_cluster": cluster}
            for name, cluster in listed
        ]

    @call("GET", "/balance")
    def get_balance(self, request):
        return {"amount": self.balance, "currency": "usd"}

    # -- keys and scripts -----------------------------------------------------------------------

    @call("GET", "/sshkeys")
    def list_keys(self, request):
        return [{"id": key_id, **key} for key_id, key in self.keys.items()]

    @call("POST", "/sshkeys")
    def add_key(self, request):
        return self._add(self.keys, request, {"name", "key"})

    @call("DELETE", "/sshkeys/{key_id}")
    def delete_key(self, request, key_id):
        return self._drop(self.keys, key_id)

    @call("GET", "/scripts")
    def list_scripts(self, request):
        page = int(request.params.get("page", 1))
        size = min(int(request.params.get("pageSize", 10)), self.page_limit)
        listed = [{"id": name, "name": one["name"]} for name, one in self.scripts.items()]
        return listed[(page - 1) * size : page * size]

    @call("POST", "/scripts")
    def add_script(self, request):
        return self._add(self.scripts, request, {"name", "script"})

    @call("DELETE", "/scripts/{script_id}")
    def delete_script(self, request, script_id):
        return self._drop(self.scripts, script_id)

    # -- volumes --------------------------------------------------------------------------------

    @call("GET", "/volumes")
    def list_volumes(self, request):
        return [{"id": name, **one} for name, one in self.volumes.items()]

    @call("PUT", "/volumes")
    def act_on_volumes(self, request):
        body = request.body
        if set(body) != {"id", "action", "is_permanent"} or body["action"] != "delete":
            raise _refuse(400, "invalid_request", "bad action")
        for name in body["id"]:
            volume = self.volumes.get(name)
            if volume is None:
                raise _refuse(404, "not_found", "Invalid volume id")
            if volume["status"] == "attached":
                raise _refuse(400, "forbidden_action", "Volume is attached")
            self._end_volume(name, permanently=body["is_permanent"])
        return Reply(202)

    def _end_volume(self, name, permanently):
        if permanently:
            del self.volumes[name]
        else:
            self.volumes[name]["status"] = "deleted"  # in the trash, where it still costs

    # -- instances ------------------------------------------------------------------------------

    @call("POST", "/instances")
    def launch(self, request):
        body = request.body
        if set(body) - _KNOWN or _REQUIRED - set(body) or len(body["hostname"]) > 60:
            raise _refuse(400, "invalid_request", "a field is wrong")
        kind, spot, volume = body["instance_type"], body.get("is_spot", False), body["os_volume"]
        if "on_spot_discontinue" in volume and not spot:
            raise _refuse(400, "invalid_request", "on_spot_discontinue is for spot only")
        if not isinstance(volume["size"], int) or volume["size"] < 50:
            raise _refuse(400, "invalid_request", "the volume is too small")
        if (body.get("contract") == "SPOT") != spot or body["image"] not in IMAGES:
            raise _refuse(400, "invalid_request", "Operating system is not valid")
        keys = [self.keys[key_id]["key"] for key_id in body["ssh_key_ids"] if key_id in self.keys]
        script = self.scripts.get(body.get("startup_script_id"))
        if kind not in TYPES or len(keys) != 1 or script is None:
            raise _refuse(400, "not_found", "no such type, key or script")
        if self.balance <= 0:
            raise _refuse(402, "insufficient_funds", "Insufficient funds")
        if len(self.alive()) >= self.quota:
            raise _refuse(403, "forbidden_action", "Instance quota exceeded")
        if kind not in self.stock[spot].get(body["location_code"], ()):
            raise _refuse(self.sold_out_status, "service_unavailable", "No capacity available")
        price, spot_price, words, gpus, _memory = TYPES[kind]
        machine = self.make(
            body["hostname"], kind, float(spot_price if spot else price), public_key=keys[0],
            host_key=_host_key(script["script"]), gpu=words.split(" ")[1] if gpus else None,
            gpus=gpus, description=body["description"], spot=spot, place=body["location_code"],
            on_end=volume.get("on_spot_discontinue", "keep_detached"),
        )  # fmt: skip
        machine.data["volume"] = self.new_id()
        self.volumes[machine.data["volume"]] = {
            "name": volume["name"], "size": volume["size"], "status": "attached",
            "is_os_volume": True, "instance_id": machine.id, "base_hourly_cost": 0.03,
            "created_at": _time(machine.created_at),
        }  # fmt: skip
        return Reply(202, machine.id)

    @call("GET", "/instances")
    def list_instances(self, request):
        return [self._instance(one) for one in self.seen()]

    @call("GET", "/instances/{machine_id}")
    def get_instance(self, request, machine_id):
        machine = self.find(machine_id)
        if machine is None:
            raise _refuse(400, "invalid_request", "Invalid instance id")
        return self._instance(machine)

    @call("PUT", "/instances")
    def terminate(self, request):
        body = request.body
        if set(body) - {"id", "action", "volume_ids", "delete_permanently"}:
            raise _refuse(400, "invalid_request", "a field is wrong")
        if body["action"] != "delete":
            self.violations.append(f"{body['action']} {body['id']}")
        results = [self._end_one(name, body) for name in body["id"]]
        if self.refuses_as_a_whole and results[0]["status"] == "error":
            raise _refuse(400, "invalid_request", results[0]["error"])
        return Reply(202 if all(one["status"] == "success" for one in results) else 207, results)

    def _end_one(self, machine_id, body):
        machine, wrong = self.find(machine_id), None
        if machine is None:
            wrong = "Invalid instance id"
        elif machine.status == "discontinued":
            wrong = "Can't discontinue a discontinued instance"
        elif self._word(machine) == "provisioning":
            wrong = "Can't discontinue a provisioning instance"
        if wrong:
            return {
                "action": "delete", "instanceId": machine_id, "status": "error", "error": wrong,
                "statusCode": 400,
            }  # fmt: skip
        self.end(machine)
        volume = machine.data.get("volume")
        if volume not in self.volumes:
            pass  # it went when the instance was deleted before
        elif volume in body.get("volume_ids", ()):
            self._end_volume(volume, permanently=body.get("delete_permanently", False))
        else:
            self.volumes[volume] |= {"status": "detached", "instance_id": None}
        return {"action": "delete", "instanceId": machine_id, "status": "success"}

    def take_away(self, machine):
        """A spot instance ends because somebody else wants its place."""
        machine.status = "discontinued"
        self.end(machine)
        machine.gone_at = time.time() + 3600
        volume = machine.data["volume"]
        if machine.data["on_end"] == "delete_permanently":
            del self.volumes[volume]
        else:
            self.volumes[volume] |= {"status": "detached", "instance_id": None}

    def switched_off(self, machine):
        machine.status = machine.status or "offline"

    # -- inside ---------------------------------------------------------------------------------

    def _add(self, things, request, fields):
        if set(request.body) != fields:
            raise _refuse(400, "invalid_request", "a field is wrong")
        thing_id = self.new_id()
        things[thing_id] = dict(request.body)  # two of one name are two
        return Reply(201, thing_id)

    def _drop(self, things, thing_id):
        if things.pop(thing_id, None) is None:
            raise _refuse(404, "not_found", "no such thing")
        return Reply(200)

    def _word(self, machine):
        if machine.ended_at is not None and machine.status != "discontinued":
            return "deleting"
        return machine.status or ("running" if self.is_active(machine) else "provisioning")

    def _instance(self, machine):
        word = self._word(machine)
        return {
            "id": machine.id,
            "hostname": machine.name,
            "description": machine.data.get("description", "somebody's"),
            "status": word,
            "ip": machine.host if time.time() >= machine.active_at else None,
            "instance_type": machine.type,
            "price_per_hour": machine.price_usd_per_h,
            "location": machine.data.get("place"),
            "is_spot": machine.data.get("spot", False),
            "cpu": {"description": "30 CPU", "number_of_cores": 30},
            "gpu": {"description": "1x H100 SXM5 80GB", "number_of_gpus": 1},
            "memory": {"description": "120GB RAM", "size_in_gigabytes": 120},
            "gpu_memory": {"description": "80GB GPU RAM", "size_in_gigabytes": 80},
            "storage": {"description": "dynamic"},
            "image": "ubuntu-24.04-cuda-12.8-open-docker",
            "ssh_key_ids": [],
            "startup_script_id": None,
            "contract": "SPOT" if machine.data.get("spot") else "PAY_AS_YOU_GO",
            "pricing": "FIXED_PRICE",
            "os_volume_id": None if word == "provisioning" else machine.data.get("volume"),
            "created_at": _time(machine.created_at),
            "jupyter_token": "secret-of-the-fake",
        }


def _host_key(script):
    """The key that the script installs; None when it installs none."""
    found = re.search(r"echo (\S+) \| base64 -d > \S+/ssh_host_ed25519_key\.new", script)
    return base64.b64decode(found[1]).decode() if found else None


def _time(seconds):
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _refuse(status, code, message):
    return Refuse(status, {"code": code, "message": message})
