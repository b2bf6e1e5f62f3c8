"""Whose an instance is: the answer of another account, project or region says nothing of it.

An API that does not know an instance and one that ended it answer alike, so before anything is
concluded from an answer it must come from the account that rented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline import errors
from towline.core.renter import Renter
from towline.providers import keys_of

if TYPE_CHECKING:
    from towline.ports import Provider
    from towline.store.journal import LedgerRow


async def renter_of(provider: Provider) -> Renter | None:
    """The account at hand as the ledger is to remember it, with its own id where it is told."""
    renter = provider.renter()
    if renter is None:
        return None
    try:
        return renter.known_as(await provider.account_id())
    except errors.ProviderError:  # without the id the key alone names the account
        return renter


async def require_renter(provider: Provider, row: LedgerRow) -> Renter | None:
    """Let the account pass that rented what a ledger's row stands for.

    It is told by its settings and key, else by the provider's own id, else by its instance: who
    is shown the instance with our tag has the account it is in. A row of an older towline names
    no account.

    Returns:
        The account with its new key, for the ledger, where it has one.

    Raises:
        OtherAccount: It is another, or could not be told; names both.
    """  # noqa: DOC501 - a helper makes the exception
    before, now = row.renter, provider.renter()
    if before is None or now is None or now.has_key_of(before):
        return None
    trouble = None
    try:
        if before.account is not None:
            now = now.known_as(await provider.account_id())
        if now.is_account_of(before) or await _shows(provider, row):
            return now
    except errors.TowlineError as error:
        trouble = error.message
    raise other_account(row, now, trouble)


async def _shows(provider: Provider, row: LedgerRow) -> bool:
    if row.instance_id is None:
        return any(one.tag == row.tag for one in await provider.list_tagged())
    found = await provider.get(row.instance_id)
    return found is not None and found.tag == row.tag


def other_account(row: LedgerRow, now: Renter, trouble: str | None = None) -> errors.OtherAccount:
    """What is wrong, with both accounts in words, and what to do about it."""
    assert row.renter is not None  # noqa: S101 - only a row that names its account has another
    what = row.instance_id or f"the instance with tag {row.tag}"
    told = f" ({trouble})" if trouble else ""
    message = (
        f"{what} at {row.provider} was rented with another account"
        f" ({row.renter.text(now)}) than the one at hand ({now.text(row.renter)}), which can't"
        f" see it{told}: it is not proven gone and may still bill"
    )
    return errors.OtherAccount(message, hint=f"{how_to_be(row.renter, now)}, then do this again")


def how_to_be(before: Renter, now: Renter) -> str:
    """How to ask with the account that rented, in place of the one at hand."""
    name, places = before.provider, before.differing(now)
    if places:
        wanted = ", ".join(f"{one}: {before.place[one]}" for one in places if one in before.place)
        unset = ", ".join(one for one in places if one not in before.place)
        ways = [f"set {wanted}" if wanted else "", f"take {unset} out" if unset else ""]
        return f"{' and '.join(way for way in ways if way)} in `providers: {{{name}: ...}}`"
    variables = ", ".join(keys_of(name).values())
    login = f"export {variables} of the account that rented it, or `towline login {name}`"
    if not before.key or before.account:
        return login
    listed = f"`providers: {{{name}: {{earlier_keys: ['{before.key}']}}}}`"
    return f"{login}; if only its key was replaced, say so by {listed} in config.yaml"
