"""The laptop's ports, simulated: provider, dialer, connection, channel, with the faults of the plan.

Faults of a provider's call: `before` (lost, no effect), `after` (had its effect, the answer is lost),
`refuse` with one of the port's errors, `slow`, `stale` (an answer of some seconds ago). Of a talk:
`cut` at once or after its answer, `hang` (silence).
"""

import asyncio

from tests.storm.box import RULES, Box, verb
from towline import errors
from towline.core.instance import Address, Offer
from towline.core.renter import Renter, fingerprint
from towline.onboard import wire
from towline.ports import Banner, Completed, Finding

_SILENT_S = 45.0  # until a silent connection is taken for dead
MOST_CALLS = 900  # of one port in one minute of the laptop's time: more is a loop without pauses


class Killed(BaseException):
    """The simulated process that called is dead: nothing of it may go on."""


async def for_ever():
    await asyncio.get_running_loop().create_future()


class Port:
    """What all ports share: counting, latency, the process that calls."""

    def __init__(self, life, process):
        self.life = life
        self.world = life.world
        self.process = process

    async def live(self):
        """A dead process's call never comes back."""
        if not self.process.alive:
            await for_ever()

    def count(self, point):
        world = self.world
        minute = (point.partition(":")[0], int(self.life.loop.time() // 60), self.process.number)
        world.minutes[minute] += 1
        if world.minutes[minute] > MOST_CALLS:
            world.breaks("no livelock", f"{point}: {MOST_CALLS} calls in a minute")
            raise self.life.hopeless()
        faults = world.hit(point)
        for fault in faults:
            self.life.act(fault)
        if faults and not self.process.alive:
            raise Killed
        return faults


class SimProvider(Port):
    """One account as one process of the laptop sees it; satisfies `towline.ports.Provider`."""

    def __init__(self, life, process, account):
        super().__init__(life, process)
        self.name = account.name
        self.features = account.features
        self.account = account

    async def _call(self, method, effect):
        await self.live()
        point = f"provider.{method}"
        faults = self.count(point)
        await asyncio.sleep(self.world.latency(point, 0.05, 1.0))
        now, account = self.world.now, self.account
        for fault in faults:
            if fault["what"] == "slow":
                await asyncio.sleep(fault["s"])
            elif fault["what"] == "before":
                raise errors.ProviderUnavailable(f"{method}: no answer (before)")
            elif fault["what"] == "refuse":
                raise _refusal(fault["error"], method)
            elif fault["what"] == "stale":
                return effect(now - fault["s"])
        if now < account.down_until:
            await asyncio.sleep(5.0)
            raise errors.ProviderUnavailable(f"{method}: the API is down")
        if account.refusal is not None and now < account.refusal[1]:
            raise _refusal(account.refusal[0], method)
        if not self.life.network_up():
            await asyncio.sleep(10.0)
            raise errors.ProviderUnavailable(f"{method}: no route")
        value = effect(None)
        for fault in faults:
            if fault["what"] == "after":
                raise errors.ProviderUnavailable(f"{method}: the answer is lost (after)")
            if fault["what"] == "garbled":
                raise errors.ProviderReplyError(f"{method}: the answer makes no sense")
        return value

    def renter(self):
        if self.name == "local":
            return None
        mark = fingerprint(self.name, self.process.keys)
        return Renter(provider=self.name, key=mark)

    async def account_id(self):
        if not self.account.shape["tells_account"]:
            return None
        return await self._call("account_id", lambda _at: self.account.key)

    async def offers(self, need):
        return await self._call("offers", lambda _at: self._offers(need))

    def _offers(self, need):
        shape = self.account.shape
        facts = {}
        if need.gpu is not None:
            facts = {"gpu": "H100", "gpus": 1, "vram_gb": 80.0}
        return [
            Offer(
                provider=self.name, type=f"type-{k}", price_usd_per_h=shape["price"] * (1 + k),
                available=True, boot_s=shape["boot_s"], **facts,
            )
            for k in range(2)
        ]  # fmt: skip

    async def create(self, offer, order):
        def effect(_at):
            shown = self.account.create(offer, order)
            rented = self.account.rented[shown.id]
            if rented.box is None:
                rented.box = self.life.make_box(rented)
            return shown

        return await self._call("create", effect)

    async def get(self, instance_id):
        return await self._call("get", lambda at: self.account.get(instance_id, at))

    async def list_tagged(self):
        return await self._call("list_tagged", self.account.list)

    async def terminate(self, instance_id):
        def effect(_at):
            one = self.account.rented.get(instance_id)
            if one is not None and self.world.now < one.get_from:
                self.world.say(f"{one.id}: terminate answered `unknown`: it is too new")
            elif one is not None:
                self.life.judge_end(one.box, f"terminate by {self.process.name}")
                self.account.ask_to_end(one, self.process.name)

        await self._call("terminate", effect)

    async def attach_address(self, instance, memo):
        def effect(_at):
            box = self.account.rented[instance.id].box
            if not box.attached:
                self.account.add_thing("address", instance.tag, 0.01)
                box.attached = True

        await self._call("attach_address", effect)

    async def leftovers(self, memos):
        return await self._call("leftovers", lambda _at: list(self.account.things.values()))

    async def remove(self, leftover):
        def effect(_at):
            thing = self.account.things.get(leftover.id)
            if thing is not None:
                self.life.judge_removal(thing)
                del self.account.things[thing.id]

        await self._call("remove", effect)

    async def check(self):
        return [Finding("account", "it is there")]


def _refusal(kind, method):
    return getattr(errors, kind)(f"{method}: refused ({kind})")


# -- the way to the instance ------------------------------------------------------------------------


class SimDialer(Port):
    """Satisfies `towline.ports.Dialer`."""

    def _box(self, address):
        return self.life.boxes.get(address.host)

    async def _reach(self, address, timeout_s, point):
        """The box, once the network has let us through."""
        await self.live()
        faults = self.count(point)
        await asyncio.sleep(self.world.latency(point, 0.02, 0.3))
        for fault in faults:
            if fault["what"] == "refuse":
                raise _refusal(fault["error"], point)
            if fault["what"] in ("before", "cut", "after"):
                raise errors.ConnectionLost(f"{point}: the connection broke")
        box = self._box(address)
        if box is None or not self.life.network_up() or not box.powered:
            await asyncio.sleep(timeout_s)
            raise errors.ConnectionLost(f"{address} did not answer in time")
        if not box.ssh_up():
            raise errors.ConnectionLost(f"{address}: the port refuses connections")
        return box

    async def probe(self, address, timeout_s):
        try:
            await self._reach(address, timeout_s, "probe")
        except errors.TowlineError as error:
            return Banner(accepts=False, text="", detail=error.message)
        return Banner(accepts=True, text="SSH-2.0-sim", detail="SSH answers")

    async def host_key(self, address, timeout_s):
        return self._shown(await self._reach(address, timeout_s, "host_key"))

    def _shown(self, box):
        early = self.world.now < box.host_key_from
        return box.first_host_key if early and box.first_host_key else box.host_key

    async def dial(self, address: Address, private_key, timeout_s):
        self.life.require_identity(address)
        box = await self._reach(address, timeout_s, "dial")
        if address.host_key is not None and address.host_key != self._shown(box):
            raise errors.HostKeyMismatch(f"{address.host} answers with another host key")
        if private_key is not None and not self.life.key_fits(private_key, box):
            raise errors.RemoteAuthError(f"{address} refuses the login")
        return SimRemote(self.life, self.process, box)


class SimRemote(Port):
    """One connection."""

    def __init__(self, life, process, box):
        super().__init__(life, process)
        self.box = box
        self.broken = False

    def cut(self):
        self.broken = True
        for channel in list(self.box.channels):
            if channel.connection is self:
                channel.wake()

    def require(self):
        if self.broken:
            raise errors.ConnectionLost("the connection broke")

    def delay(self):
        return None

    async def run(self, argv, stdin=b""):
        await self.live()
        self.require()
        return Completed(0, b"", b"")

    async def open(self, argv):
        await self.live()
        name = "board" if argv[0] == "sh" else argv[-1]
        faults = self.count(f"open:{name}")
        self.require()
        await asyncio.sleep(self.world.latency(f"open:{name}", 0.01, 0.15))
        self.require()
        channel = SimChannel(self, name, argv, faults)
        self.box.channels.add(channel)
        return channel

    async def put_file(self, local_path, remote_path, progress):
        raise errors.TransferError("the instance has no SFTP")

    async def close(self):
        self.cut()


class SimChannel:
    """A verb under way; satisfies `towline.ports.Channel`."""

    def __init__(self, connection, name, argv, faults):
        self.connection = connection
        self.box = connection.box
        self.life = connection.life
        self.world = connection.world
        self._name = name
        self._buffer = bytearray()
        self._out = bytearray()
        self._waiter = None
        self._status = None  # the command has ended before its reply
        self._stderr = b""
        self._closed = False
        self._silent_from = None
        self._kills_at_end = any(fault["what"] == "kill_after" for fault in faults)
        self._cut_at_end = any(fault["what"] == "after" for fault in faults)
        for fault in faults:
            if fault["what"] in ("cut", "before"):
                connection.cut()
            if fault["what"] == "hang":
                self._silent_from = self.world.now
        self._pyz_left = 0
        if name == "board":
            self._pyz_left = int(argv[5])
        self._verb = verb(self.box, "inspect" if name == "board" else name)
        self._begin()

    def _begin(self):
        box = self.box
        if box.lacks_procs():
            self._fails(254, b"sh: fork: retry: Resource temporarily unavailable")
        elif self._name == "board" and box.is_full() and RULES["board_needs_disk"]:
            self._fails(1, b"head: write error: No space left on device")
        elif self._name != "board" and box.pyz is None:
            self._fails(2, b"can't open file onboard.pyz")
        else:
            self._out += wire.MAGIC

    def _fails(self, status, said):
        self._status, self._stderr = status, said

    def wake(self):
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self, n):
        while True:
            self._turn()
            await self.connection.live()
            if self._silent_from is None:
                if self._out:
                    data = bytes(self._out[:n])
                    del self._out[:n]
                    return data
                self._require()
                if self._status is not None or self._verb.over:
                    return b""
            self._require()
            await self._wait()

    def _require(self):
        if self._closed:
            raise errors.ConnectionLost("the channel is closed")
        self.connection.require()
        if self._silent_from is not None and self.world.now - self._silent_from >= _SILENT_S - 1e-6:
            self.connection.cut()
            self.connection.require()

    def _turn(self):
        verb_ = self._verb
        if self._status is not None or self.connection.broken:
            return
        verb_.turn()
        if verb_.out:
            for part in verb_.out:
                self._out += part
            verb_.out.clear()
        if verb_.over and self._kills_at_end:
            self.connection.process.die("kill -9, with the answer on its way")
            return
        if verb_.over and self._cut_at_end:
            self._cut_at_end = False
            self._out.clear()
            self.connection.cut()

    async def _wait(self):
        """Until a frame is due, something happens there, or the silence has lasted."""
        loop = self.life.loop
        self._waiter = loop.create_future()
        until = self._verb.next_at
        if not self.life.network_up() and self._silent_from is None:
            self._silent_from = self.world.now
        if self._silent_from is not None:
            until = self._silent_from + _SILENT_S
        timer = None
        if until is not None:
            timer = loop.call_later(max(0.0, until - self.world.now), self.wake)
        try:
            await self._waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._waiter = None
        if self.life.network_up() and self._silent_from is not None and self._thaws():
            self._silent_from = None

    def _thaws(self):
        """A network that is back before anybody gave up carries on."""
        return self.life.outage_over_at > self._silent_from

    async def write(self, data):
        await self.connection.live()
        self._require()
        if self._status is not None:
            raise errors.ConnectionLost("the command ended")
        if self._silent_from is not None:
            return
        self._buffer += data
        if self._pyz_left:
            taken = min(self._pyz_left, len(self._buffer))
            del self._buffer[:taken]
            self._pyz_left -= taken
            if self._pyz_left == 0:
                self.box.pyz = True
                self.box.boarded_at = self.world.now
        self._feed()
        self._turn()
        await self.connection.live()
        if self._out:
            self.wake()

    def _feed(self):
        while len(self._buffer) >= wire.HEADER.size and not self._pyz_left:
            kind, length = wire.unpack_header(bytes(self._buffer[: wire.HEADER.size]))
            end = wire.HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[wire.HEADER.size : end])
            del self._buffer[:end]
            if not self._verb.over:
                self._verb.feed(kind, payload)

    async def write_eof(self):
        self._require()

    async def wait(self):
        self._require()
        await asyncio.sleep(0)
        status = 0 if self._status is None else self._status
        return Completed(status, b"", self._stderr)

    def close(self):
        self._closed = True
        self.box.channels.discard(self)
        self.wake()


__all__ = ["Box", "Killed", "SimDialer", "SimProvider"]
