"""A stand-in for one project of an OpenStack cloud: Keystone v3, Nova v2.1, Neutron v2.0, Glance v2.

After OpenStack's API reference (docs.openstack.org/api-ref): paths, statuses, fields of create
calls, what is required, envelopes of errors, links to further pages, statuses of servers. Held
against its pages word by word: key pairs and floating addresses; the rest is not. Quirks
after the facts file: no capacity is a server in ERROR after a 202; a floating address stays when
its server goes; a group in use can't be deleted; keys' names are unique, groups' are not.

Guesses: the sentences of errors, and how soon a port is known. Unlike the real one a floating
address takes its number from the machine that it is given to, so that SSH finds the box there.
"""

import base64
import time
from datetime import UTC, datetime
from uuid import uuid4

from clouds.base import Cloud, Refuse, Reply, call, host_key_of

CREDENTIAL, SECRET = "os-test-credential", "os-test-secret"
PROJECT, REGION = "4fd44f30292945e481c7b8a0c8908869", "RegionOne"
#: name -> GPU that its machines have, how many, disk in GB, extra specs
FLAVORS = {
    "g1.h100.1": ("H100", 1, 100, {"pci_passthrough:alias": "h100:1"}),
    "g1.h100.2": ("H100", 2, 100, {"pci_passthrough:alias": "h100:2,nic-x710:1"}),
    "g1.a100-80gb": ("A100", 1, 0, {}),
    "gp.l40s": ("L40S", 1, 50, {"resources:PGPU": "1"}),
    "vgpu.half": ("A16", 1, 50, {"resources:VGPU": "1"}),
    "m1.large": ("", 0, 80, {"hw:cpu_policy": "shared"}),
}
_SERVER_FIELDS = {
    "name", "flavorRef", "imageRef", "key_name", "metadata", "user_data", "config_drive",
    "security_groups", "networks", "block_device_mapping_v2", "availability_zone",
    "OS-DCF:diskConfig", "accessIPv4", "accessIPv6", "personality", "min_count", "max_count",
    "return_reservation_id", "adminPass",
}  # fmt: skip
_VOLUME = {
    "boot_index", "uuid", "source_type", "destination_type", "volume_size", "delete_on_termination",
}  # fmt: skip
_RULE_FIELDS = {
    "security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
    "remote_ip_prefix", "remote_group_id", "description",
}  # fmt: skip
_ADDRESS_FIELDS = {
    "floating_network_id", "port_id", "description", "fixed_ip_address", "floating_ip_address",
    "subnet_id", "tenant_id", "project_id", "dns_name", "dns_domain", "qos_policy_id",
}  # fmt: skip


class OpenStack(Cloud):
    settings = {"prices": {"g1.h100.1": 2.5, "g1.h100.2": 5, "*": 1.25}}  # noqa: RUF012

    def __init__(self, **more):
        super().__init__(**more)
        self.root = self.base_url
        self.base_url += "/identity"
        self.tokens = set()
        self.missing_services = set()
        self.flavors = dict(FLAVORS)
        self.shows_specs = True  # this cloud's Nova knows microversion 2.61
        self.keys = {"foreign": "ssh-ed25519 AAAA"}  # name -> public key
        self.groups = {}  # id -> {name, rules}
        self.addresses = {}  # id -> {description, port_id, ...}
        self.quota = {"instances": 100, "cores": 1000, "keys": 100, "addresses": 50}
        self.no_host = set()  # flavors that no host has room for
        self.page_limit = 100
        self.networks = {
            "net-private": _network("net-private", "private"),
            "net-public": _network("net-public", "public", "other", external=True, default=True),
            "net-other": _network("net-other", "unrouted"),
            "net-theirs": _network("net-theirs", "theirs", "other"),
        }
        self.routed = ["net-private"]
        self.images = [
            _image("1", "Ubuntu 24.04", "2026-11-01"),
            _image("2", "Ubuntu 24.04 CUDA 12.8", "2026-06-01"),
            _image("3", "Ubuntu 22.04 CUDA 12.2", "2026-05-01"),
            _image("4", "Debian 13", "2026-11-20"),
            _image("5", "ubuntu with cuda, my backup", "2026-11-25", image_type="snapshot"),
        ]
        self._new_group("foreign")
        self.addresses["foreign"] = self._address({
            "floating_network_id": "net-public",
            "description": "the web site's",
        })

    def new_id(self):
        return str(uuid4())

    def left_over(self):
        named = [(name, name) for name in self.keys]
        named += [(one, group["name"]) for one, group in self.groups.items()]
        named += [(one, row["description"]) for one, row in self.addresses.items()]
        return [one for one, name in named if name.startswith("towline-")]

    def authorize(self, request):
        if request.path.startswith("/identity"):
            return
        if request.headers.get("x-auth-token") not in self.tokens:
            raise _refuse(401, "The request you have made requires authentication.", "error")

    def failure(self, status):
        return _refuse(status, f"injected {status}", "computeFault").body

    # -- Keystone -------------------------------------------------------------------------------

    @call("GET", "/identity/?")
    def list_versions(self, request):
        """Asked for a login by password, which may be of any version."""
        link = {"rel": "self", "href": f"{self.root}/identity/v3/"}
        version = {"id": "v3.14", "status": "stable", "updated": "2020", "links": [link]}
        return Reply(300, {"versions": {"values": [version]}})

    @call("POST", "/identity/v3/auth/tokens")
    def log_in(self, request):
        identity = request.body["auth"]["identity"]
        (method,) = identity["methods"]
        scope = request.body["auth"].get("scope")
        if method == "application_credential" and scope is None:
            given = identity[method]
            accepted = (given.get("id"), given.get("secret")) == (CREDENTIAL, SECRET)
        elif method == "password" and scope["project"]["name"] == "mine":
            accepted = identity[method]["user"]["password"] == SECRET
        else:
            raise _refuse(400, "an application credential has a scope of its own", "error")
        if not accepted:
            raise _refuse(401, "The request you have made requires authentication.", "error")
        token = uuid4().hex
        self.tokens.add(token)
        until = datetime.fromtimestamp(time.time() + 3600, UTC)
        services = [
            self._service("compute", "nova", "/compute/v2.1"),
            self._service("network", "neutron", "/network"),
            self._service("image", "glance", "/image/"),
        ]
        body = {
            "methods": ["application_credential"],
            "expires_at": until.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
            "issued_at": _stamp(time.time()),
            "user": {"id": "u", "name": "me", "domain": {"id": "default", "name": "Default"}},
            "project": {
                "id": PROJECT, "name": "mine", "domain": {"id": "default", "name": "Default"},
            },
            "roles": [{"id": "r", "name": "member"}],
            "catalog": [one for one in services if one["type"] not in self.missing_services],
        }  # fmt: skip
        return Reply(201, {"token": body}, {"X-Subject-Token": token})

    def _service(self, kind, name, path):
        endpoints = [
            {
                "id": f"{name}-{interface}", "interface": interface, "region": REGION,
                "region_id": REGION, "url": f"{url}{path}",
            }
            for interface, url in (("internal", "http://127.0.0.1:1"), ("public", self.root))
        ]  # fmt: skip
        return {"id": name, "type": kind, "name": name, "endpoints": endpoints}

    # -- Nova -----------------------------------------------------------------------------------

    @call("GET", "/compute/v2.1/flavors/detail")
    def list_flavors(self, request):
        wanted = request.headers.get("openstack-api-version")
        if wanted and not self.shows_specs:
            raise _refuse(406, "Version 2.61 is not supported by the API.", "computeFault")
        listed = []
        for number, (name, (_model, count, disk, specs)) in enumerate(self.flavors.items()):
            row = {
                "id": str(number), "name": name, "vcpus": 16 * (count or 1), "ram": 65536,
                "disk": disk, "swap": "", "OS-FLV-EXT-DATA:ephemeral": 0, "rxtx_factor": 1.0,
                "OS-FLV-DISABLED:disabled": False, "os-flavor-access:is_public": True,
            }  # fmt: skip
            listed.append({**row, "extra_specs": specs} if wanted else row)
        return self._page(request, "flavors", listed)

    @call("GET", "/compute/v2.1/limits")
    def list_limits(self, request):
        up = [one for one in self.alive() if not one.foreign]
        used = {
            "maxTotalInstances": self.quota["instances"], "totalInstancesUsed": len(up),
            "maxTotalCores": self.quota["cores"], "totalCoresUsed": 16 * len(up),
            "maxTotalRAMSize": -1, "totalRAMUsed": 65536 * len(up),
        }  # fmt: skip
        return {"limits": {"rate": [], "absolute": used}}

    @call("GET", "/compute/v2.1/os-keypairs")
    def list_keys(self, request):
        listed = [{"keypair": self._key(name)} for name in self.keys]
        return {"keypairs": listed}

    @call("GET", "/compute/v2.1/os-keypairs/{name}")
    def get_key(self, request, name):
        if name not in self.keys:
            raise _refuse(404, f"Keypair {name} not found for user u", "itemNotFound")
        return {"keypair": self._key(name)}

    @call("POST", "/compute/v2.1/os-keypairs")
    def add_key(self, request):
        body = request.body["keypair"]
        if set(body) != {"name", "public_key"} or not body["public_key"].startswith("ssh-"):
            raise _refuse(400, "Invalid input for field/attribute keypair", "badRequest")
        if body["name"] in self.keys:
            raise _refuse(409, f"Key pair '{body['name']}' already exists.", "conflictingRequest")
        if len(self.keys) >= self.quota["keys"]:
            raise _refuse(403, "Quota exceeded, too many key pairs.", "forbidden")
        self.keys[body["name"]] = body["public_key"]
        return {"keypair": self._key(body["name"])}

    @call("DELETE", "/compute/v2.1/os-keypairs/{name}")
    def delete_key(self, request, name):
        self._require_ours(name, f"key {name}")
        if self.keys.pop(name, None) is None:
            raise _refuse(404, f"Keypair {name} not found for user u", "itemNotFound")
        return Reply(202)

    @call("POST", "/compute/v2.1/servers")
    def launch(self, request):
        body = request.body["server"]
        if set(body) - _SERVER_FIELDS or {"name", "flavorRef", "networks"} - set(body):
            raise _refuse(400, "Invalid input for field/attribute server.", "badRequest")
        if len(self.alive()) >= self.quota["instances"]:
            words = "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances"
            raise _refuse(403, words, "forbidden")
        name, (model, count, disk, _specs) = list(self.flavors.items())[int(body["flavorRef"])]
        self._require_image(body, disk)
        group = self._group_of(body)
        (network,) = body["networks"]
        if network.get("uuid") not in self.networks or body.get("key_name") not in self.keys:
            raise _refuse(400, "Network or key not found.", "badRequest")
        if not all(isinstance(text, str) for text in body.get("metadata", {}).values()):
            raise _refuse(400, "Invalid input for field/attribute metadata.", "badRequest")
        machine = self.make(
            body["name"], name, self._price(name), public_key=self.keys[body["key_name"]],
            host_key=host_key_of(base64.b64decode(body["user_data"], validate=True).decode()),
            gpu=model, gpus=count, metadata=body.get("metadata", {}), group=group,
            network=network["uuid"], fixed=f"10.0.0.{len(self.machines) % 250 + 2}",
            key_name=body["key_name"], drive=body.get("config_drive", False),
            volume=body.get("block_device_mapping_v2"), status=self._broken(name),
        )  # fmt: skip
        return Reply(202, {"server": {"id": machine.id, "links": [], "adminPass": "x"}})

    @call("GET", "/compute/v2.1/servers/detail")
    def list_instances(self, request):
        return self._page(request, "servers", [self._described(one) for one in self.seen()])

    @call("GET", "/compute/v2.1/servers/(?!detail$){machine_id}")
    def get_instance(self, request, machine_id):
        return {"server": self._described(self._find(machine_id))}

    @call("DELETE", "/compute/v2.1/servers/{machine_id}")
    def terminate(self, request, machine_id):
        self.end(self._find(machine_id))
        return Reply(204)

    def switched_off(self, machine):
        machine.status = machine.status or "SHUTOFF"

    # -- Glance ---------------------------------------------------------------------------------

    @call("GET", "/image/v2/images")
    def list_images(self, request):
        if request.params.get("status") != "active":
            raise Refuse(400, "<html>images that are not active</html>")
        active = [one for one in self.images if one["status"] == "active"]
        part, further = self._part(request, active)
        page = {"images": part, "first": "/v2/images", "schema": "/v2/schemas/images"}
        return {**page, "next": f"/v2/images?status=active&marker={further}"} if further else page

    # -- Neutron --------------------------------------------------------------------------------

    @call("GET", "/network/v2.0/networks")
    def list_networks(self, request):
        wanted = request.params.get("router:external")
        listed = [
            one
            for one in self.networks.values()
            if wanted in {None, str(one["router:external"]).lower()}
            and (one["project_id"] == PROJECT or one["shared"] or one["router:external"])
        ]
        return self._page(request, "networks", listed)

    @call("GET", "/network/v2.0/ports")
    def list_ports(self, request):
        listed = [
            {
                "id": f"port-{one}", "network_id": one, "device_owner": "network:router_interface",
                "device_id": "router", "fixed_ips": [{"ip_address": "10.0.0.1"}],
            }
            for one in self.routed
        ] + [
            {
                "id": f"port-{one.id}", "network_id": one.data["network"], "device_id": one.id,
                "device_owner": "compute:nova",
                "fixed_ips": [{"ip_address": ip} for ip in ("fd00::5", one.data["fixed"])],
            }
            for one in self.seen()
            if not one.foreign
        ]  # fmt: skip
        wanted = request.params.get("device_id")
        return {"ports": [one for one in listed if wanted in {None, one["device_id"]}]}

    @call("GET", "/network/v2.0/security-groups")
    def list_groups(self, request):
        listed = [self._group(one) for one in self.groups]
        return self._page(request, "security_groups", listed)

    @call("POST", "/network/v2.0/security-groups")
    def add_group(self, request):
        body = request.body["security_group"]
        if set(body) - {"name", "description", "project_id", "stateful"} or "name" not in body:
            raise _neutron(400, "HTTPBadRequest", "Unrecognized attribute(s)")
        made = self._new_group(body["name"])
        return Reply(201, {"security_group": self._group(made)})

    @call("POST", "/network/v2.0/security-group-rules")
    def add_rule(self, request):
        body = request.body["security_group_rule"]
        if set(body) - _RULE_FIELDS or {"security_group_id", "direction"} - set(body):
            raise _neutron(400, "HTTPBadRequest", "Unrecognized attribute(s)")
        group = self.groups.get(body["security_group_id"])
        if group is None:
            raise _neutron(404, "SecurityGroupNotFound", "Security group does not exist")
        self._require_ours(group["name"], f"group {group['name']}")
        if body in group["rules"]:
            raise _neutron(409, "SecurityGroupRuleExists", "Security group rule already exists")
        group["rules"].append(body)
        return Reply(201, {"security_group_rule": {"id": self.new_id(), **body}})

    @call("DELETE", "/network/v2.0/security-groups/{group_id}")
    def delete_group(self, request, group_id):
        if group_id not in self.groups:
            raise _neutron(404, "SecurityGroupNotFound", "Security group does not exist")
        self._require_ours(self.groups[group_id]["name"], f"group {group_id}")
        if any(one.data.get("group") == group_id for one in self.seen()):
            raise _neutron(409, "SecurityGroupInUse", f"Security Group {group_id} in use.")
        del self.groups[group_id]
        return Reply(204)

    @call("GET", "/network/v2.0/floatingips")
    def list_addresses(self, request):
        return self._page(request, "floatingips", [self._shown(one) for one in self.addresses])

    @call("POST", "/network/v2.0/floatingips")
    def add_address(self, request):
        body = request.body["floatingip"]
        if set(body) - _ADDRESS_FIELDS or "floating_network_id" not in body:
            raise _neutron(400, "HTTPBadRequest", "Unrecognized attribute(s)")
        network = self.networks.get(body["floating_network_id"], {})
        if not network.get("router:external"):
            raise _neutron(400, "BadRequest", "Network is not a valid external network.")
        if len(self.addresses) >= self.quota["addresses"]:
            words = "Quota exceeded for resources: ['floatingip']."
            raise _neutron(409, "OverQuota", words)
        self._require_port(body.get("port_id"), body.get("fixed_ip_address"))
        made = self.new_id()
        self.addresses[made] = self._address(body)
        return Reply(201, {"floatingip": self._shown(made)})

    @call("PUT", "/network/v2.0/floatingips/{address_id}")
    def associate(self, request, address_id):
        if address_id not in self.addresses:
            raise _neutron(404, "FloatingIPNotFound", "Floating IP could not be found")
        body = request.body["floatingip"]
        row, port = self.addresses[address_id], body["port_id"]
        self._require_ours(row["description"], f"address {address_id}")
        if row["port_id"] != port:
            self._require_port(port, body.get("fixed_ip_address"))
        row["port_id"] = port
        return {"floatingip": self._shown(address_id)}

    @call("DELETE", "/network/v2.0/floatingips/{address_id}")
    def delete_address(self, request, address_id):
        if address_id not in self.addresses:
            raise _neutron(404, "FloatingIPNotFound", "Floating IP could not be found")
        self._require_ours(self.addresses[address_id]["description"], f"address {address_id}")
        del self.addresses[address_id]
        return Reply(204)

    # -- inside ---------------------------------------------------------------------------------

    def _require_ours(self, name, what):
        if name in {"foreign", "the web site's"}:
            self.violations.append(f"{what} is somebody else's")

    def _price(self, name):
        prices = self.settings["prices"]
        return float(prices.get(name, prices["*"]))

    def _broken(self, flavor):
        return "ERROR" if flavor in self.no_host else ""

    def _find(self, machine_id):
        machine = self.find(machine_id)
        if machine is None:
            raise _refuse(404, f"Instance {machine_id} could not be found.", "itemNotFound")
        return machine

    def _require_image(self, body, disk):
        active = [one["id"] for one in self.images if one["status"] == "active"]
        volumes = body.get("block_device_mapping_v2", [])
        if not disk and not volumes:
            words = "Only volume-backed servers are allowed for flavors with zero disk."
            raise _refuse(403, words, "forbidden")
        if any(set(one) != _VOLUME or not one["delete_on_termination"] for one in volumes):
            raise _refuse(400, "Block Device Mapping is Invalid", "badRequest")
        used = volumes[0]["uuid"] if volumes else body.get("imageRef")
        if used not in active:
            raise _refuse(400, "Can not find requested image", "badRequest")

    def _group_of(self, body):
        """The group of a new server, by id or by a name that only one has."""
        (asked,) = body["security_groups"]
        found = [one for one, group in self.groups.items() if asked["name"] in {one, group["name"]}]
        if len(found) != 1:
            raise _refuse(400, f"Security group {asked['name']} not found.", "badRequest")
        rules = self.groups[found[0]]["rules"]
        if not any(
            (rule["direction"], rule["protocol"], rule["port_range_min"]) == ("ingress", "tcp", 22)
            for rule in rules
        ):
            self.violations.append("a server whose group lets no SSH in")
        return found[0]

    def _new_group(self, name):
        made = self.new_id()
        self.groups[made] = {"name": name, "rules": []}
        return made

    def _group(self, group_id):
        group = self.groups[group_id]
        return {
            "id": group_id, "name": group["name"], "description": "", "project_id": PROJECT,
            "security_group_rules": [{"id": "r", **rule} for rule in group["rules"]],
            "created_at": _stamp(time.time()),
        }  # fmt: skip

    def _key(self, name):
        return {"name": name, "public_key": self.keys[name], "fingerprint": "00:11"}

    def _address(self, body):
        return {
            "description": body.get("description", ""), "port_id": body.get("port_id"),
            "floating_network_id": body["floating_network_id"], "created_at": time.time(),
        }  # fmt: skip

    def _require_port(self, port, fixed):
        if port is None:
            return
        machine = self._machine_at(port)
        if machine is None:
            raise _neutron(404, "PortNotFound", f"Port {port} could not be found.")
        if fixed != machine.data["fixed"]:  # the port has another one, of IPv6
            raise _neutron(400, "BadRequest", "Port has multiple fixed IPs; one must be chosen")
        if machine.data["network"] not in self.routed:
            words = "External network is not reachable from subnet. Cannot associate Port."
            raise _neutron(404, "ExternalGatewayForFloatingIPNotFound", words)
        if any(row["port_id"] == port for row in self.addresses.values()):
            words = f"Cannot associate floating IP with port {port}: it already has a floating IP"
            raise _neutron(409, "FloatingIPPortAlreadyAssociated", words)

    def _machine_at(self, port):
        return self.find(str(port).removeprefix("port-"))

    def _shown(self, address_id):
        """A floating address; one whose server has gone lies idle."""
        row = self.addresses[address_id]
        machine = self._machine_at(row["port_id"])
        return {
            "id": address_id, "description": row["description"], "project_id": PROJECT,
            "floating_network_id": row["floating_network_id"], "router_id": None, "tags": [],
            "floating_ip_address": machine.host if machine else "203.0.113.7",
            "fixed_ip_address": machine.data["fixed"] if machine else None,
            "port_id": row["port_id"] if machine else None,
            "status": "ACTIVE" if machine else "DOWN", "created_at": _stamp(row["created_at"]),
        }  # fmt: skip

    def _part(self, request, listed):
        """One page of a list, and the marker of the next."""
        ids = [str(one.get("id")) for one in listed]
        marker = request.params.get("marker")
        if marker is not None and marker not in ids:
            raise _refuse(400, f"marker [{marker}] not found", "badRequest")
        start = 0 if marker is None else ids.index(marker) + 1
        part = listed[start : start + self.page_limit]
        further = start + len(part) < len(listed)
        return part, part[-1]["id"] if further else None

    def _page(self, request, key, listed):
        part, marker = self._part(request, listed)
        if marker is None:
            return {key: part}
        query = "&".join(
            [f"{name}={value}" for name, value in request.params.items() if name != "marker"]
            + [f"marker={marker}"]
        )
        link = f"http://behind-a-proxy{request.path}?{query}"  # the name that the service knows
        return {key: part, f"{key}_links": [{"rel": "next", "href": link}]}

    def _described(self, machine):
        word = machine.status or ("ACTIVE" if self.is_active(machine) else "BUILD")
        if machine.ended_at is not None:
            word = "ACTIVE"
        fixed = machine.data.get("fixed", "10.0.0.250")
        row = {
            "id": machine.id, "name": machine.name, "status": word, "created": _stamp(machine.created_at),
            "metadata": machine.data.get("metadata", {}), "tenant_id": PROJECT, "user_id": "u",
            "flavor": {"id": "1", "links": []}, "key_name": machine.data.get("key_name"),
            "image": "" if machine.data.get("volume") else {"id": "2"}, "hostId": "",
            "OS-EXT-STS:task_state": None if machine.ended_at is None else "deleting",
            "OS-DCF:diskConfig": "MANUAL", "OS-EXT-AZ:availability_zone": "nova",
            "OS-SRV-USG:launched_at": None, "OS-SRV-USG:terminated_at": None, "accessIPv4": "",
            "accessIPv6": "", "config_drive": "True", "links": [], "progress": 0,
            "security_groups": [{"name": "default"}], "updated": _stamp(machine.created_at),
            "os-extended-volumes:volumes_attached": [],
            "OS-EXT-STS:power_state": 1, "OS-EXT-STS:vm_state": word.lower(),
            "addresses": {"private": [
                {"addr": "fd00::5", "version": 6, "OS-EXT-IPS:type": "fixed"},
                {"addr": fixed, "version": 4, "OS-EXT-IPS:type": "fixed"},
            ]} if word != "BUILD" else {},
        }  # fmt: skip
        if word == "ERROR":
            words = "No valid host was found. There are not enough hosts available."
            row["fault"] = {"code": 500, "created": row["created"], "message": words}
        return row


def _network(network_id, name, project=PROJECT, *, external=False, default=False, shared=False):
    return {
        "id": network_id, "name": name, "status": "ACTIVE", "admin_state_up": True,
        "project_id": project, "shared": shared, "router:external": external,
        "is_default": default, "subnets": [],
    }  # fmt: skip


def _image(number, name, day, **more):
    return {
        "id": f"image-{number}", "name": name, "status": "active", "visibility": "public",
        "created_at": f"{day}T00:00:00Z", "min_disk": 10, "disk_format": "qcow2", **more,
    }  # fmt: skip


def _stamp(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _refuse(status, message, word):
    return Refuse(status, {word: {"code": status, "message": message}})


def _neutron(status, kind, message):
    return Refuse(status, {"NeutronError": {"type": kind, "message": message, "detail": ""}})
