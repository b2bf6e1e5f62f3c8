"""A stand-in for RunPod's API v2, built from its OpenAPI document 2.0.0 (runpod/docs@081392f).

Verified against the document: paths, fields, words of statuses, the problem form of errors, that
`ssh.direct` is null until a port is assigned, that a deleted pod is not listed, and that replacing
the account's keys replaces them all. Guesses: the sentences of refusals, that a pod's own key may
delete its pod and nothing else, how late a pod is listed.
"""

import re
import time

from clouds.base import Cloud, Refuse, Reply, call

KEY = "runpod-test-key"
H100, A100, MI300 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "AMD Instinct MI300X OAM"


def kind(name, memory, secure, community, most, places, maker="NVIDIA"):
    """A GPU: dollars and the most on one host in either cloud, and by data center how many pods'
    worth of single GPUs are free."""
    return {
        "id": name, "name": name, "pool": None, "manufacturer": maker, "memory": memory,
        "secure": secure > 0, "community": community > 0, "places": places,
        "price": {"secure": secure, "community": community},
        "maxCount": {"secure": most[0], "community": most[1]},
    }  # fmt: skip


KINDS = [
    kind(H100, 80, 2.75, 1.95, (8, 1), {"US-TX-3": 4, "EU-RO-1": 40, "US-KS-2": 0}),
    kind(A100, 80, 1.5, 0, (8, 0), {}),
    kind(MI300, 192, 0.5, 0, (8, 0), {"EU-RO-1": 9}, maker="AMD"),
    kind("NVIDIA L4", 24, 0, 0.25, (0, 4), {"CA-MTL-1": 8}),
]
_FIELDS = {
    "name", "image", "gpu", "cpu", "cloud", "disk", "ports", "env", "args", "registry", "mounts",
    "dataCenterIds", "globalNetworking", "startJupyter", "startSsh", "templateId",
}  # fmt: skip
_GPU_FIELDS = {
    "id", "count", "allowedCudaVersions", "minCudaVersion", "minRamPerGpu", "minVcpuCountPerGpu",
}  # fmt: skip


class RunPod(Cloud):
    prefix = "/v2"

    def __init__(self, *, port_s=0.0, **more):
        super().__init__(**more)
        self.port_s = port_s  # how long a running pod is without its public port
        self.sold_out = set()  # GPUs that can't be placed, whatever the catalog says
        self.no_access = set()  # GPUs in a pool that the account may not use
        self.balance = 100.0

    def authorize(self, request):
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key.startswith("pod-"):
            if request.path != f"/v2/pods/{key.removeprefix('pod-')}":
                raise _refuse(403, "Forbidden", "access denied")
        elif key != KEY:
            raise _refuse(401, "Unauthorized", "missing bearer token")

    def failure(self, status):
        return _refuse(status, "Injected", f"injected {status}").body

    def switched_off(self, machine):
        machine.status = "EXITED"  # and its disk goes on billing

    def pod_environment(self, machine):
        """What RunPod sets in the pod, and the caller's own variables."""
        return {
            "RUNPOD_POD_ID": machine.id, "RUNPOD_API_KEY": f"pod-{machine.id}",
            **machine.data["asked"]["env"],
        }  # fmt: skip

    @call("PUT", "/account/ssh-keys")
    def replace_keys(self, request):
        self.violations.append("every key of the account was replaced")
        return {"keys": request.body["keys"]}

    @call("GET", "/catalog/gpus")
    def catalog(self, request):
        params = dict(request.params)
        if params.pop("include", None) != "AVAILABILITY" or params.pop("product", None) != "POD":
            raise _refuse(400, "Bad Request", "include=AVAILABILITY needs product")
        count, cloud = int(params.pop("count", 1)), params.pop("cloud", "SECURE")
        if not re.fullmatch(r"\d+(\.\d+)?", params.pop("minCudaVersion", "12.0")) or params:
            raise _refuse(422, "Unprocessable Entity", "a parameter is wrong")
        return {"gpus": [self._shown(one, count, cloud) for one in KINDS]}

    def _shown(self, one, count, cloud):
        levels = {at: _level(free // count) for at, free in one["places"].items()}
        if count > one["maxCount"][cloud.lower()]:
            levels = {}
        shown = {key: value for key, value in one.items() if key != "places"}
        shown["availability"] = max(levels.values(), key=_LEVELS.index, default="NONE")
        if levels:
            shown["dataCenters"] = [
                {"id": at, "name": at, "availability": level} for at, level in levels.items()
            ]
        return shown

    @call("POST", "/pods")
    def launch(self, request):
        body = request.body
        wrong = [f"$: additional property {name!r}" for name in set(body) - _FIELDS]
        wrong += [f"$: missing {name}" for name in {"name", "image", "gpu"} - set(body)]
        if not wrong:
            wrong = _wrong_values(body)
        if wrong:
            raise _refuse(422, "Unprocessable Entity", "Request validation failed.", errors=wrong)
        wanted, cloud = body["gpu"], body.get("cloud", "SECURE").lower()
        listed = next((one for one in KINDS if one["id"] == wanted["id"]), None)
        count, places = wanted.get("count", 1), body.get("dataCenterIds") or [None]
        if listed is None or count > listed["maxCount"][cloud]:
            raise _refuse(400, "Bad Request", "no such GPU, or not so many")
        if wanted["id"] in self.no_access:
            raise _refuse(403, "Forbidden", "no access to the requested pool")
        if wanted["id"] in self.sold_out:
            raise _refuse(400, "Bad Request", "There are no instances available now.")
        if self.balance <= 0:
            raise _refuse(402, "Payment Required", "Insufficient balance")
        machine = self.make(
            body["name"], wanted["id"], listed["price"][cloud] * count,
            public_key=body.get("env", {}).get("PUBLIC_KEY", ""), gpu=wanted["id"], gpus=count,
            asked=body, place=places[0],
        )  # fmt: skip
        return Reply(201, self._pod(machine))

    @call("GET", "/pods")
    def list_instances(self, request):
        if set(request.params) - {"includeClusterPods"}:
            raise _refuse(400, "Bad Request", "unknown parameter")
        return {"pods": [self._pod(one) for one in self.seen() if one.ended_at is None]}

    @call("GET", "/pods/{machine_id}")
    def get_instance(self, request, machine_id):
        return self._pod(self._find(machine_id))

    @call("DELETE", "/pods/{machine_id}")
    def terminate(self, request, machine_id):
        self.end(self._find(machine_id))
        return Reply(204)

    def _find(self, machine_id):
        machine = self.find(machine_id)
        if machine is None:
            raise _refuse(404, "Not Found", "pod not found")
        return machine

    def _pod(self, machine):
        word = "RUNNING" if self.is_active(machine) else "PROVISIONING"
        if machine.ended_at is not None:
            word = "TERMINATED"
        word = machine.status.upper() or word
        asked = machine.data.get("asked", {})
        has_port = time.time() >= machine.active_at + self.port_s and "22/tcp" in asked.get(
            "ports", []
        )
        stands = word in {"EXITED", "TERMINATED"}
        return {
            "id": machine.id,
            "name": machine.name,
            "status": word,
            "image": asked.get("image", ""),
            "env": asked.get("env", {}),
            "ports": asked.get("ports", []),
            "gpu": {
                "id": machine.type, "count": asked.get("gpu", {}).get("count", 1),
                "vcpuCount": 16, "memory": 64,
            },
            "cloud": asked.get("cloud", "SECURE"),
            "dataCenterId": machine.data.get("place"),
            "ssh": {
                "proxy": {
                    "host": "ssh.runpod.io", "port": 22, "username": f"{machine.id}-64411eb2",
                    "command": "ssh",
                },
                "direct": {
                    "host": machine.host, "port": self.ssh_port, "username": self.user,
                    "command": "ssh",
                } if word == "RUNNING" and has_port else None,
            },
            "cost": 0.0 if stands else machine.price_usd_per_h,
            "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(machine.created_at)),
            "startedAt": None,
        }  # fmt: skip


_LEVELS = ("NONE", "LOW", "MEDIUM", "HIGH")


def _level(free):
    return _LEVELS[(free > 0) + (free > 2) + (free > 10)]


def _wrong_values(body):
    """What of the values breaks the schema."""
    env, ports = body.get("env", {}), body.get("ports", [])
    checks = {
        "name": isinstance(body["name"], str) and body["name"] != "",
        "image": isinstance(body["image"], str),
        "gpu": not set(body["gpu"]) - _GPU_FIELDS and isinstance(body["gpu"].get("id"), str),
        "cloud": body.get("cloud", "SECURE") in {"SECURE", "COMMUNITY"},
        "disk": isinstance(body.get("disk", 1), int) and body.get("disk", 1) >= 1,
        "env": all(isinstance(value, str) for value in env.values()) and len(env) <= 50,
        "ports": all(re.fullmatch(r"\d+/(tcp|http)", port) for port in ports),
        "startSsh": isinstance(body.get("startSsh", False), bool),
        "dataCenterIds": isinstance(body.get("dataCenterIds", []), list),
        "minCudaVersion": re.fullmatch(r"\d+\.\d+", body["gpu"].get("minCudaVersion", "12.0")),
    }
    return [f"$.{name} is wrong" for name, good in checks.items() if not good]


def _refuse(status, title, detail, **more):
    return Refuse(status, {"title": title, "status": status, "detail": detail, **more})
