"""What every cloud driver is given, and what most of them share.

`Account` is one account at one provider: its key, its settings, the clock. `Driver` is a base
class with the answers of a provider that needs no extra step; a driver overrides what differs.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from towline.core import gpu
from towline.core.instance import (
    Address,
    Features,
    Instance,
    InstanceId,
    InstanceStatus,
    Leftover,
    Offer,
    Order,
    parse_tag,
)
from towline.core.offers import Listed, fits, left_out_text, sound
from towline.core.renter import Renter, fingerprint
from towline.core.task import Resources
from towline.errors import CredentialsError, SpecError
from towline.ports import Clock, Finding, Memo
from towline.providers import keys_of
from towline.providers.settings import earlier_keys, require_known

#: settings that every driver knows; a driver's own stand in `Driver.SETTINGS`
COMMON = (
    "base_url", "project", "region", "image", "ssh_user", "ssh_port", "settle_s", "timeout_s",
    "accept_first_key", "accept_free", "earlier_keys",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account at one provider."""

    name: str
    settings: Mapping[str, Any]  # `providers.<name>` of config.yaml
    keys: Mapping[str, str] = field(repr=False)  # "api_key" and the like; see providers.KEYS
    clock: Clock

    def key(self, field_name: str = "api_key") -> str:
        """One of the account's keys.

        Raises:
            CredentialsError: It is not there; names how to give it.
        """
        value = self.keys.get(field_name)
        if not value:
            message = f"there is no {field_name.replace('_', ' ')} for {self.name}"
            variables = ", ".join(keys_of(self.name).values())
            hint = f"`towline login {self.name}` stores it, or export {variables}"
            raise CredentialsError(message, hint=hint)
        return value

    def fingerprint(self) -> str:
        """By what the account's key is told from another; "" without one.

        Of several keys the first names the account, and the others may be renewed.
        """
        named = next((self.keys.get(one) for one in keys_of(self.name)), None)
        return fingerprint(self.name, named) if named else ""

    def text(self, name: str, default: str) -> str:
        """A setting that is a word."""
        return str(self.settings.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A setting that is a number from 0 up.

        Raises:
            SpecError: It is something else.
        """
        value = self.settings.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            message = f"providers.{self.name}.{name} must be a number from 0 up, not {value!r}"
            raise SpecError(message, hint="correct it in config.yaml")
        return float(value)


class OnlyInstances:
    """The answers of a provider that gives addresses by itself and keeps nothing but instances,
    on machines that no account rents."""

    async def attach_address(self, instance: Instance, memo: Memo) -> None:
        """Do nothing: the provider gives the address by itself; see the port."""

    def renter(self) -> Renter | None:
        """No account rents; see the port."""
        return None

    async def account_id(self) -> str | None:
        """No id is told; see the port."""
        return None

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:  # noqa: ARG002
        """Nothing but instances is kept; see the port."""
        return []

    async def remove(self, leftover: Leftover) -> None:
        """Remove nothing, for `leftovers` lists nothing; see the port."""


class Driver(OnlyInstances, abc.ABC):
    """What cloud drivers have in common.

    A subclass sets `name`, `FEATURES`, `SSH_USER` and, where it knows more words in config.yaml,
    `SETTINGS` and, of all settings, those in `PLACE` that decide which part of which account
    answers; it writes `_all_offers`, `create`, `get`, `list_tagged` and `terminate`.
    """

    name: ClassVar[str]
    FEATURES: ClassVar[Features]
    SETTINGS: ClassVar[tuple[str, ...]] = ()
    PLACE: ClassVar[tuple[str, ...]] = ("base_url",)
    SSH_USER: ClassVar[str] = "ubuntu"

    def __init__(self, account: Account) -> None:
        """Check the settings; nothing is asked yet.

        Raises:
            SpecError: An unknown setting, or a value of the wrong kind.
            CredentialsError: The account has no key.
        """
        for key in account.settings:
            require_known(key, (*COMMON, *self.SETTINGS), f"providers.{self.name}", "setting")
        self.account = account
        attested = self.FEATURES.host_key_grade == "B"
        unproven = attested and account.settings.get("accept_first_key") is True
        self.features = dataclasses.replace(
            self.FEATURES,
            settle_s=account.number("settle_s", self.FEATURES.settle_s),
            host_key_grade="C" if unproven else self.FEATURES.host_key_grade,
            free=account.settings.get("accept_free") is True,
        )

    def renter(self) -> Renter:
        """Which account this is; see the port."""
        account = self.account
        place = {one: account.text(one, "").rstrip("/") for one in self.PLACE}
        return Renter(
            provider=self.name,
            key=account.fingerprint(),
            place={name: value for name, value in place.items() if value},
            earlier_keys=earlier_keys(account.settings.get("earlier_keys"), account.name),
        )

    async def check(self) -> list[Finding]:
        """Ask for offers: key and network in one question; see the port."""
        offers = sound(await self._all_offers(), free=self.features.free)
        stock = sum(offer.available is not False for offer in offers)
        fix = None if stock else "nothing is in stock now; try again later"
        text = f"{len(offers)} offers, {stock} of them may be in stock"
        if offers.left_out:
            text += f"; {left_out_text(offers.left_out)}"
        return [Finding("offers", text, fix)]

    async def offers(self, need: Resources) -> Listed:
        """List what fits the need, and count what is no offer; see the port.

        Raises:
            SpecError: `resources.gpu` names no GPU.
        """
        try:
            wanted = gpu.parse_need(need.gpu) if need.gpu else None
        except ValueError as error:
            raise SpecError(f"resources.gpu: {error}") from error
        found = sound(await self._offers_for(need, wanted), free=self.features.free)
        fitting = [
            one if one.boot_s else dataclasses.replace(one, boot_s=self.FEATURES.boot_s)
            for one in found
            if fits(one, need.gpu, need.region, spot=need.spot)
        ]
        return Listed(fitting, found.left_out)

    async def _offers_for(
        self,
        need: Resources,  # noqa: ARG002 - for a market that is too large to list
        wanted: tuple[gpu.Gpu, int] | None,  # noqa: ARG002
    ) -> list[Offer]:
        """Offers among which those that fit the need are: all, unless a driver can ask for less."""
        return await self._all_offers()

    @abc.abstractmethod
    async def _all_offers(self) -> list[Offer]:
        """Every offer of the account, also what is out of stock; for `offers` and `check`."""

    @abc.abstractmethod
    async def create(self, offer: Offer, order: Order) -> Instance:
        """Rent one instance; see the port."""

    @abc.abstractmethod
    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; see the port."""

    @abc.abstractmethod
    async def list_tagged(self) -> list[Instance]:
        """List what carries our tag; see the port."""

    @abc.abstractmethod
    async def terminate(self, instance_id: InstanceId) -> None:
        """End an instance; see the port."""

    # -- for subclasses -------------------------------------------------------------------------

    def address(self, host: str, port: int | None = None, user: str | None = None) -> Address:
        """The address of an instance; settings have the last word on user and port."""
        return Address(
            host=host,
            port=int(self.account.number("ssh_port", port or 22)),
            user=self.account.text("ssh_user", user or self.SSH_USER),
        )

    def made(
        self, instance_id: str, offer: Offer, order: Order, started_at: float | None = None
    ) -> Instance:
        """What create returns: a new instance, as far as it is known."""
        return Instance(
            id=InstanceId(instance_id),
            provider=self.name,
            tag=order.tag,
            status=InstanceStatus.BUILDING,
            started_at=started_at or self.account.clock.now(),
            price_usd_per_h=offer.price_usd_per_h,
            type=offer.type,
        )

    def require_ours(self, order: Order) -> None:
        """Refuse a tag that is not towline's, before anything is asked.

        Raises:
            SpecError: It is not.
        """
        if parse_tag(order.tag) is None:
            raise SpecError(f"{order.tag!r} is not a tag of towline's")


def status_of(word: object, table: Mapping[str, InstanceStatus]) -> InstanceStatus:
    """What a provider's word for a state means; one that is not known is taken for BUILDING.

    Upper and lower case are one: two calls of one API differ in it.
    """
    return table.get(str(word).lower(), InstanceStatus.BUILDING)
