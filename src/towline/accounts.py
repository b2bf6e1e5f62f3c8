"""The accounts of one TOWLINE_HOME: who can be rented from, at what price, and what is left there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from towline import errors, recover
from towline.core.offers import Outlook, rank
from towline.core.redact import Redactor
from towline.core.task import Resources
from towline.credentials import Credentials
from towline.market import Market, ask
from towline.ports import Clock, Provider
from towline.store.journal import Store

_IN_PASSING_S = 20.0


class Accounts:
    """Keys, settings and providers, by name."""

    def __init__(
        self, home: Path, config: Mapping[str, Any], redactor: Redactor, clock: Clock, store: Store
    ) -> None:
        self.credentials = Credentials(home, redactor)
        self._home = home
        self._settings = config.get("providers") or {}
        self._clock = clock
        self._store = store

    def provider(self, name: str, keys: Mapping[str, str] | None = None) -> Provider:
        """The provider of this name with its settings and, unless given here, the account's keys.

        Raises:
            SpecError: There is none, or its settings are wrong.
            CredentialsError: A key is missing or can't be read.
        """
        from towline.providers import keys_of, make  # noqa: PLC0415
        from towline.ssh.client import SshDialer  # noqa: PLC0415

        return make(
            name,
            home=self._home,
            settings=self._settings.get(name) or {},
            keys=self.credentials.find(name, keys_of(name)) if keys is None else keys,
            dialer=SshDialer(),
            clock=self._clock,
        )

    def providers(
        self, names: Iterable[str]
    ) -> tuple[dict[str, Provider], dict[str, errors.TowlineError]]:
        """Those that can be made, and what is wrong with the others: a key is gone, a setting."""
        made: dict[str, Provider] = {}
        wrong: dict[str, errors.TowlineError] = {}
        for name in names:
            try:
                made[name] = self.provider(name)
            except errors.TowlineError as error:
                wrong[name] = error
        return made, wrong

    def names(self) -> list[str]:
        """Names of the clouds that can be used: all keys are known, or config.yaml names a cloud
        whose library finds credentials by itself.

        Raises:
            CredentialsError: The stored keys can't be read.
        """
        from towline.providers import CLOUDS, keys_of, names  # noqa: PLC0415

        own = {name for name, one in CLOUDS.items() if one.keyless and name in self._settings}
        every = names()
        usable = own.union(self.credentials.complete({name: keys_of(name) for name in every}))
        return [name for name in every if name in usable]

    def in_use(self) -> list[str]:
        """Names of the providers that are configured or were rented from, and `local`."""
        configured = set(self._settings)
        used = {row.provider for row in self._store.ledger()}
        return sorted(configured | used | {"local"})

    async def quote(
        self, names: Sequence[str], need: Resources, outlook: Outlook | None = None
    ) -> Market:
        """Offers of these accounts that fit the need, the best first, and what is missing of them.

        Raises:
            NoCapacity: None fits.
            TowlineError: No account answered.
        """
        market = await ask(names, self.provider, need)
        offers = rank(market.offers, need.max_price_per_hour, outlook)
        for failure in market.failures.values():
            if not offers:
                raise failure
        if not offers:
            raise errors.NoCapacity(
                "; ".join([f"{', '.join(names)}: no offer that fits the task", *market.notes()]),
                hint="raise max_price_per_hour, or ask for another GPU or region",
            )
        return replace(market, offers=offers)

    async def sweep(self, *, dry_run: bool) -> dict[str, Any]:
        """The account's half of `gc`; see `recover.sweep`."""
        failed: dict[str, errors.TowlineError] = {}
        names = set(self.in_use())
        try:
            names |= set(self.names())
        except errors.CredentialsError as error:  # what is known by other ways is still swept
            failed["accounts"] = error
        providers, wrong = self.providers(sorted(names))
        failed |= wrong
        found = await recover.sweep(self._store, providers, self._clock, dry_run=dry_run)
        found["unreachable"] += [
            recover.unreachable(self._store, name, error) for name, error in failed.items()
        ]
        return found

    async def sweep_in_passing(self) -> dict[str, Any]:
        """A sweep that does not hold up the command that makes it for long."""
        try:
            async with asyncio.timeout(_IN_PASSING_S):
                return await self.sweep(dry_run=False)
        except TimeoutError:
            hint = "`towline gc` sweeps them for as long as it takes"
            error = f"the accounts could not be swept within {_IN_PASSING_S:.0f} s"
            silent = {"provider": "all", "error": error, "hint": hint, "instances": 0}
            return {key: [] for key in recover.KEYS} | {"unreachable": [silent]}
