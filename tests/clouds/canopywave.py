"""A stand-in for CanopyWave, built from the vendor's pages and a third-party client's observations;
no specification exists.

From the vendor's pages: paths, fields, where project and region go, the envelope, the samples that
`TYPES` and the two forms of an instance repeat (rows in lower case with `publicIp`; one instance as
a raw Nova server without it). From the client: /regions, /flavor-availability and its key, the
texts for a lacking network or payment method and for a malformed key, bodies without the envelope
or with another word for `error`, a 500 from /projects, the fixed address that comes first.

Guesses: every status of an error but 401, the rule for passwords, that names need not be unique,
that associating again what is associated already is no error, that a terminated instance is listed
as active until it is gone. A public address shows the number of its machine while it serves one: a
box can't move to another.
"""

import re
import time

from clouds.base import Cloud, Refuse, call

KEY = "cw_test.key"
PROJECT = "ada@example.org"
GPU_IMAGES = ["GPU-Ubuntu.22.04", "GPU-Ubuntu.24.04"]


def kind(flavor, name, price, price_hour, specs="80 cores, 800.0 GB RAM, 2 TB NVMe"):
    images = GPU_IMAGES if "cpu" not in name.lower() else ["CPU-Ubuntu.22.04", "CPU-Ubuntu.24.04"]
    return {
        "flavor": flavor, "images": images, "name": name, "price": price, "priceHour": price_hour,
        "specs": specs,
    }  # fmt: skip


#: of the vendor's sample; its prices disagree
H200 = kind("H200-8", "8x H200 (80 GB SXM5)", 1800, "$3.00 / gpu / hour")
TYPES = [
    kind("H100-1", "1x H100 (80 GB SXM5)", 225, "$2.25 / gpu / hour"),
    kind("H100-4", "4x H100 (80 GB SXM5)", 900, "$2.25 / gpu / hour"),
    kind("m1.advanced", "16 vCPU x86 Server", 56, "$0.035 / cpu / hour", "16 cores, 32.0 GB RAM"),
]


class CanopyWave(Cloud):
    prefix = "/api/v1"

    def __init__(
        self, *, associate_s=0.0, list_lag_s=0.0, read_lag_s=0.0, ips_die_with_instance=False,
        **more,
    ):  # fmt: skip
        super().__init__(**more)
        self.associate_s = associate_s  # until an association shows
        self.list_lag_s, self.read_lag_s = list_lag_s, read_lag_s  # until an instance shows
        self.ips_die_with_instance = ips_die_with_instance
        self.projects = [PROJECT]
        self.regions = ["KEF-2", "KEF-3"]
        self.types = [dict(one) for one in TYPES]
        self.networks = {(PROJECT, region) for region in self.regions}
        self.keys = {}  # (project, region, name) -> {public_key, foreign}
        self.ips = {}  # id -> {project, region, ip, machine, since, foreign, visible_at}
        self.stock = {}  # (region, flavor) -> the answer's data, whatever its shape
        self.payment = True
        self.no_host = None  # "refused" at launch, or "errored": the instance is made and broken
        self.quota, self.ip_quota = 100, 100
        self.lists_ips = True  # /instances has publicIp, as in one of the samples, or null
        self.keeps_comments = True
        self.takes_over = False  # associate takes an address away from another instance
        self.may_borrow = False  # a foreign idle address may be associated
        self.has_regions = self.has_billing = True  # calls that may not exist
        self.envelope, self.error_word = True, "error"
        self.refusal_status, self.echo = 400, False
        self.passwords = []

    # -- what tests ask and set -----------------------------------------------------------------

    def left_over(self):
        keys = [name for (_project, _region, name), key in self.keys.items() if not key["foreign"]]
        return keys + [ip_id for ip_id, ip in self.ips.items() if not ip["foreign"]]

    def our_ips(self):
        return [ip_id for ip_id, ip in self.ips.items() if not ip["foreign"]]

    def place_ip(self, region="KEF-2", machine=None):
        """Somebody else's address, idle unless it serves a machine."""
        return self._new_ip(PROJECT, region, foreign=True, machine=machine and machine.id)

    def place_foreign(self, name, **data):
        return super().place_foreign(name, **{"region": "KEF-2", "project": PROJECT, **data})

    def end(self, machine):
        super().end(machine)
        for ip_id, ip in list(self.ips.items()):
            if ip["machine"] == machine.id:
                ip["machine"] = None
                if self.ips_die_with_instance:
                    del self.ips[ip_id]

    # -- the envelope ---------------------------------------------------------------------------

    def authorize(self, request):
        sent = request.headers.get("authorization", "")
        if sent != f"Bearer {KEY}":
            malformed = not re.fullmatch(r"Bearer \w+\.\w+", sent)
            raise self.refuse(401, "Error decoding token" if malformed else "Unauthorized")

    def failure(self, status):
        return {self.error_word: f"injected {status}"}

    def refuse(self, status, message):
        return Refuse(status, {self.error_word: message})

    def data(self, value):
        return {"data": value} if self.envelope else value

    def _asked(self, given, required, optional=()):
        """Refuse unknown and missing fields, and a project or region that there is not."""
        given = given or {}
        wrong = set(given) - {*required, *optional} or set(required) - set(given)
        if wrong:
            raise self.refuse(400, f"missing or unknown: {', '.join(sorted(wrong))}")
        if given.get("project", PROJECT) not in self.projects:
            raise self.refuse(403, "no permission for the project")
        if "region" in given and given["region"] not in self.regions:
            raise self.refuse(400, "no such region")
        return given

    def _place(self, request, more=()):
        """Project and region of a request's query, or its body when there is one."""
        given = self._asked(request.body or request.params, ("project", "region", *more))
        assert not (request.body and request.params)
        return given["project"], given["region"]

    # -- what there is to rent ------------------------------------------------------------------

    @call("GET", "/projects")
    def list_projects(self, request):
        return self.data(self.projects)

    @call("GET", "/regions")
    def list_regions(self, request):
        self._asked(request.params, ("project",))
        if not self.has_regions:
            raise self.refuse(404, "page not found")
        return self.data(self.regions)

    @call("GET", "/instance-types")
    def instance_types(self, request):
        self._asked(request.params, (), ("project",))
        return self.data(self.types)

    @call("GET", "/flavor-availability")
    def availability(self, request):
        given = self._asked(request.params, ("project", "region", "flavor"))
        region, flavor = given["region"], given["flavor"]
        usual = {f"{region}_{flavor}_available_vms": 3}
        return self.data(self.stock.get((region, flavor), usual))

    @call("GET", "/billing")
    def billing(self, request):
        self._asked(request.params, ("project",))
        if not self.has_billing:
            raise self.refuse(404, "page not found")
        return {"billing_num": "1", "period_from": "", "period_to": "", "amount": "0"}

    # -- keys: of one project in one region -----------------------------------------------------

    @call("GET", "/ssh-keys")
    def list_keys(self, request):
        place = self._place(request)
        return self.data([
            {"keypair": {"fingerprint": "bd:37:33", "name": name, "public_key": key["public_key"]}}
            for (*where, name), key in self.keys.items()
            if tuple(where) == place
        ])  # fmt: skip

    @call("POST", "/ssh-keys")
    def add_key(self, request):
        given = self._asked(request.body, ("project", "region", "name"), ("publicKey",))
        where = (given["project"], given["region"], given["name"])
        if "publicKey" not in given:
            self.violations.append("the server was to make a key, and to send its private half")
            given["publicKey"] = "ssh-rsa AAAAmade"
        if where in self.keys:
            raise self.refuse(409, f"Key pair '{given['name']}' already exists.")
        words = given["publicKey"].split()
        if len(words) < 2 or not re.fullmatch(r"[\w@. -]{1,255}", given["name"]):
            raise self.refuse(400, "Keypair data is invalid")
        text = " ".join(words if self.keeps_comments else words[:2])
        self.keys[where] = {"public_key": text, "foreign": False}
        return self.data({"publicKey": text})

    @call("DELETE", "/ssh-keys/{name}")
    def delete_key(self, request, name):
        key = self.keys.pop((*self._place(request), name), None)
        if key is None:
            raise self.refuse(404, f"Keypair {name} not found")
        if key["foreign"]:
            self.violations.append(f"key {name} is somebody else's")
        return self.data({"name": name})

    # -- instances ------------------------------------------------------------------------------

    @call("POST", "/instance-operations/launch")
    def launch(self, request):
        required = ("region", "project", "name", "flavor", "image", "password")
        given = self._asked(request.body, required, ("keypair", "is_monitoring"))
        place = (given["project"], given["region"])
        self.passwords.append(given["password"])
        self._check_launch(given, place)
        one = next(one for one in self.types if one["flavor"] == given["flavor"])
        found = re.match(r"(\d+)x (\w+)", one["name"])
        key = self.keys.get((*place, given.get("keypair")), {"public_key": ""})
        machine = self.make(
            given["name"], one["name"], one["price"] / 100, public_key=key["public_key"],
            gpu=found and found[2], gpus=int(found[1]) if found else 0, project=place[0],
            region=place[1], status="error" if self.no_host == "errored" else "",
        )  # fmt: skip
        machine.visible_at = max(machine.visible_at, machine.created_at + self.read_lag_s)
        return self.data({"id": machine.id})

    def _check_launch(self, given, place):
        said = f" in {given}" if self.echo else ""
        one = next((one for one in self.types if one["flavor"] == given["flavor"]), None)
        if one is None or given["image"] not in one["images"]:
            raise self.refuse(400, f"no such flavor, or not with that image{said}")
        if not re.fullmatch(r"(?=.*[A-Za-z])(?=.*\d).{8,}", given["password"]):
            raise self.refuse(400, f"the password is too simple{said}")
        if "keypair" in given and (*place, given["keypair"]) not in self.keys:
            raise self.refuse(400, "Invalid key_name provided.")
        if place not in self.networks:
            raise self.refuse(
                self.refusal_status, "Project network not found. It may be a permission issue."
            )
        if not self.payment:
            raise self.refuse(self.refusal_status, "The account has no default payment method")
        if self.no_host == "refused":
            raise self.refuse(self.refusal_status, "No valid host was found.")
        if len(self.alive()) >= self.quota:
            raise self.refuse(403, "Quota exceeded for instances")

    @call("GET", "/instances")
    def list_instances(self, request):
        given = self._asked(request.params, ("project",), ("region",))
        old = time.time() - self.list_lag_s
        return self.data([
            self._row(one)
            for one in self.seen()
            if one.data["project"] == given["project"]
            and given.get("region") in {None, one.data["region"]}
            and (one.foreign or one.created_at <= old)
        ])  # fmt: skip

    @call("GET", "/instances/{machine_id}")
    def get_instance(self, request, machine_id):
        return self.data(self._nova(self._find(machine_id, *self._place(request))))

    @call("POST", "/instance-operations/terminate")
    def terminate(self, request):
        project, region = self._place(request, ("id",))
        self.end(self._find(request.body["id"], project, region))
        return {"project": project, "region": region, "id": request.body["id"]}

    def _find(self, machine_id, project, region):
        machine = self.find(machine_id)
        if machine is None or (machine.data["project"], machine.data["region"]) != (
            project, region,
        ):  # fmt: skip
            raise self.refuse(404, f"Instance {machine_id} could not be found.")
        return machine

    def _word(self, machine):
        if machine.status:
            return machine.status
        active = machine.ended_at is not None or self.is_active(machine)
        return "active" if active else "build"

    def _launched(self, machine):
        if machine.status == "error" or self._word(machine) == "build":
            return None
        return time.strftime("%Y-%m-%dT%H:%M:%S.000000", time.gmtime(machine.created_at))

    def _row(self, machine):
        ip = self._ip_of(machine) if self.lists_ips else None
        return {
            "flavor": machine.type, "id": machine.id, "launchedAt": self._launched(machine),
            "name": machine.name, "paymentMode": None, "publicIp": ip and ip["ip"],
            "region": machine.data["region"], "role": "worker", "status": self._word(machine),
        }  # fmt: skip

    def _nova(self, machine):
        entries = [self._entry("fixed", "172.16.0.252")]
        if ip := self._ip_of(machine):
            entries.append(self._entry("floating", ip["ip"]))
        return {
            "OS-EXT-AZ:availability_zone": "nova",
            "OS-EXT-STS:task_state": None if machine.ended_at is None else "deleting",
            "OS-EXT-STS:vm_state": self._word(machine),
            "OS-SRV-USG:launched_at": self._launched(machine),
            "accessIPv4": "",
            "addresses": {"ada_example_org-network": entries},
            "flavor": {"id": "7c7f97b0-b80f-44dc-859d-71e04834b1cc", "links": []},
            "id": machine.id,
            "key_name": None,
            "metadata": {},
            "name": machine.name,
            "status": self._word(machine).upper(),
        }

    def _entry(self, kind, addr):
        return {
            "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:9d:aa:19", "OS-EXT-IPS:type": kind, "addr": addr,
            "version": 4,
        }  # fmt: skip

    # -- addresses ------------------------------------------------------------------------------

    def _new_ip(self, project, region, *, foreign=False, machine=None):
        ip_id = self.new_id()
        self.ips[ip_id] = {
            "project": project, "region": region, "ip": f"203.0.113.{len(self.ips) + 1}",
            "machine": machine, "since": 0.0, "foreign": foreign,
            "visible_at": time.time() + (self.late_s if self._kind == "late" else 0.0),
        }  # fmt: skip
        return ip_id

    def _machine_of(self, ip):
        """What an address serves, once the association shows."""
        found = self.machines.get(ip["machine"])
        return found if found and ip["since"] + self.associate_s <= time.time() else None

    def _ip_of(self, machine):
        found = [ip for ip in self.ips.values() if self._machine_of(ip) is machine]
        return {**found[0], "ip": machine.host} if found else None

    @call("GET", "/ips")
    def list_ips(self, request):
        place = self._place(request)
        rows = []
        for ip_id, ip in self.ips.items():
            if (ip["project"], ip["region"]) == place and ip["visible_at"] <= time.time():
                machine = self._machine_of(ip)
                rows.append({
                    "id": ip_id, "ip": machine.host if machine else ip["ip"],
                    "server": machine.name if machine else None,
                    "status": "ACTIVE" if machine else "DOWN",
                })  # fmt: skip
        return self.data(rows)

    @call("POST", "/ips")
    def allocate_ip(self, request):
        project, region = self._place(request)
        if len(self.ips) >= self.ip_quota:
            raise self.refuse(409, "Quota exceeded for resources: ['floatingip'].")
        ip_id = self._new_ip(project, region)
        return self.data({"id": ip_id, "ip": self.ips[ip_id]["ip"]})

    @call("POST", "/ips/{ip_id}/associate")
    def associate_ip(self, request, ip_id):
        project, region = self._place(request, ("instanceId",))
        ip = self._ip(ip_id, project, region)
        machine = self._find(request.body["instanceId"], project, region)
        if ip["foreign"] and not self.may_borrow:
            self.violations.append(f"address {ip_id} is somebody else's")
        if ip["machine"] not in {None, machine.id} and not self.takes_over:
            raise self.refuse(409, "the address serves another instance")
        if ip["machine"] != machine.id:
            ip["machine"], ip["since"] = machine.id, time.time()
        return self.data({"instanceId": machine.id, "ipId": ip_id, "portId": self.new_id()})

    @call("DELETE", "/ips/{ip_id}/disassociate")
    def disassociate_ip(self, request, ip_id):
        self._ours(ip_id, request)["machine"] = None
        return self.data({"id": ip_id})

    @call("DELETE", "/ips/{ip_id}")
    def release_ip(self, request, ip_id):
        self._ours(ip_id, request)
        del self.ips[ip_id]
        return self.data({"id": ip_id})

    def _ours(self, ip_id, request):
        ip = self._ip(ip_id, *self._place(request))
        if ip["foreign"]:
            self.violations.append(f"address {ip_id} is somebody else's")
        return ip

    def _ip(self, ip_id, project, region):
        ip = self.ips.get(ip_id)
        if ip is None or (ip["project"], ip["region"]) != (project, region):
            raise self.refuse(404, f"Floating IP {ip_id} could not be found")
        return ip
