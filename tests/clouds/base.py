"""A small stateful cloud for tests: an HTTP API whose instances are real machines behind real SSH.

A vendor's fake subclasses `Cloud` and writes its calls; this module owns what all clouds have in
common: time (building, active, address, late sshd, slow deletion), faults at each call, a billing
clock, and an audit log that tests take for the truth. What a fake is built from, and what of it is
not verified, stands in its own docstring.

An instance is a box of provider `local`: its own home folder, processes and SSH server, on an
address of its own in 127.0.0.0/8, so that a port stays a port as in a real cloud.
"""

import asyncio
import contextlib
import copy
import dataclasses
import inspect
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from towline.clock import RealClock
from towline.core.instance import InstanceId, Offer, Order, run_id_from, tag_for
from towline.providers.local import LocalProvider
from towline.providers.local_box import Box

#: what may go wrong at a call. Before its effect, so that nothing happened:
BEFORE = ("500", "503", "429", "403", "402", "garbage", "reset", "timeout", "kill")
#: refusals and good answers that are none, for tests of one driver: nothing happened either
ODD = ("400", "404", "409", "no such page", "refused", "unsuccessful", "failed")
#: after its effect, so that it happened and the caller is told otherwise, or nothing:
AFTER = ("500_after", "garbage_after", "reset_after", "timeout_after", "kill_after")
#: of calls that create: the effect comes, the reply is lost, and lists show it only later
LATE = ("late",)
#: of calls that list: yesterday's answer; one row missing
READS = ("stale", "partial", "null")
#: and those that no list may pass for: no row at all, and null in the place of rows
EMPTY = ("empty", "null")
FAULTS = BEFORE + AFTER + LATE + READS

_SMI = """\
#!/bin/sh
# {gpus} GPUs, as NVIDIA's tool would list them
for argument; do case $argument in --query-gpu=*) fields=${{argument#--query-gpu=}};; esac; done
for number in $(seq {gpus}); do
  line=
  for field in $(echo "$fields" | tr , ' '); do
    case $field in
    name) value='{name}';; memory.total) value={memory};; driver_version) value=580.95.05;;
    index) value=$((number - 1));; *) value=0;;
    esac
    line="$line, $value"
  done
  echo "${{line#, }}"
done
"""
#: runs as the user who runs the tests: everything but switching the instance off is only noted
_SUDO = """\
#!/bin/sh
[ "$1" = -n ] && shift
echo "$*" >> '{folder}/sudo.log'
case $1 in shutdown) touch '{folder}/shutdown';; true) exit 0;; esac
"""


@dataclasses.dataclass
class Machine:
    """One rented machine, as the cloud itself knows it."""

    id: str
    name: str
    type: str
    price_usd_per_h: float
    created_at: float
    foreign: bool = False  # somebody else's: never to be touched
    visible_at: float = 0.0  # in lists and reads
    active_at: float = 0.0
    status: str = ""  # forced by a test, such as an errored one; "" lives by time
    host: str = ""
    public_key: str = ""
    host_key: str | None = None
    gone_at: float | None = None  # when it stops being listed
    ended_at: float | None = None  # when it stopped billing
    box: str | None = None
    listener: object = None  # in place of a box: a port that greets as an SSH server does
    data: dict = dataclasses.field(default_factory=dict)  # what the vendor's API says of it


@dataclasses.dataclass
class Request:
    """One call as a fake's method sees it."""

    path: str
    params: dict
    body: object
    headers: dict
    text: str = ""


class Refuse(Exception):
    """The fake answers with a failure of the vendor's own form."""

    def __init__(self, status, body, headers=()):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, dict(headers)


@dataclasses.dataclass
class Reply:
    """A good answer with another status than 200; text is sent as it is."""

    status: int
    body: object = None
    headers: dict = dataclasses.field(default_factory=dict)


def call(method, pattern):
    """Mark a method of a cloud as one of its calls; `{name}` in the pattern is an argument."""

    def mark(function):
        parts = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
        function.route = (method, re.compile(parts))
        return function

    return mark


class Cloud:
    """The common half; `prefix` is the part of the URL that `base_url` ends with."""

    prefix = ""
    user = "towline"
    #: how many of its kind may live in one process; None: any number
    at_once = None
    #: names of the calls that make something, which may show later than their answer
    creates = ("launch",)

    def __init__(
        self, *, boxes=True, boot_s=0.0, ssh_delay_s=0.0, delete_s=0.0, late_s=0.4, pid_file=None
    ):
        self.folder = Path(tempfile.mkdtemp(prefix="tl-cloud-"))
        self.boxes, self.boot_s, self.ssh_delay_s = boxes, boot_s, ssh_delay_s
        self.delete_s, self.late_s, self.pid_file = delete_s, late_s, pid_file
        self.lock = threading.RLock()
        self.machines: dict[str, Machine] = {}
        self.audit = []  # (time, call, fault)
        self.faults = []  # [call, kind]: each strikes once, in order
        self.violations = []  # what no caller may do
        self.distort = lambda _name, answer: answer  # (status, body, headers) as they are sent
        self._last = {}
        self._ending = []
        self._number = random.SystemRandom().randrange(1, 200)
        self.ssh_port = _free_port()
        self.routes = [
            (name, *method.route)
            for name, method in inspect.getmembers(type(self), inspect.isfunction)
            if hasattr(method, "route")
        ]
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.cloud = self
        self.base_url = f"http://127.0.0.1:{self._server.server_port}{self.prefix}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def close(self):
        """Stop the API, end every machine, remove every file."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        for machine in list(self.machines.values()):
            self._end_box(machine)
        for thread in self._ending:
            thread.join(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what tests ask and set -----------------------------------------------------------------

    @property
    def calls(self):
        """Names of the calls that there are."""
        return [name for name, _method, _pattern in self.routes]

    def lists(self, name):
        """Whether the last answer of a call held a list."""
        status, body, _headers = self._last.get(name, (0, None, {}))
        values = body.values() if isinstance(body, dict) else ()
        return status == 200 and (
            isinstance(body, list) or any(isinstance(v, list) for v in values)
        )

    def asked(self, name):
        """How often a call was made."""
        return sum(entry[1] == name for entry in self.audit)

    def fail(self, name, kind, times=1):
        """The next calls of that name go wrong."""
        assert name in self.calls, (name, self.calls)
        self.faults += [[name, kind] for _ in range(times)]

    def ours(self):
        """Machines that towline made, also those that are gone."""
        return [one for one in self.machines.values() if not one.foreign]

    def alive(self):
        """Machines of towline's that are there or bill."""
        self.settle()
        return [one for one in self.ours() if one.ended_at is None]

    def doubles(self):
        """Names under which two machines of towline's were up at the same moment."""
        found = []
        for one in self.ours():
            for other in self.ours():
                if one.id < other.id and one.name == other.name:
                    start = max(one.created_at, other.created_at)
                    end = min(one.ended_at or time.time(), other.ended_at or time.time())
                    if start < end:
                        found.append(one.name)
        return found

    def left_over(self):
        """Keys, addresses and the like that towline made and that are still there: their ids."""
        return []

    def bill_usd(self):
        """What everything has cost so far."""
        now = time.time()
        return (
            sum((one.ended_at or now) - one.created_at for one in self.ours())
            / 3600
            * max((one.price_usd_per_h for one in self.ours()), default=0.0)
        )

    def place_foreign(self, name, **data):
        """Somebody else's machine appears; touching it is a violation."""
        return self.make(name, "foreign", 1.0, foreign=True, **data)

    # -- for the vendors' halves ----------------------------------------------------------------

    def make(
        self, name, kind, price, *, public_key="", host_key=None, gpu=None, gpus=0,
        memory_mib=81559, foreign=False, machine_id=None, status="", **data,
    ):  # fmt: skip
        """Make a machine; it is active `boot_s` from now, unless the fault at hand is `late`."""
        now = time.time()
        machine = Machine(
            id=machine_id or self.new_id(), name=name, type=kind, price_usd_per_h=price,
            created_at=now, foreign=foreign, active_at=now + self.boot_s, public_key=public_key,
            host_key=host_key, status=status, data=data,
        )  # fmt: skip
        machine.visible_at = now + (self.late_s if self._kind == "late" else 0.0)
        with self.lock:
            self._number += 1
            machine.host = (
                f"127.{100 + os.getpid() % 100}.{self._number // 200}.{1 + self._number % 200}"
            )
            self.machines[machine.id] = machine
        if self.boxes and not foreign:
            machine.box = self._make_box(machine, gpu, gpus, memory_mib)
        elif not foreign:
            machine.listener = _Greeter((machine.host, self.ssh_port))
        return machine

    def new_id(self):
        """An id as the vendor gives them."""
        return os.urandom(8).hex()

    def seen(self):
        """Machines that lists and reads show now."""
        self.settle()
        now = time.time()
        return [
            one
            for one in self.machines.values()
            if one.visible_at <= now and (one.gone_at is None or one.gone_at > now)
        ]

    def find(self, machine_id):
        """One of them, None when there is none."""
        return next((one for one in self.seen() if one.id == machine_id), None)

    def is_active(self, machine):
        """Whether it has booted and is not on its way out."""
        return not machine.status and machine.ended_at is None and time.time() >= machine.active_at

    def end(self, machine):
        """Destroy it: it stops billing at once and is listed for `delete_s` more."""
        if machine.foreign:
            self.violations.append(f"{machine.name} ({machine.id}) is somebody else's")
        if machine.ended_at is None:
            machine.ended_at = time.time()
            machine.gone_at = machine.ended_at + self.delete_s
            thread = threading.Thread(target=self._end_box, args=(machine,))
            self._ending.append(thread)
            thread.start()

    def settle(self):
        """Let what ended by itself be ended: an instance that was switched off from within."""
        for machine in self.machines.values():
            if machine.box and (self.folder / "local" / machine.box / "shutdown").exists():
                self.switched_off(machine)

    def switched_off(self, machine):
        """The instance was shut down from within; by default it goes on billing."""
        machine.status = machine.status or "off"

    def authorize(self, request):
        """Raise `Refuse` for a request without the right key."""

    def failure(self, status):
        """The body of an injected failure with that status, in the vendor's form."""
        return {"error": f"injected {status}"}

    # -- one request ----------------------------------------------------------------------------

    _kind = None  # of the fault at hand, while its call has its effect

    def answer(self, method, target, headers, raw):
        """One request: the injected fault, the effect, the answer; None hangs up."""
        parts = urlsplit(target)
        path = unquote(parts.path)
        with self.lock:
            name, arguments = self._match(method, path)
            kind = self._strike(name)
            self.audit.append((time.time(), name, kind))
        if kind in BEFORE + ODD:
            return self._failed(kind)
        text = raw.decode(errors="replace")
        request = Request(path, dict(parse_qsl(parts.query)), _json(text), headers, text)
        with self.lock:
            self._kind = kind
            try:
                answer = self._effect(name, request, arguments)
            finally:
                self._kind = None
        if kind in AFTER:
            return self._failed(kind.removesuffix("_after"))
        if kind == "late":
            return None
        answer, self._last[name] = self._read_wrongly(name, kind, answer), answer
        return self.distort(name, answer)

    def _match(self, method, path):
        for name, wanted, pattern in self.routes:
            found = pattern.fullmatch(path.removeprefix(self.prefix))
            if found and wanted == method and path.startswith(self.prefix):
                return name, found.groupdict()
        return f"unknown:{method} {path}", {}

    def _strike(self, name):
        for fault in self.faults:
            if fault[0] == name:
                self.faults.remove(fault)
                return fault[1]
        return None

    def _effect(self, name, request, arguments):
        try:
            self.authorize(request)
            if name.startswith("unknown:"):
                self.violations.append(name)
                return 404, {"error": f"no such call: {name}"}, {}
            answer = getattr(self, name)(request, **arguments)
        except Refuse as refused:
            return refused.status, refused.body, refused.headers
        except Exception as error:  # its own mistake must not pass for a broken connection
            self.violations.append(f"{name}: {error!r}")
            raise
        if isinstance(answer, Reply):
            return answer.status, answer.body, answer.headers
        return 200, answer, {}

    def _read_wrongly(self, name, kind, answer):
        if kind == "stale":
            return self._last.get(name, answer)
        if kind == "partial":
            return _without_one(answer)
        if kind in EMPTY:
            return _with_list(answer, [] if kind == "empty" else None)
        return answer

    def _failed(self, kind):
        match kind:
            case "kill":
                self._kill()
                return None
            case "garbage":
                return 200, "<html>maintenance</html>", {}
            case "no such page":
                return 404, "<html>404 page not found</html>", {}
            case "refused":
                return 200, {"error": {"code": "internal", "message": "injected"}}, {}
            case "unsuccessful":
                return 200, {"success": False, "errors": ["injected"]}, {}
            case "failed":
                return 200, {"status": False, "message": "injected"}, {}
            case "reset":
                return None
            case "timeout":
                time.sleep(self.timeout_s)
                return None
        status = int(kind)
        headers = {"Retry-After": "0"} if status == 429 else {}
        return status, self.failure(status), headers

    timeout_s = 0.6  # longer than the `timeout_s` that tests give the driver

    def _kill(self):
        """End the process that asks, as its machine's power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(Path(self.pid_file).read_text()), signal.SIGKILL)

    # -- boxes ----------------------------------------------------------------------------------

    def _make_box(self, machine, gpu, gpus, memory_mib):
        settings = {"boot_s": self.boot_s, "ssh_delay_s": self.ssh_delay_s}
        provider = LocalProvider(
            self.folder, settings, RealClock(), listen=(machine.host, self.ssh_port)
        )
        order = Order(
            tag=tag_for(run_id_from(os.urandom(8))), public_key=machine.public_key,
            host_key=machine.host_key,
        )  # fmt: skip
        made = asyncio.run(provider.create(Offer(provider="local", type="box"), order))
        box = self.folder / "local" / made.id
        if gpu:
            self._program(
                box / "bin" / "nvidia-smi",
                _SMI.format(
                    gpus=gpus or 1, name=f"NVIDIA {gpu.removeprefix('NVIDIA ')}", memory=memory_mib
                ),
            )
        self._program(box / "bin" / "sudo", _SUDO.format(folder=box))
        return made.id

    def _program(self, path, text):
        path.write_text(text)
        path.chmod(0o755)

    def _end_box(self, machine):
        if machine.box:
            Box(self.folder / "local" / machine.box).end()
        if machine.listener:
            machine.listener.close()


def host_key_of(user_data):
    """The host key that cloud-init would install; None when the user-data brings none."""
    if not user_data or not user_data.startswith("#cloud-config"):
        return None
    return yaml.safe_load(user_data)["ssh_keys"]["ed25519_private"]


def box_instance(cloud, machine_id):
    """The folder of a machine's box."""
    return cloud.folder / "local" / cloud.machines[InstanceId(machine_id)].box


def _without_one(answer):
    """The same answer with one row missing from its first list."""
    status, body, headers = answer
    body = copy.deepcopy(body)  # it may be the cloud's own list
    lists = body if isinstance(body, list) else next(
        (value for value in body.values() if isinstance(value, list)), []
    )  # fmt: skip
    del lists[-1:]
    return status, body, headers


def _with_list(answer, rows):
    """The same answer with other rows in its first list."""
    status, body, headers = answer
    if isinstance(body, list):
        return status, rows, headers
    name = next((name for name, value in body.items() if isinstance(value, list)), None)
    return status, body if name is None else {**body, name: rows}, headers


def _json(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class _Greeter:
    """A port that says "SSH-2.0-" and hangs up, for tests that end where SSH begins."""

    def __init__(self, address):
        self._socket = socket.create_server(address)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _peer = self._socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"SSH-2.0-none\r\n")

    def close(self):
        with contextlib.suppress(OSError):  # it was closed before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that was killed or gave up has closed its end."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        headers = {key.lower(): value for key, value in self.headers.items()}
        raw = self.rfile.read(length)
        answer = self.server.cloud.answer(self.command, self.path, headers, raw)
        self.close_connection = True
        if answer is None:  # a reset, not an end: the client must not take it for an answer
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        status, body, headers = answer
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        data = b"" if body is None else data
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815 - http.server's names

    def log_message(self, *_args):
        """The audit log says it."""
