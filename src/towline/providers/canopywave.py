"""CanopyWave: https://cloud-api.canopywave.io/api/v1, after its pages and what a client of it saw.

There is no specification. The API is a shell of its own around OpenStack: instances are Nova's,
addresses Neutron's. It has no tags, no user-data, no limit of lifetime: an instance carries the tag
as its name, the SSH server's key is attested by the comment of the run's own key (grade B), and
only terminate ends billing. Launch gives no public address; see `canopywave_addresses`.

Not verified on a live account: GET /regions and GET /flavor-availability (seen in use, documented
nowhere), the login user `ubuntu`, that `price` is cents per hour of the whole machine, all statuses
of errors but 401, that a key's comment is kept, whether two instances may have one name, whether
terminate frees an address, and what a switched-off instance costs.
"""

from __future__ import annotations

import secrets
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from towline import errors
from towline.core.instance import (
    Features,
    Instance,
    InstanceId,
    Leftover,
    Offer,
    Order,
    parse_tag,
)
from towline.core.offers import Listed
from towline.core.task import Resources
from towline.ports import Finding, Memo
from towline.providers.account import Account, Driver, status_of
from towline.providers.canopywave_addresses import Addresses
from towline.providers.canopywave_check import basics, details
from towline.providers.canopywave_offers import Catalogue
from towline.providers.canopywave_project import CONSOLE, Project
from towline.providers.canopywave_reading import (
    GONE,
    STATUSES,
    Kind,
    row_of_server,
    without,
)
from towline.providers.ends import end
from towline.providers.parts import ident, label, need, segment, text
from towline.providers.times import utc_seconds

_PASSWORD_LENGTH = 32


class CanopyWave(Driver):
    """One CanopyWave account."""

    name = "canopywave"
    PLACE = ("base_url", "project")
    FEATURES = Features(
        host_key_grade="B",
        powered_off_bills=None,
        console_url=CONSOLE,
        password_login=True,
        leftovers=("key", "address"),
        boot_s=240.0,
    )

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._project = Project(account)
        self._addresses = Addresses(self._project, account.clock, self.features.settle_s)
        self._catalogue = Catalogue(account, self._project)
        self._regions: dict[str, str] = {}  # of instances that were seen
        self._unseen: dict[str, Instance] = {}  # made here, and in no answer yet
        self._twins: set[str] = set()  # names that several instances have

    async def offers(self, need: Resources) -> Listed:
        """List what fits the need, and ask for its stock; see the port."""
        found = await super().offers(need)
        return Listed(await self._catalogue.with_stock(found), found.left_out)

    async def _all_offers(self) -> list[Offer]:
        return await self._catalogue.offers()

    async def check(self) -> list[Finding]:
        """Look at all that can be seen without renting; see the port."""
        first = await basics(self._project)
        if any(one.fix is not None for one in first):
            return first
        return [*first, *await details(self._project, self._catalogue)]

    # -- instances ------------------------------------------------------------------------------

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Add the run's key, then launch; see the port."""
        self.require_ours(order)
        region = offer.region or ""
        await self._add_key(region, order)
        made = self.made(await self._launch(region, offer, order.tag), offer, order)
        self._regions[made.id], self._unseen[made.id] = region, made
        return made

    async def _add_key(self, region: str, order: Order) -> None:
        """Look first: two keys of one name are refused, and a lost answer may have made one."""
        there = (await self._project.keys(region)).get(order.tag)
        if there is not None and there.split()[:2] == order.public_key.split()[:2]:
            return
        if there is not None:
            await self._project.delete(f"/ssh-keys/{order.tag}", region)
        # without publicKey the server would make a key, and send the private half around
        public_key = order.public_key.strip()
        await self._project.post("/ssh-keys", region, name=order.tag, publicKey=public_key)

    async def _launch(self, region: str, offer: Offer, tag: str) -> str:
        """Launch with a password that nobody is to know: it is asked for, and is kept nowhere.

        Raises:
            TowlineError: As the port says; what the answer repeats of the password is cut out.
        """
        password = _password()
        try:
            answer = await self._project.post(
                "/instance-operations/launch",
                region,
                name=tag,
                flavor=offer.type,
                image=offer.payload["image"],
                keypair=tag,
                password=password,
            )
            return ident(answer, "id")
        except errors.TowlineError as error:
            error.message = without(error.message, password)
            error.args = (error.message,)
            raise error from None  # the cause holds the answer's text

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""
        if segment(instance_id) is None:
            return None
        found = await self._find(instance_id)
        if found is not None:
            self._unseen.pop(instance_id, None)
            return next(iter(await self._read([found])), None)
        made = self._unseen.get(instance_id)
        now = self.account.clock.now()
        if made is not None and now < (made.started_at or 0.0) + self.features.settle_s:
            return made  # rented a moment ago: that nothing lists it yet is no proof
        return None

    async def _find(self, instance_id: str) -> dict[str, Any] | None:
        """The row of an instance; what the list lacks is asked for in each region."""
        listed = await self._listed()
        row = next((one for one in listed if one["id"] == instance_id), None)
        if row is not None:
            return row
        known = self._regions.get(instance_id)
        for region in [known] if known else await self._project.regions():
            try:
                server = await self._project.get(f"/instances/{instance_id}", region)
            except errors.NotFound:
                continue
            self._regions[instance_id] = region
            return row_of_server(server, region)
        return None

    async def _listed(self) -> list[dict[str, Any]]:
        listed = await self._project.instances()
        for row in listed:
            self._regions[ident(row, "id")] = need(row, "region", kind=str)
        count = Counter(label(row, "name") for row in listed)
        self._twins = {name for name, times in count.items() if times > 1}
        return listed

    async def list_tagged(self) -> list[Instance]:
        """List what has a tag of ours for a name; see the port."""
        listed = await self._listed()
        return await self._read([row for row in listed if parse_tag(label(row, "name"))])

    async def _read(self, listed: list[dict[str, Any]]) -> list[Instance]:
        """Instances in our words, without those that are gone."""
        there = [row for row in listed if need(row, "status", kind=str).lower() not in GONE]
        kinds = await self._catalogue.kinds_or_none() if there else []
        return [self._instance(row, await self._host(row), kinds) for row in there]

    async def _host(self, row: Mapping[str, Any]) -> str | None:
        """Its public address. The list shows it late or never; by name the addresses tell it."""
        host: str | None = text(row, "publicIp") or None
        if host or str(row["status"]).lower() != "active" or row["name"] in self._twins:
            return host
        try:
            ips = await self._project.ips(row["region"])
        except errors.ProviderError:
            return None  # an instance without an address can still be ended
        return next((text(one, "ip") for one in ips if one.get("server") == row["name"]), None)

    def _instance(
        self, row: Mapping[str, Any], host: str | None, kinds: Iterable[Kind]
    ) -> Instance:
        word, shown = str(row["status"]).lower(), text(row, "flavor")
        fitting = [kind for kind in kinds if shown and shown in {kind.name, kind.flavor}]
        return Instance(
            id=InstanceId(ident(row, "id")),
            provider=self.name,
            tag=label(row, "name"),
            status=status_of(word, STATUSES),
            address=self.address(host) if host else None,
            started_at=utc_seconds(row.get("launchedAt")),
            price_usd_per_h=max((kind.price_usd_per_h or 0.0 for kind in fitting), default=0.0),
            type=fitting[0].flavor if fitting else shown,
            detail="" if word == "active" else f"{self.name} says {word}",
        )

    async def terminate(self, instance_id: InstanceId) -> None:
        """End an instance; see the port."""
        if segment(instance_id) is None:
            return
        if instance_id not in self._regions:
            await self._find(instance_id)
        region = self._regions.get(instance_id)
        if region is None:
            return
        asked = self._project.post("/instance-operations/terminate", region, id=instance_id)
        await end(self.get, instance_id, asked)
        self._unseen.pop(instance_id, None)

    # -- addresses and keys ---------------------------------------------------------------------

    async def attach_address(self, instance: Instance, memo: Memo) -> None:
        """Allocate and associate a public address; see the port."""
        if instance.id not in self._regions:
            await self._find(instance.id)
        region = self._regions.get(instance.id)
        if region is not None:
            await self._addresses.attach(region, instance, memo)

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:
        """List our keys and addresses in every region, also of the memos; see the port."""
        found = []
        noted = {region for memo in memos.values() for region in memo.read()}
        for region in sorted(noted.union(await self._project.regions())):
            keys = [("key", name, name) for name in await self._project.keys(region)]
            listed = await self._addresses.leftovers(region, memos)
            ips = [("address", one, tag) for one, tag in listed]
            found += [
                Leftover(provider=self.name, kind=kind, id=f"{region}/{one}", tag=tag)
                for kind, one, tag in [*keys, *ips]
                if parse_tag(tag) is not None
            ]
        return found

    async def remove(self, leftover: Leftover) -> None:
        """Remove a key, or release an address; see the port."""
        region, _slash, one = leftover.id.partition("/")
        if leftover.kind == "address":
            await self._addresses.release(region, one, leftover.tag)
        elif parse_tag(one) is not None:
            await self._project.delete(f"/ssh-keys/{one}", region)


def _password() -> str:
    """Letters and digits, of each at least one."""
    letters = string.ascii_letters + string.digits
    drawn = "".join(secrets.choice(letters) for _ in range(_PASSWORD_LENGTH - 2))
    return secrets.choice(string.ascii_letters) + drawn + secrets.choice(string.digits)
