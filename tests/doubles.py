"""Stand-ins for the world, written to the ports; their faults are said out loud."""

import dataclasses

from towline import errors
from towline.core.instance import Address, Features, Instance, InstanceId, InstanceStatus, Offer


class FakeProvider:
    """Satisfies `towline.ports.Provider`, in memory.

    `faults[method]` is a list of what its next calls do: an exception is raised before the call
    has its effect, `Late(exception)` after it, None lets it pass. An empty list is a healthy
    method. `calls` is what was asked, in order.
    """

    name = "fake"

    def __init__(self, clock, *, gone_after_s=0.0, **features):
        self.features = Features(**{"host_key_grade": "A", "settle_s": 5.0, **features})
        self.faults = {}
        self.calls = []
        self.instances = {}
        self.account = None  # a Renter; None: whoever asks
        self.number = None  # the account's own id
        self.things = {}  # id -> Leftover
        self._clock = clock
        self._gone_after_s = gone_after_s
        self._dying = {}

    def renter(self):
        return self.account

    async def account_id(self):
        with self._fault("account_id"):
            return self.number

    async def offers(self, need):
        with self._fault("offers"):
            return [Offer(provider=self.name, type="small", price_usd_per_h=1.0)]

    async def create(self, offer, order):
        with self._fault("create", order.tag):
            return self.place(order.tag, type=offer.type, price_usd_per_h=offer.price_usd_per_h)

    async def get(self, instance_id):
        with self._fault("get", instance_id):
            self._bury()
            return self.instances.get(instance_id)

    async def list_tagged(self):
        with self._fault("list_tagged"):
            self._bury()
            return list(self.instances.values())

    async def terminate(self, instance_id):
        with self._fault("terminate", instance_id):
            if instance_id in self.instances and instance_id not in self._dying:
                self._dying[instance_id] = self._clock.monotonic() + self._gone_after_s
                found = self.instances[instance_id]
                status = InstanceStatus.TERMINATING
                self.instances[instance_id] = dataclasses.replace(found, status=status)
                self._bury()

    async def attach_address(self, instance, memo):
        with self._fault("attach_address", instance.id):
            pass

    async def leftovers(self, memos):
        with self._fault("leftovers"):
            return list(self.things.values())

    async def remove(self, leftover):
        with self._fault("remove", leftover.id):
            self.things.pop(leftover.id, None)

    async def check(self):
        return []

    def place(self, tag, instance_id=None, **facts):
        """An instance appears, whoever made it."""
        made = Instance(
            id=InstanceId(instance_id or f"i-{len(self.instances) + 1}"),
            provider=self.name,
            tag=tag,
            status=InstanceStatus.ACTIVE,
            address=Address(host="127.0.0.1", port=22, user="u"),
            started_at=self._clock.now(),
            **facts,
        )
        self.instances[made.id] = made
        return made

    def asked(self, method):
        return [args for name, *args in self.calls if name == method]

    def _bury(self):
        now = self._clock.monotonic()
        for instance_id in [one for one, at in self._dying.items() if at <= now]:
            del self._dying[instance_id]
            self.instances.pop(instance_id, None)

    def _fault(self, method, *args):
        self.calls.append((method, *args))
        waiting = self.faults.get(method) or [None]
        fault = waiting.pop(0) if waiting[0] is not Forever else waiting[1]
        return _Faulty(fault)


class Late:
    """The call has its effect, and its answer is lost."""

    def __init__(self, error):
        self.error = error


class Forever:
    """`[Forever, error]`: every call fails so."""


class _Faulty:
    def __init__(self, fault):
        self.fault = fault

    def __enter__(self):
        if isinstance(self.fault, Exception):
            raise self.fault

    def __exit__(self, kind, _error, _trace):
        if kind is None and isinstance(self.fault, Late):
            raise self.fault.error


SILENT = errors.ProviderUnavailable("the API does not answer")
REFUSED = errors.ProviderAuthError("the key is refused")
