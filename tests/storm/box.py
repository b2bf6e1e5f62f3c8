"""A model of one instance, and of towline's program on it: what the verbs do, in true time.

It knows the frames of the wire and what `towline.onboard` promises; it has no processes, only facts
about them. `RULES` are promises of the program that a mutation may take back.
"""

import hashlib
import json
import struct

from tests.storm import oracle
from tests.storm.world import EPOCH
from towline.core.attest import proof
from towline.onboard import blocks, wire

RULES = {
    "guard_needs_disk": False,  # it writes its reason before it ends the instance, or dies
    "guard_waits_for_the_job": False,  # however long the job takes to die
    "survey_cut": None,  # files after so many are left out, and nobody says so
    "exit_marker_needs_disk": False,
    "halt_waits_for_ever": False,  # for a job that no signal ends
    "board_needs_disk": False,  # the program can't lie in memory
    "guard_returns": True,  # after a reboot, where the machine has cron
}
HOME = "/home/ubuntu"
_KEEPALIVE_S = 2.0
_KILL_S = 5.0  # from SIGKILL on, until a job counts as undying


class Refused(Exception):
    """The verb ends with an ERROR frame of this kind."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


def model_bytes(seed, size=96):
    """A small safetensors file that is whole."""
    body = hashlib.sha256(str(seed).encode()).digest() * (size // 32)
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    return struct.pack("<Q", len(header)) + header.encode() + body


class Job:
    """The user's training, by its script: {"epochs", "every_s", "code", "save_s", "end", ...}."""

    def __init__(self, box, script, nonce):
        self.box = box
        self.script = script
        self.nonce = nonce
        self.alive = True
        self.ended_by = None  # None: by itself
        self.epoch = 0
        self.stuck = False  # in uninterruptible sleep
        self.started = box.world.now
        self.ended = None
        self._doomed = False
        box.world.after(script["every_s"], self._step)

    def _step(self):
        if not self.alive or self._doomed:
            return
        if self.stuck:
            return
        self.epoch += 1
        total = self.script["epochs"]
        self.box.write_log(f"epoch {self.epoch}/{total} loss={1 / self.epoch:.4f}\n".encode())
        every = self.script.get("checkpoints")
        if every and self.epoch % every == 0:
            self.box.write(f"output/ckpt-{self.epoch}.safetensors", model_bytes(self.epoch))
        if self.epoch < total:
            self.box.world.after(self.script["every_s"], self._step)
        else:
            self.box.world.after(self.script["save_s"], self._finish)

    def _finish(self):
        if not self.alive or self._doomed or self.stuck:
            return
        if self.script["code"] == 0:
            self.save()
        self.box.write_log(b"done\n" if self.script["code"] == 0 else b"Traceback: no\n")
        self._over(self.script["code"], 0)

    def save(self):
        data = model_bytes(f"final-{self.epoch}")
        self.box.write("output/model.safetensors", data)
        self.box.model_saved = hashlib.sha256(data).hexdigest()
        for number in range(self.script.get("extra_files", 0)):
            self.box.write(f"output/extra-{number}.txt", b"x")

    def terminate(self, why):
        """SIGTERM: most scripts save what they have and end."""
        if self.alive and not self._doomed and not self.stuck:
            oracle.job_ended(self.box.life, self.box, why)
            self._doomed = True
            self.ended_by = why
            if self.script.get("deaf"):
                self._doomed = False
                return
            self.box.world.after(self.script["term_s"], self._saved)

    def _saved(self):
        if self.alive and not self.stuck:
            self.save()
            self._over(143, 15)

    def kill(self, why):
        """SIGKILL; one in uninterruptible sleep does not even notice."""
        if self.alive and not self.stuck:
            oracle.job_ended(self.box.life, self.box, why)
            self.ended_by = self.ended_by or why
            self._over(137, 9)

    def vanish(self, why):
        """The machine under it is gone or starts anew."""
        if self.alive:
            self.ended_by = why
            self.alive = False
            self.ended = self.box.world.now

    def _over(self, code, signum):
        self.alive = False
        self.ended = self.box.world.now
        self.box.job_over(self, code, signum)


class Box:
    """One machine: its files, processes, guard and clock."""

    def __init__(self, world, name, script, rented=None):
        self.world = world
        self.name = name
        self.script = script
        self.rented = rented
        self.authorized = None  # the public key line of the run
        self.host_key = f"ssh-ed25519 HOST-{name}"
        self.first_host_key = None  # shown until `host_key_from`
        self.host_key_from = 0.0
        self.ssh_from = 0.0
        self.powered = True
        self.attached = False
        self.booted = world.now
        self.clock_off = self.clock_at_start = 0.0
        self.full_until = self.no_procs_until = self.unreachable_until = 0.0
        self.channels = set()
        self.begun = 0  # how often the user's command began
        self.files = {}  # path below the run's folder -> (bytes, mtime_ns)
        self.log = bytearray()
        self.pyz = None
        self.control = {}  # markers
        self.delivered = {}  # upload -> digest
        self.staged = {}  # upload -> {"lines": [...], "objects": {sha: data}}
        self.contents = {}
        self.job = None
        self.supervisor = False
        self.guard = None
        self.armed_at = None  # when the guard first had its orders
        self.rearmed_at = None  # when it had them again after it had been lost
        self.age_known, self.age_since = 0.0, world.now
        self.halted_s = None  # the age at which the training was asked to end
        self.guard_alive = False
        self.guard_lost_at = None
        self.boarded_at = 0.0
        self.contact = None
        self.left = False  # `leave` was done
        self.model_saved = None  # hash of the model as the training saved it
        self.life = None

    # -- facts ----------------------------------------------------------------------------------

    def now(self):
        """Its own wall clock."""
        return EPOCH + self.world.now + self.clock_off

    def is_full(self):
        return self.world.now < self.full_until

    def lacks_procs(self):
        return self.world.now < self.no_procs_until

    def ssh_up(self):
        return self.powered and self.world.now >= max(self.ssh_from, self.unreachable_until)

    def write(self, path, data):
        self.files[path] = (data, int(self.now() * 1e9))

    def write_log(self, data):
        self.log += data
        self._wake()

    def need_disk(self):
        if self.is_full():
            raise Refused("disk_full", "[Errno 28] No space left on device")

    def _wake(self):
        for channel in list(self.channels):
            channel.wake()

    # -- what happens to it ---------------------------------------------------------------------

    def power_off(self, why):
        if self.powered:
            self.powered = False
            self.guard_alive = self.supervisor = False
            if self.job is not None:
                self.job.vanish(why)
            self.cut(why)

    def reboot(self):
        if not self.powered:
            return
        self.world.say(f"{self.name} reboots")
        self.booted = self.world.now
        self.ssh_from = self.world.now + 20
        self.lose_guard()
        self.supervisor = False
        if self.job is not None:
            self.job.vanish("reboot")
        self.cut("reboot")
        if self.script.get("cron") and RULES["guard_returns"]:
            self.world.after(15.0, self.return_guard)

    def lose_guard(self):
        """The guard is killed, by chance or with everything else."""
        if self.guard_alive:
            self.guard_alive = False
            self.guard_lost_at = self.world.now

    def cut(self, _why):
        for channel in list(self.channels):
            channel.connection.cut()
        self.channels.clear()

    def job_over(self, job, code, signum):
        how = f" ({job.ended_by})" if job.ended_by else ""
        self.world.say(f"{self.name}: the training ended with {code}{how}")
        self.supervisor = False
        if not (RULES["exit_marker_needs_disk"] and self.is_full()):
            self.control["exit"] = {
                "nonce": job.nonce, "code": code, "signal": signum, "at": self.now(),
                "log_size": len(self.log),
            }  # fmt: skip
        self._wake()

    # -- its age, and the guard -------------------------------------------------------------------

    def age(self):
        """Seconds since it was asked for, as it knows them."""
        return self.age_known + self.world.now - self.age_since

    def watch(self, generation):
        """The guard's look: once a second in truth, here whenever something could be due."""
        if not self.guard_alive or generation != self.guard["generation"] or self.left:
            return
        guard, now = self.guard, self.age()
        due = guard["training_s"] is not None and now >= guard["training_s"]
        if due and self.phase() == "running":
            if not self._guard_speaks(guard["why"]):
                return
            self._guard_halts(now)
        why = self._why_end(now)
        if why is not None:
            if not guard["end_argv"]:
                if not self._is_company(now):
                    self.guard_alive = False  # nothing is left here that it could end
                    return
            elif not self._guard_speaks(why, is_limit=False):
                return
            waits = RULES["guard_waits_for_the_job"] and self.job is not None and self.job.alive
            if guard["end_argv"] and self.rented is not None and not waits:
                self.rented.account.end(self.rented, "the instance itself")
                return
        self.world.after(self._guard_pause(), self.watch, generation)

    def _guard_speaks(self, why, *, is_limit=True):
        """Say why, once; whether the guard still lives."""
        if self.control.get("guard") is None:
            self.world.say(f"{self.name}: the guard acts: {why}")
        if RULES["guard_needs_disk"] and self.is_full():
            self.guard_alive = False
            self.world.say(f"{self.name}: the guard died: no space left")
            return False
        said = dict(self.control.get("guard") or {}, reason=why)
        self.control["guard"] = said | {"limit": why} if is_limit else said
        return True

    def _guard_halts(self, now):
        if self.halted_s is None:
            self.halted_s = now
            if self.job is not None:
                self.job.terminate("guard")
        elif now - self.halted_s >= self.guard["stop_grace_s"] and self.job is not None:
            self.job.kill("guard")

    def _why_end(self, now):
        if self.guard["lifetime_s"] is not None and now >= self.guard["lifetime_s"]:
            return "the run reached its time or cost limit"
        if self.world.now - self.contact > self.guard["grace_s"] and not self._is_company(now):
            return "nobody came"
        return None

    def _is_company(self, now):
        if self.phase() != "running":
            return False
        return self.halted_s is None or now - self.halted_s <= self.guard["stop_grace_s"] + _KILL_S

    def _guard_pause(self):
        guard, now = self.guard, self.age()
        ahead = [guard["grace_s"] - (self.world.now - self.contact) + 0.5]
        ends = (guard["training_s"], guard["lifetime_s"])
        ahead += [at - now for at in ends if at is not None]
        if self.halted_s is not None:
            ahead.append(self.halted_s + guard["stop_grace_s"] - now)
        ahead = [one for one in ahead if one > 0]
        if self.phase() == "running" or not ahead:
            return max(0.05, min([5.0, *ahead]))
        return max(0.05, min(ahead))

    def return_guard(self):
        """After a reboot cron starts the guard again, by the orders that it had."""
        if self.powered and self.guard is not None and not self.guard_alive and not self.left:
            self.guard_alive = True
            self.guard_lost_at = None
            self.guard["generation"] += 1
            self.contact = self.world.now
            self.watch(self.guard["generation"])

    # -- the verbs that answer at once ----------------------------------------------------------

    def phase(self):
        if self.control.get("exit") is not None:
            return "ended"
        if self.job is None:
            return "running" if self.supervisor else "none"
        return "running" if self.supervisor or self.job.alive else "interrupted"

    def state(self):
        return {
            "phase": self.phase(), "start": self.control.get("start"),
            "exit": self.control.get("exit"), "guard": self.control.get("guard"),
            "detached": None, "clock_back_s": max(0.0, self.clock_at_start - self.clock_off),
        }  # fmt: skip

    def fence(self, request):
        if "epoch" not in self.control:
            self.need_disk()
        if request["epoch"] < self.control.get("epoch", 0):
            raise Refused("fenced", "a newer driver of this run owns the instance")
        self.control["epoch"] = request["epoch"]

    def inspect(self, _request):
        gpu = {"name": "NVIDIA H100 80GB HBM3", "memory_mib": "81559", "driver": "550"}
        return {
            "home": HOME, "python": "/usr/bin/python3", "python_version": "3.10.12",
            "system": "Linux", "cpus": 8,
            "disk_free_bytes": 50_000 if self.is_full() else 500_000_000_000,
            "inodes_free": 1_000_000, "gpus": [gpu] * self.script.get("gpus", 0), "codecs": [],
            "tools": ["tmux", "docker"],
        }  # fmt: skip

    def attest(self, request):
        line = self.authorized or ""
        before, found, comment = line.partition(request["key"])
        if not (before and found and comment.strip()):
            return {"mac": None}
        return {"mac": proof(comment.strip(), request["nonce"], request["host_key"])}

    def end_passwords(self, request):
        self.fence(request)
        return {"error": None}

    def arm(self, request):
        """The guard's orders; the age as the driver knows it, the first time."""
        self.fence(request)
        told, generation = request["age"], 1
        if self.guard is None:
            up_s = self.world.now - self.booted if told["own_boot"] else 0.0
            witnessed_s = max(0.0, min(told["wall_s"], up_s + told["boot_s"]))
            self.age_known = max(told["known_s"] or 0.0, witnessed_s)
            self.age_since = self.armed_at = self.world.now
        else:
            generation += self.guard["generation"]
        if self.guard_lost_at is not None:
            self.guard_lost_at, self.rearmed_at = None, self.world.now
        self.guard = request["limits"] | {"end_argv": request["end_argv"], "generation": generation}
        self.contact = self.world.now
        self.guard_alive = True
        self.watch(generation)
        comes_back = "cron" if request["reboot"] and self.script.get("cron") else None
        return {"armed": True, "age_s": self.age(), "reboot": comes_back}

    def equip(self, request):
        self.fence(request)
        return {"venv": f"{HOME}/towline/.cache/venv", "tool": "pip", "cached": False, "shared": []}

    def preflight(self, _request):
        return {"frameworks": {}}

    def start(self, request):
        """Exactly once: the marker is exclusive."""
        self.fence(request)
        if self.job is None and not self.supervisor:
            self.need_disk()
            nonce = request["nonce"]
            self.control["start"] = {
                "run": request["run"], "epoch": request["epoch"], "at": self.now(),
                "nonce_sha256": hashlib.sha256(nonce.encode()).hexdigest(),
            }  # fmt: skip
            self.begun += 1
            self.clock_at_start = self.clock_off
            self.supervisor = True
            self.job = Job(self, self.script, nonce)
            self.world.say(f"{self.name}: the training begins")
        return self.state() | {"window": None}

    def examine(self, request):
        checks = {}
        for path in request["paths"]:
            data = self._file(path)
            if data is not None:
                torn = len(data) < 8 or len(data) != len(model_bytes(0))
                odd = path.endswith(".safetensors") and torn
                checks[path] = ["damaged", "safetensors", "cut"] if odd else ["whole", "", ""]
        return {"checks": checks, "uploaded": {}, "unread": []}

    def digest(self, request):
        sha256, size = {}, {}
        for path in request["paths"]:
            data = self._file(path)
            sha256[path] = None if data is None else hashlib.sha256(data).hexdigest()
            size[path] = 0 if data is None else len(data)
        return {"sha256": sha256, "size": size, "unread": []}

    def look(self, request):
        files = {}
        for path in request["paths"]:
            found = self.files.get(_below(path))
            if found is not None:
                files[path] = [len(found[0]), found[1], False]
        return {"files": files}

    def leave(self, request):
        """Kill the run's processes, remove its folder."""
        oracle.instance_ended(self.life, self, "leave")
        if self.job is not None and self.job.alive:
            self.job.kill("leave")
            if self.job.alive:
                return {"processes_left": 1, "folder_gone": False}
        self.left = True
        self.guard_alive = self.supervisor = False
        self.files, self.control, self.staged, self.delivered = {}, {}, {}, {}
        self.world.say(f"{self.name}: the run's folder is removed")
        return {"processes_left": 0, "folder_gone": True}

    def _file(self, path):
        found = self.files.get(_below(path))
        return None if found is None else found[0]


def _below(path):
    """A path below the run's folder."""
    return path.split("/towline/", 1)[1].partition("/")[2]


#: verbs of one request and one answer: (method, seconds that they take)
SIMPLE = {
    "inspect": ("inspect", 0.2),
    "attest": ("attest", 0.1),
    "end_passwords": ("end_passwords", 0.3),
    "guard": ("arm", 0.1),
    "preflight": ("preflight", 1.0),
    "start": ("start", 0.2),
    "look": ("look", 0.5),
    "examine": ("examine", 0.1),
    "digest": ("digest", 0.1),
    "leave": ("leave", 0.3),
}


class Verb:
    """One verb under way. ``feed`` takes a frame, ``turn`` says what is to be sent, and when next."""

    def __init__(self, box, name):
        self.box = box
        self.name = name
        self.request = None
        self.out = []
        self.over = False
        self.next_at = None
        self._due = None

    def feed(self, kind, payload):
        world = self.box.world
        world.dirty = True
        if self.box.contact is not None:
            self.box.contact = world.now
        if self.request is None:
            self.request = json.loads(payload)
            self.begin()
        else:
            self.more(kind, payload)

    def begin(self):
        method, seconds = SIMPLE[self.name]
        self._due = method
        self.next_at = self.box.world.now + seconds

    def more(self, kind, payload):
        pass

    def turn(self):
        """Send what is due; called whenever something may have changed."""
        if self._due is not None and self.box.world.now >= self.next_at - 1e-6:
            method, self._due, self.next_at = self._due, None, None
            self.answer(getattr(self.box, method))

    def answer(self, function):
        try:
            self.send_json(wire.RESULT, function(self.request))
        except Refused as refused:
            self.send_json(wire.ERROR, {"kind": refused.kind, "message": str(refused)})
        self.over = True

    def send(self, kind, payload=b""):
        self.out.append(wire.pack(kind, payload))

    def send_json(self, kind, value):
        self.out.append(wire.pack_json(kind, value))


class State(Verb):
    def begin(self):
        self.answer(lambda _request: self.box.state())


class Equip(Verb):
    def begin(self):
        self.send(wire.DATA, b"Collecting torch\n")
        self._due, self.next_at = "equip", self.box.world.now + 4.0


class Halt(Verb):
    """TERM, KILL after the grace; what lives some seconds after that is told, not waited for."""

    def begin(self):
        box = self.box
        try:
            box.fence(self.request)
        except Refused as refused:
            self.answer(_raiser(refused))
            return
        self._kill_at = box.world.now + self.request["grace_s"]
        self.said = box.world.now
        if box.job is not None and box.job.alive:
            box.world.say(f"{box.name}: halt")
            box.halted_s = box.age() if box.halted_s is None else box.halted_s
            box.job.terminate("halt")
        self.next_at = box.world.now + 0.1

    def turn(self):
        if self.over or self.request is None:
            return
        box = self.box
        now = box.world.now + 1e-6
        undying = now >= self._kill_at + _KILL_S and not RULES["halt_waits_for_ever"]
        if now >= self._kill_at and box.job is not None:
            box.job.kill("halt")
        if box.job is None or box.phase() != "running" or undying:
            self.answer(lambda _request: box.state())
            return
        if now - self.said >= _KEEPALIVE_S and not RULES["halt_waits_for_ever"]:
            self.send_json(wire.JSON, {"halting": True})
            self.said = now
        ahead = [self.said + _KEEPALIVE_S, self._kill_at, self._kill_at + _KILL_S]
        self.next_at = min([at for at in ahead if at > now], default=now + 1.0)


class Follow(Verb):
    """The log from an offset on, in blocks; the age first, a sign of life every two seconds."""

    def begin(self):
        box = self.box
        self.offset = self.request["offset"]
        self.said = self.grew = box.world.now
        self.caught_up = False
        box.contact = box.world.now
        age = {"age_s": box.age() if box.guard is not None else None}
        self.send_json(wire.JSON, age | {"running": box.phase() == "running"})

    def turn(self):
        if self.over or self.request is None:
            return
        box, now = self.box, self.box.world.now
        if len(box.log) > self.offset:
            block = bytes(box.log[self.offset : self.offset + 262144])
            self.send(wire.DATA, blocks.wrap(block, "stored"))
            self.offset += len(block)
            self.said = self.grew = now
            self.caught_up = False
        elif box.phase() != "running":
            self.send_json(wire.RESULT, box.state() | {"offset": self.offset})
            self.over = True
            return
        elif not self.caught_up or now - self.said >= _KEEPALIVE_S - 1e-6:
            idle_s = round(now - self.grew, 3)
            self.send_json(wire.JSON, {"idle_s": idle_s, "detached": None})
            self.said, self.caught_up = now, True
        box.contact = now
        self.next_at = self.said + (_KEEPALIVE_S if self.caught_up else 0.05)


class Survey(Verb):
    """All files in rows; the end says how many there were."""

    def begin(self):
        self._due, self.next_at = "survey", self.box.world.now + 0.2

    def turn(self):
        if self._due is None or self.box.world.now < self.next_at - 1e-6:
            return
        self._due = self.next_at = None
        folders, cut = {}, RULES["survey_cut"]
        rows = sorted(self.box.files.items())[:cut]
        for path, (data, mtime_ns) in rows:
            folder, _, name = path.rpartition("/")
            folders.setdefault(folder, []).append([name, len(data), mtime_ns, 0o600, ""])
        if folders:
            raw = json.dumps(list(folders.items()), separators=(",", ":")).encode()
            self.send(wire.ROWS, blocks.wrap(raw, "stored"))
        result = {"files": len(rows), "unread": [], "unread_count": 0}
        self.answer(lambda _request: result)


class Read(Verb):
    """One file as it is read."""

    def begin(self):
        data = self.box._file(self.request["path"])
        if data is not None:
            self.send(wire.DATA, blocks.wrap(data, "stored"))
        said = None if data is None else hashlib.sha256(data).hexdigest()
        self.answer(lambda _request: {"sha256": said, "size": len(data or b"")})


class Receive(Verb):
    """The upload: manifest lines in, what is missing out, blocks in."""

    def begin(self):
        box, name = self.box, self.request["name"]
        try:
            box.fence(self.request)
        except Refused as refused:
            self.answer(_raiser(refused))
            return
        self.staged = box.staged.setdefault(name, {"lines": [], "objects": set()})
        lines = self.staged["lines"]
        self.written = 0
        self.kept = False
        self.send_json(wire.JSON, {
            "token": "t", "delivered": box.delivered.get(name), "rows": len(lines),
            "rows_sha256": hashlib.sha256(b"".join(lines)).hexdigest(),
        })  # fmt: skip

    def more(self, kind, payload):
        if self.over:
            return
        lines = self.staged["lines"]
        if not self.kept:
            choice = json.loads(payload)
            if "keep" not in choice:
                self.send_json(wire.JSON, {"written": 0})
                return
            self.kept = True
            if choice["same"]:
                self.send_json(wire.JSON, {"complete": True})
                self._done()
                return
            del lines[choice["keep"] :]
            self._answer(0)
        elif kind == wire.END:
            self._done()
            return
        elif kind == wire.ROWS:
            first = len(lines)
            lines += bytes(blocks.unwrap(payload)).splitlines(keepends=True)
            self._answer(first)
        elif kind == wire.DATA:
            if self.box.is_full():
                self.answer(_raiser(Refused("disk_filled", "no space left")))
                return
            for number, _offset, _data in blocks.records(payload):
                self.staged["objects"].add(json.loads(lines[number])[5])
            self.written += 1
        self.send_json(wire.JSON, {"written": self.written})

    def _answer(self, first):
        lines, want = self.staged["lines"], []
        for number in range(first, len(lines)):
            row = json.loads(lines[number])
            if row[1] == "f" and row[2] and row[5] not in self.staged["objects"]:
                want.append([number, 1])
        self.send_json(wire.JSON, {"rows": len(lines), "want": want, "partial": []})

    def _done(self):
        rows = [json.loads(line) for line in self.staged["lines"]]
        name, files = self.request["name"], [row for row in rows if row[1] == "f"]
        digest = hashlib.sha256(b"".join(self.staged["lines"])).hexdigest()
        self.box.delivered[name] = digest
        self.answer(lambda _request: {
            "files": len(files), "bytes": sum(row[2] for row in files), "manifest_sha256": digest
        })  # fmt: skip


class Send(Verb):
    def begin(self):
        self.sent = 0

    def more(self, kind, payload):
        if kind == wire.END:
            self.answer(lambda _request: {"bytes": self.sent})
            return
        parts = []
        for number, (path, start, end) in enumerate(json.loads(payload)["ask"]):
            data = (self.box._file(f"{self.request['base']}/{path}") or b"")[start:end]
            parts += [blocks.record(number, start, len(data)), data]
            self.sent += len(data)
        self.send(wire.DATA, blocks.wrap(b"".join(parts), "stored"))


TALKS = {
    "state": State, "equip": Equip, "halt": Halt, "follow": Follow, "receive": Receive,
    "send": Send, "survey": Survey, "read": Read,
}  # fmt: skip


def _raiser(error):
    def raise_it(_request):
        raise error

    return raise_it


def verb(box, name):
    return TALKS.get(name, Verb)(box, name)
