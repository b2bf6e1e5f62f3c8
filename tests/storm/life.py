"""One life: a run from `train` to its end, on the real code, through the faults of a plan.

The user is patient: when a command has ended and the run is active, he waits and asks again, a bounded
number of times, at last with the right key.
"""

import asyncio
import contextlib
import gc
import json
import random
import shutil
import sqlite3
from pathlib import Path

from tests.storm import install, oracle
from tests.storm.box import Box, model_bytes
from tests.storm.loop import CURRENT, Spinning, StormLoop, within
from tests.storm.world import EPOCH, Account, World
from towline import errors, recover
from towline.core.instance import Offer, Order, run_id_from, tag_for
from towline.core.run import Wish

RIGHT, WRONG, NONE, RENEWED = "right", "wrong", "none", "renewed"


class Process:
    """A process of the laptop; ``keys`` is what its shell holds."""

    def __init__(self, life, name, keys):
        life.processes.append(self)
        self.life = life
        self.number = len(life.processes)
        self.name = f"{name}#{self.number}"
        self.keys = keys
        self.alive = True
        self.databases = []
        self.tasks = []
        self.driver = False
        self.over = None  # future that says that it has ended
        self.foreground = None

    def die(self, why):
        """SIGKILL: nothing of it runs any more, its files are closed by the system."""
        if not self.alive:
            return
        self.alive = False
        self.life.world.say(f"{self.name} dies: {why}")
        self.shut()
        for box in self.life.boxes.values():
            for channel in list(box.channels):
                if channel.connection.process is self:
                    channel.connection.broken = True
                    box.channels.discard(channel)
        if self.over is not None and not self.over.done():
            self.over.set_result(None)

    def shut(self):
        for database in self.databases:
            with contextlib.suppress(sqlite3.Error):
                database.close()
        self.databases.clear()


class Life:
    """A world, a laptop in it, and the one who uses it."""

    def __init__(self, plan, folder):
        self.plan = plan
        self.folder = Path(folder)
        self.world = World(plan)
        self.loop = StormLoop(self.world, random.Random(f"{plan['seed']}:turns"))
        self.rng = random.Random(f"{plan['seed']}:secrets")
        self.processes = []
        self.boxes = {}
        self.wall_offset = 0.0
        self.outage_until = self.outage_over_at = 0.0
        self.locked_until = self.io_error_until = 0.0
        self.home_full_until = 0.0
        self.terminal_blocked_until = 0.0
        self.identity_away_until = 0.0
        self.key_pairs = 0
        self.wished = None  # (Wish, when) as the user said it
        self.commands = []  # what was asked, what it answered, how the world was then
        self.bugs = []
        self.run_id = None
        self.gave_up = False  # the user had waited for too long on what was still there
        self.home = self.folder / "home"
        self.results = self.folder / "results"
        self.identity = self.folder / "identity"

    # -- the laptop -----------------------------------------------------------------------------

    def wall(self):
        return EPOCH + self.world.now + self.wall_offset

    def monotonic(self):
        return 1000.0 + self.loop.time()

    def network_up(self):
        return self.world.now >= self.outage_until

    def account(self, name, key):
        """The account that a key opens; a renewed key opens the same as the one before."""
        key = RIGHT if key == RENEWED else key
        found = self.world.accounts.get((name, key))
        if found is None:
            shape = self.plan["shape"]
            features = install.features()[name]
            found = Account(self.world, name, key, features, shape)
            self.world.accounts[name, key] = found
        return found

    def make_box(self, rented):
        """The machine of a new instance."""
        shape, order = self.plan["shape"], rented.order
        box = Box(self.world, f"box-{len(self.boxes) + 1}", self.plan["job"], rented)
        box.life = self
        box.authorized = order.public_key
        box.ssh_from = self.world.now + shape["boot_s"] + shape["ssh_s"]
        if order.host_public_key:
            box.host_key = order.host_public_key
            if rented.account.features.host_key_late:
                box.first_host_key = f"ssh-ed25519 EARLY-{box.name}"
                box.host_key_from = box.ssh_from + 3
        self.boxes[box.name] = box
        return box

    def own_box(self):
        """The user's own machine, for `ssh`."""
        box = Box(self.world, "mybox", self.plan["job"])
        box.life = self
        self.boxes[box.name] = box
        self.identity.write_text("identity")

    def new_key_pair(self, comment):
        self.key_pairs += 1
        return f"KEY {self.key_pairs}", f"ssh-ed25519 BLOB{self.key_pairs}x {comment}"

    def key_fits(self, private, box):
        return box.authorized is not None and f"BLOB{private.split()[1]}x" in box.authorized

    def require_identity(self, address):
        if address.identity is not None and self.world.now < self.identity_away_until:
            raise errors.SpecError(f"the identity file {address.identity} can't be used: gone")

    def exit_now(self):
        """`os._exit`: the process is over where it stands."""
        from tests.storm.ports import Killed

        CURRENT.get().die("it ends itself")
        raise Killed

    def hopeless(self):
        """Give the life up: it would go on so for ever."""
        from tests.storm.ports import Killed

        self.loop.stop()
        for process in self.processes:
            process.alive = False
        return Killed()

    def known_id(self):
        """The run's id, also when `train` died before it could say it."""
        if self.run_id is None and (row := self.row("SELECT id FROM runs")) is not None:
            self.run_id = row[0]
        return self.run_id

    def judge_end(self, box, why):
        oracle.instance_ended(self, box, why)

    def judge_removal(self, thing):
        oracle.thing_removed(self, thing)

    # -- faults ---------------------------------------------------------------------------------

    def schedule(self):
        for fault in self.plan["faults"]:
            if "t" in fault:
                self.world.at(fault["t"], self.act, fault)
        if self.plan["neighbour"] and self.plan["provider"] not in ("ssh", "local"):
            for when in (0.0, 20.0):
                self.world.at(when, self.neighbour_works)

    def act(self, fault):
        """Do to the world what a fault says; faults of a single call are the port's."""
        do = getattr(self, f"do_{fault['what']}", None)
        if do is not None:
            if "t" in fault:
                self.world.say(f"fault: {fault['what']} {_words(fault)}")
            do(fault)

    def rented_boxes(self):
        return [box for box in self.boxes.values() if box.powered]

    def do_kill(self, _fault):
        process = CURRENT.get()
        if process is None or not process.alive:
            alive = [one for one in self.processes if one.alive and one.driver]
            process = alive[-1] if alive else None
        if process is not None:
            process.die("kill -9")

    def do_detach(self, _fault):
        for process in self.processes:
            if process.alive and process.foreground is not None:
                within(process, self.loop.call_soon, process.foreground._on_signal)

    def do_sleep(self, fault):
        self.outage_until = max(self.outage_until, self.world.now)
        for box in self.boxes.values():
            for channel in list(box.channels):
                channel.connection.broken = True
        self.loop.sleep_laptop(fault["s"])
        for box in self.boxes.values():
            for channel in list(box.channels):
                channel.wake()

    def do_clock(self, fault):
        self.wall_offset += fault["s"]

    def do_outage(self, fault):
        self.outage_until = self.outage_over_at = max(
            self.outage_until, self.world.now + fault["s"]
        )
        self._wake_at(self.outage_until)

    def _wake_at(self, when):
        def wake():
            for box in self.boxes.values():
                for channel in list(box.channels):
                    channel.wake()

        self.world.at(when, wake)

    def do_line_cut(self, _fault):
        for box in self.boxes.values():
            box.cut("cut")

    def do_api_down(self, fault):
        for account in self.world.accounts.values():
            account.down_until = self.world.now + fault["s"]

    def do_api_refuses(self, fault):
        for account in self.world.accounts.values():
            account.refusal = (fault["error"], self.world.now + fault["s"])

    def do_lose(self, _fault):
        for box in self.rented_boxes():
            if box.rented is not None and box.rented.ended is None:
                box.rented.account.take_away(box.rented)

    def do_reboot(self, _fault):
        for box in self.rented_boxes():
            box.reboot()

    def do_guard_dies(self, _fault):
        for box in self.rented_boxes():
            box.lose_guard()

    def do_box_full(self, fault):
        for box in self.rented_boxes():
            box.full_until = self.world.now + fault["s"]

    def do_box_no_procs(self, fault):
        for box in self.rented_boxes():
            box.no_procs_until = self.world.now + fault["s"]

    def do_box_clock(self, fault):
        for box in self.rented_boxes():
            box.clock_off += fault["s"]

    def do_job_stuck(self, _fault):
        for box in self.rented_boxes():
            if box.job is not None and box.job.alive:
                box.job.stuck = True

    def do_locked(self, fault):
        self.locked_until = self.world.now + fault["s"]

    def do_io_error(self, fault):
        self.io_error_until = self.world.now + fault["s"]

    def do_home_full(self, fault):
        self.home_full_until = self.world.now + fault["s"]

    def do_results_away(self, fault):
        """Something else stands where the results are to go."""
        if not self.results.is_dir():
            return
        away = self.folder / "results.away"
        if not away.exists():
            self.results.rename(away)
            self.results.write_text("in the way")
            self.world.after(fault["s"], self._results_back)

    def _results_back(self):
        away = self.folder / "results.away"
        if away.exists():
            if self.results.is_dir():
                shutil.rmtree(self.results)
            else:
                self.results.unlink(missing_ok=True)
            away.rename(self.results)

    def do_terminal(self, fault):
        self.terminal_blocked_until = self.world.now + fault["s"]

    def do_identity(self, fault):
        self.identity_away_until = self.world.now + fault["s"]

    def do_other_version(self, fault):
        """The stored task has a field that the towline of the next commands does not know."""
        self._edit_task(lambda spec: spec.update(colour="blue"))
        self.world.after(fault["s"], self._edit_task, lambda spec: spec.pop("colour", None))

    def _edit_task(self, change):
        row = self.row("SELECT task_json FROM runs")
        if row is None:
            return
        task = json.loads(row[0])
        change(task["spec"])
        with contextlib.closing(sqlite3.connect(self.home / "towline.db")) as db:
            db.execute("UPDATE runs SET task_json = ?", (json.dumps(task),))
            db.commit()

    def neighbour_works(self):
        """Another laptop has instances, keys and addresses at the same account."""
        account = self.account(self.plan["provider"], RIGHT)
        offer = Offer(provider=account.name, type="type-0", price_usd_per_h=1.0)
        tag = tag_for(run_id_from(f"neighb{len(account.rented):02}".encode()))
        account.create(offer, Order(tag=tag, public_key=""), owner="B")
        account.add_thing("key", tag, 0.0)
        account.add_thing("address", tag, 0.01)

    def do_command(self, fault):
        """The user says something meanwhile, in another window."""
        if self.run_id is not None or fault["name"] == "ls":
            self._say(fault["name"], fault.get("keys", RIGHT))

    # -- commands -------------------------------------------------------------------------------

    async def command(self, name, keys=RIGHT):
        """Run one command as a process of its own; its exit code, None when it was killed."""
        process = Process(self, name, keys)
        process.over = self.loop.create_future()
        self.world.say(f"$ towline {name}" + ("" if keys == RIGHT else f" ({keys} key)"))
        if name in ("stop", "abort") and self.run_id is not None:
            self.wished = (
                (Wish(name), self.world.now)
                if self.wished is None or name == "abort"
                else self.wished
            )
        task = within(process, self.loop.create_task, self._command(process, name))
        process.tasks.append(task)
        code = await process.over
        oracle.command_over(self, process, name, code)
        return code

    async def _command(self, process, name):
        out = install.SimOut(self, process)
        try:
            code = await COMMANDS[name](self, process, out)
        except Exception as error:  # noqa: BLE001 - as `run_command` does
            code = out.fail(error)
        self._end(process, code)

    def _end(self, process, code):
        if process.alive:
            process.alive = False
            process.shut()
            self.world.say(f"{process.name} ends with {code}")
            if not process.over.done():
                process.over.set_result(code)

    def background(self, run_id):
        """What `in_background` starts; the shell's keys go along."""
        process = Process(self, "drive", CURRENT.get().keys)
        process.over = self.loop.create_future()
        self.world.say(f"{process.name} starts in the background")
        task = within(process, self.loop.create_task, self._background(process, run_id))
        process.tasks.append(task)
        process.over.add_done_callback(
            lambda done: oracle.command_over(self, process, "drive", done.result())
        )
        return install.Child(process)

    async def _background(self, process, run_id):
        out = install.SimOut(self, process)
        try:
            code = await install.drive_unseen(self, process, out, run_id)
        except Exception as error:  # noqa: BLE001 - as `run_command` does
            code = out.fail(error)
        self._end(process, code)

    # -- the user -------------------------------------------------------------------------------

    async def user(self):
        """Ask for a training, then see to it for as long as it is not over."""
        plan = self.plan["user"]
        self._say("train")
        for number, pause_s in enumerate(plan["patience"]):
            await self._undriven()
            await asyncio.sleep(pause_s)
            if not await self._undriven():
                return
            keys = plan["keys"][number] if number < len(plan["keys"]) else RIGHT
            words = plan["words"]
            self._say(words[number] if number < len(words) else "resume", keys)
        await self._undriven()

    def _say(self, name, keys=RIGHT):
        """Begin a command, in a window of its own."""
        within(None, self.loop.create_task, self.command(name, keys))

    async def _undriven(self):
        """Wait while somebody drives the run; whether it is active with nobody to drive it.

        Who has waited for far longer than the training takes says stop, then abort.
        """
        job, began = self.plan["job"], self.loop.time()
        kept_s = self.plan["task"].get("keep", 0.0)
        long_s = job["epochs"] * job["every_s"] + kept_s + 900.0
        words = iter((("stop", long_s), ("abort", long_s + 600.0), (None, long_s + 3600.0)))
        word, at = next(words)
        await asyncio.sleep(0.001)  # what was just said has begun
        while any(one.alive for one in self.processes):
            await asyncio.sleep(5.0)
            if self.loop.time() - began < at:
                continue
            if word is None:
                self.world.breaks("it ends", "something still runs, long after an abort")
                self.hopeless()
                await self.loop.create_future()
            elif any(one.alive and one.driver for one in self.processes):
                self.gave_up = self.gave_up or any(box.powered for box in self.boxes.values())
                self._say(word)
            word, at = next(words)
        row = self.row("SELECT state FROM runs")
        return row is not None and row[0] == "active"

    def row(self, query):
        """A row of the journal, for the user's eyes and the oracle's."""
        path = self.home / "towline.db"
        if not path.exists():
            return None
        with contextlib.closing(sqlite3.connect(path)) as db:
            try:
                return db.execute(query).fetchone()
            except sqlite3.OperationalError:
                return None

    # -- all of it ------------------------------------------------------------------------------

    def live(self):
        """Live it; what the oracle says is in `world.broken`."""
        install.prepare(self)
        self.schedule()
        with install.active(self):
            asyncio.set_event_loop(self.loop)
            try:
                self.loop.run_until_complete(self.user())
            except Spinning as error:
                self.world.breaks("no livelock", str(error))
            except RuntimeError as error:
                if "stopped before" not in str(error):
                    raise
            finally:
                asyncio.set_event_loop(None)
            self._results_back()
            oracle.judge(self)
            for process in self.processes:
                process.alive = False
                process.shut()
            self.loop.drop()
            gc.collect()
        return self


def _words(fault):
    return " ".join(f"{k}={v}" for k, v in fault.items() if k not in ("what", "t", "at", "n"))


async def _train(life, process, out):
    towline = install.opened(life, process)
    install.retry_releases(out, towline)
    task, base = install.task_of(life), install.project()
    checked = towline.check(task, base, life.results)
    await install.sweep(towline)
    run = towline.create(task, base, checked, life.results)
    life.run_id = run.id
    return await install.driven(life, process, out, towline, run)


async def _resume(life, process, out):
    towline = install.opened(life, process)
    run = towline.store.find(None)
    code = await install.driven(life, process, out, towline, run)
    await install.sweep(towline)
    return code


def _ending(wish):
    async def end(life, process, out):
        from towline.cli.control import _as_wished
        from towline.cli.tell import tell_end
        from towline.core.run import RunState

        towline = install.opened(life, process)
        run = towline.store.find(None)
        if towline.wish(run.id, wish):
            is_over = towline.watcher(run.id)
            while not is_over():
                await asyncio.sleep(0.5)
            run = towline.store.run(run.id)
            if run.state is not RunState.ACTIVE:
                return _as_wished(towline, run, tell_end(out, towline, run))
        code = await install.driven(life, process, out, towline, run)
        return _as_wished(towline, run, code)

    return end


async def _ls(life, process, out):
    towline = install.opened(life, process)
    install.retry_releases(out, towline)
    return 0


async def _gc(life, process, _out):
    towline = install.opened(life, process)
    found = await towline.gc(dry_run=False)
    if found["failed"]:
        return errors.ReleaseUnconfirmed.exit_code
    return errors.ProviderUnavailable.exit_code if found["unreachable"] else 0


COMMANDS = {
    "train": _train, "resume": _resume, "stop": _ending(Wish.STOP), "abort": _ending(Wish.ABORT),
    "ls": _ls, "gc": _gc,
}  # fmt: skip

__all__ = ["Life", "model_bytes", "recover"]
