"""As many connections as help, none more, and none that the server does not want."""

import asyncio
import functools

import pytest
from clock import run_jumping

from towline import errors
from towline.transfer import connections, meter
from towline.transfer.compression import Compression
from towline.transfer.connections import Connections, race, share_bytes, together
from towline.transfer.meter import Gauge, Meter


class Remote:
    def __init__(self, world):
        self._world = world
        self.closed = False

    def delay(self):
        return self._world.delay

    async def close(self):
        self.closed = True


class World:
    """A link that carries so many bytes a second for each connection, up to its own limit."""

    def __init__(self, monkeypatch, each=1e6, limit=1e9, delay=None, allowed=100):
        self._monkeypatch = monkeypatch
        self.each, self.limit, self.delay, self.allowed = each, limit, delay, allowed
        self.left = 1e9
        self.remotes = []
        self.under_way = self.most_under_way = self.serving = 0
        self.fail = None

    async def dial_once(self):
        return Remote(self)

    async def extra(self):
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0.3)
        self.under_way -= 1
        if len(self.remotes) >= self.allowed:
            raise errors.ConnectionLost("the server closes the connection")
        self.remotes.append(Remote(self))
        return self.remotes[-1]

    async def serve(self, _remote):
        self.serving += 1
        try:
            while True:
                await asyncio.sleep(0.005)
                if self.fail is not None:
                    raise self.fail
        finally:
            self.serving -= 1

    async def carry(self, seconds):
        """Let bytes arrive for a while."""
        loop = asyncio.get_running_loop()
        end, before = loop.time() + seconds, loop.time()
        while (now := loop.time()) < end:
            rate = min(self.limit, self.each * (1 + self.serving))
            self.gauge.add(int(rate * (now - before)))
            before = now
            await asyncio.sleep(0.005)

    def run(self, seconds=20.0):
        async def work():
            self.gauge, self.meter = Gauge(), Meter("upload", lambda _progress: None)
            made = Connections(self, self.serve, lambda: self.left, self.gauge, self.meter)
            await race(made.run(), self.carry(seconds))
            return self.meter.result("stream").connections

        return run_jumping(work, connections, meter, monkeypatch=self._monkeypatch)


@pytest.fixture
def make_world(monkeypatch):
    return functools.partial(World, monkeypatch)


def test_it_grows_while_each_step_brings_more(make_world):
    world = make_world()
    assert world.run() == 16
    assert world.most_under_way <= 3
    assert all(remote.closed for remote in world.remotes)


def test_it_stops_when_a_step_brings_nothing(make_world):
    assert make_world(limit=3.5e6).run(8) == 8


def test_nothing_is_added_to_a_link_that_is_full(make_world):
    world = make_world(delay=2.0)
    assert world.run() == 1
    assert len(world.remotes) == 3  # they have logged in and wait


def test_little_work_needs_one_connection(make_world):
    world = make_world()
    world.left = 1e6
    assert world.run() == 1
    assert not world.remotes


def test_what_the_server_refuses_is_not_asked_for_again(make_world):
    world = make_world(allowed=1)
    assert world.run() == 2
    assert len(world.remotes) == 1


def test_a_connection_that_breaks_is_let_go(make_world):
    world = make_world(allowed=3)
    world.fail = errors.ConnectionLost("gone")
    world.run()
    assert all(remote.closed for remote in world.remotes)


def test_any_other_failure_ends_it(make_world):
    world = make_world()
    world.fail = errors.RemoteDiskFull("full")
    with pytest.raises(errors.RemoteDiskFull):
        world.run()
    assert all(remote.closed for remote in world.remotes)


def test_the_first_failure_ends_what_goes_on_beside_it():
    ended = []

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def fail():
        raise ValueError("first")

    async def nothing():
        pass

    with pytest.raises(ValueError, match="first"):
        asyncio.run(together(forever(), fail()))
    asyncio.run(race(forever(), nothing()))
    assert ended == [True, True]


def test_a_share_is_what_goes_in_a_moment():
    assert share_bytes(0) == 64 * 1024
    assert share_bytes(5e6) == 500_000
    assert share_bytes(1e3) == 64 * 1024
    assert share_bytes(1e9) == 1024 * 1024


def test_compression_gives_way_when_the_line_waits_and_grows_when_it_is_idle():
    level = Compression(["zstd"]).level
    slow, fast = Compression(["zstd"]), Compression(["zstd"])
    for _ in range(40):
        slow.tune(0.2, 0.1)
        fast.tune(0.001, 0.1)
    assert slow.level < level < fast.level
    plain = Compression([])
    plain.tune(9, 1)
    assert (plain.codec, plain.level) == ("stored", 0)
    zlib = Compression(["zlib"])
    for _ in range(40):
        zlib.tune(0.2, 0.1)
    assert zlib.pack(bytes(100_000))[:1] == b"0"  # not at all, when even that is too slow


def test_the_rate_is_that_of_the_last_seconds_and_what_was_there_counts_for_nothing():
    seen = []
    meter = Meter("upload", seen.append)
    meter.expect(10_000, 10)
    meter.arrived(5000, 5)
    assert (seen[-1].rate_bytes_per_s, seen[-1].ratio, seen[-1].eta_s) == (0, None, None)
    meter.sent(1000)
    meter.arrived(8000, 8)
    assert seen[-1].ratio == 3.0
    assert 0 < seen[-1].rate_bytes_per_s <= 3000 / 0.05
    assert seen[-1].eta_s == pytest.approx(2000 / seen[-1].rate_bytes_per_s)
