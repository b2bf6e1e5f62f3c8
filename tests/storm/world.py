"""The world outside of the laptop: true time, accounts that rent and bill, what happened and when.

Nothing here knows of the code under test. Times are seconds of true time since the life began.
"""

import dataclasses
import hashlib
import heapq
import random
from collections import Counter

from towline.core.instance import Address, Instance, InstanceId, InstanceStatus, Leftover

EPOCH = 1_750_000_000.0  # what a right clock shows at the beginning


class World:
    """True time, the faults that are planned, and the record of a life."""

    def __init__(self, plan):
        self.plan = plan
        self.now = 0.0
        self.story = []  # (time, text)
        self.broken = []  # (invariant, text): what the oracle saw on the way
        self.hits = Counter()  # how often a port was called
        self.minutes = Counter()  # calls by (port, minute of the laptop's time)
        self.accounts = {}
        self._events = []
        self._number = 0
        self._salt = plan["seed"]
        self._planned = {}
        for fault in plan["faults"]:
            if "n" in fault:
                for k in range(fault.get("times", 1)):
                    self._planned.setdefault((fault["at"], fault["n"] + k), []).append(fault)

    # -- time -----------------------------------------------------------------------------------

    def at(self, when, do, *args):
        """Have something happen; what is due in the past happens at once when time moves."""
        self._number += 1
        heapq.heappush(self._events, (max(when, self.now), self._number, do, args))

    def after(self, seconds, do, *args):
        self.at(self.now + seconds, do, *args)

    def next_at(self):
        return self._events[0][0] if self._events else None

    def advance(self, to):
        """Let true time pass, and everything happen that is due."""
        while self._events and self._events[0][0] <= to:
            when, _number, do, args = heapq.heappop(self._events)
            self.now = max(self.now, when)
            do(*args)
        self.now = max(self.now, to)

    # -- what is told ---------------------------------------------------------------------------

    def say(self, text):
        self.story.append((round(self.now, 3), text))

    def breaks(self, invariant, text):
        """An invariant is broken: once each."""
        if all(one[0] != invariant for one in self.broken):
            self.broken.append((invariant, text))
            self.say(f"BROKEN {invariant}: {text}")

    def trace(self):
        """What happened, as one hash: the same for the same seed."""
        return hashlib.sha256(repr(self.story).encode()).hexdigest()

    # -- what the seed says ---------------------------------------------------------------------

    def hit(self, point):
        """Count a call; the faults that are planned for it."""
        self.hits[point] += 1
        found = self._planned.get((point, self.hits[point]), ())
        for fault in found:
            self.say(f"fault: {fault['what']} at {point} #{self.hits[point]}")
        return found

    def dice(self, point):
        """Random numbers of one call of one port: the same whatever else the plan holds."""
        return random.Random(f"{self._salt}:{point}:{self.hits[point]}")

    def latency(self, point, low, high):
        """How long a call takes."""
        value = hash_unit(f"{self._salt}:{point}:{self.hits[point]}")
        return low + (high - low) * value * value


def hash_unit(text):
    """0 to 1 from a text; faster than seeding a generator."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


@dataclasses.dataclass
class Rented:
    """One instance at an account, as it truly is."""

    id: str
    tag: str
    owner: str  # "A": the laptop of the life; "B": another one
    account: "Account"
    price: float
    created: float
    kind: str
    box: object = None
    ended: float | None = None  # true end of the bill
    ended_by: str | None = None
    asked_to_end: float | None = None
    dead: bool = False  # the company took it away, and still lists it
    get_from: float = 0.0  # when reads begin to know it
    list_from: float = 0.0
    order: object = None

    def cost(self, now):
        """What it has cost: an accepted terminate ends the bill."""
        ends = [at for at in (self.asked_to_end, self.ended, now) if at is not None]
        return self.price * (min(ends) - self.created) / 3600

    def bills(self):
        return self.ended is None and self.asked_to_end is None and self.price > 0


class Account:
    """One account at one company: eventually consistent, as the features say."""

    def __init__(self, world, name, key, features, shape):
        self.world = world
        self.name = name
        self.key = key
        self.features = features
        self.shape = shape  # {"get_lag", "list_lag", "dying_s", "tail_s", "boot_s", "ssh_s", ...}
        self.rented = {}
        self.things = {}  # id -> Leftover
        self.down_until = 0.0
        self.refusal = None  # (error class name, until)

    def attaches(self):
        """Whether an instance waits for an address of its own."""
        return self.shape.get("addresses") and self.holds("address")

    def holds(self, kind):
        """Whether this company keeps such a thing beside instances."""
        kinds = self.features.leftovers
        return kinds is None or kind in kinds

    # -- the truth ------------------------------------------------------------------------------

    def create(self, offer, order, owner="A"):
        """Rent; returns what the company's answer shows."""
        world, shape = self.world, self.shape
        if self.features.idempotency_key:
            for one in self.rented.values():
                if one.tag == order.tag and one.ended is None and one.order is order:
                    return self.shown(one)
        number = len(self.rented) + 1
        one = Rented(
            id=f"{self.name}-{self.key}-{number}", tag=order.tag, owner=owner, account=self,
            price=offer.price_usd_per_h, created=world.now, kind=offer.type, order=order,
            get_from=world.now + min(shape["get_lag"], 0.9 * self.features.settle_s),
            list_from=world.now + min(shape["list_lag"], 0.9 * self.features.settle_s),
        )  # fmt: skip
        self.rented[one.id] = one
        if shape.get("keys") and self.holds("key") and owner == "A":
            self.add_thing("key", order.tag, 0.0)
        world.say(f"{one.id} begins to bill ${one.price:g}/h for {order.tag[-10:]} ({owner})")
        if self.features.server_ttl and order.lifetime_s is not None:
            world.after(order.lifetime_s, self.end, one, "its time to live at the company")
        return self.shown(one)

    def add_thing(self, kind, tag, price):
        thing = Leftover(
            provider=self.name, kind=kind, id=f"{kind}-{len(self.things) + 1}-{tag[-4:]}", tag=tag,
            since=None, price_usd_per_h=price,
        )  # fmt: skip
        self.things[thing.id] = thing
        return thing

    def ask_to_end(self, one, who):
        """A terminate that was accepted."""
        if one.asked_to_end is None and one.ended is None:
            one.asked_to_end = self.world.now
            self.world.say(f"{one.id}: terminate accepted from {who}")
            self.world.after(self.shape["dying_s"], self.end, one, who)
            if one.box is not None:
                one.box.power_off(f"terminated by {who}")

    def end(self, one, who):
        """The bill ends."""
        if one.ended is None:
            one.ended, one.ended_by = self.world.now, who
            self.world.say(f"{one.id}: gone ({who}), ${one.cost(self.world.now):.3f}")
            if one.box is not None:
                one.box.power_off(who)

    def take_away(self, one):
        """The company takes an instance away, as with spot."""
        one.dead = True
        self.end(one, "taken away by the company")

    # -- what its API shows ---------------------------------------------------------------------

    def shown(self, one):
        now = self.world.now
        status, address = InstanceStatus.BUILDING, None
        if one.dead:
            status = InstanceStatus.DEAD
        elif one.asked_to_end is not None or one.ended is not None:
            status = InstanceStatus.TERMINATING
        elif now >= one.created + self.shape["boot_s"]:
            status = InstanceStatus.ACTIVE
            if one.box is not None and (one.box.attached or not self.attaches()):
                address = Address(host=one.box.name, port=22, user="ubuntu")
        return Instance(
            id=InstanceId(one.id), provider=self.name, tag=one.tag, status=status, address=address,
            started_at=EPOCH + one.created, price_usd_per_h=one.price, type=one.kind,
            detail="taken away" if one.dead else "",
        )  # fmt: skip

    def is_listed(self, one, *, by_list, at=None):
        now = self.world.now if at is None else at
        if now < (one.list_from if by_list else one.get_from):
            return False
        return one.ended is None or now < one.ended + self.shape["tail_s"]

    def get(self, instance_id, at=None):
        one = self.rented.get(instance_id)
        if one is None or not self.is_listed(one, by_list=False, at=at):
            return None
        return self.shown(one)

    def list(self, at=None):
        found = [one for one in self.rented.values() if self.is_listed(one, by_list=True, at=at)]
        return [self.shown(one) for one in found]
