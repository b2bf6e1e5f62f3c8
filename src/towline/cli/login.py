"""Keys of accounts: `login` and `logout`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from towline import errors
from towline.cli.accounts import own_hint, provider_argument, require_provider
from towline.cli.common import opened, yes_option
from towline.cli.hidden import read_hidden
from towline.cli.text import Out

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.ports import Provider

_ANSWER_S = 15.0


@click.command()
@provider_argument
@click.option("--stdin", "piped", is_flag=True, help="Read the keys from a pipe, one a line.")
@click.option("--no-check", "unchecked", is_flag=True, help="Store them without asking anybody.")
@click.pass_obj
def login(out: Out, provider: str, *, piped: bool, unchecked: bool) -> int:
    """Store a provider's key, once the provider has accepted it."""
    from towline.providers import keys_of  # noqa: PLC0415 - `--help` needs none of it

    require_provider(provider)
    fields = keys_of(provider)
    if not fields:
        out.line(f"{provider} needs no key")
        return 0
    with opened(out) as towline:
        towline.accounts.credentials.known()  # a file that can't be used is said before anybody types
        values = _values(out, provider, list(fields), piped=piped)
        for value in values.values():
            towline.redactor.add(value)
        if not unchecked:
            _check(out, towline, provider, values)
        out.line(f"stored in {towline.accounts.credentials.store(provider, values)}")
        if set_ones := _exported(fields):
            out.line(f"{' and '.join(set_ones)} in the environment still wins over it")
    return 0


@click.command()
@provider_argument
@yes_option
@click.pass_obj
def logout(out: Out, provider: str, *, yes: bool) -> int:
    """Remove a provider's stored key."""
    from towline.providers import keys_of  # noqa: PLC0415 - `--help` needs none of it

    with opened(out, retries=False) as towline:
        if provider not in towline.accounts.credentials.known():  # or else its package may be gone
            require_provider(provider)
        if not yes and not _is_sure(out, towline, provider):
            out.line("the key stays")
            return 0
        was_there = towline.accounts.credentials.forget(provider)
        out.line("removed" if was_there else f"no key of {provider} is stored")
        if set_ones := _exported(keys_of(provider)):
            out.line(f"{' and '.join(set_ones)} in the environment is still used")
    return 0


def _exported(fields: Mapping[str, str]) -> list[str]:
    return [variable for variable in fields.values() if os.environ.get(variable, "").strip()]


def _is_sure(out: Out, towline: Towline, provider: str) -> bool:
    """Without the key nobody can end what is still rented."""
    rented = [row for row in towline.store.ledger() if row.gone_at is None]
    if all(row.provider != provider for row in rented):
        return True
    message = f"an instance at {provider} may still bill, and can't be ended without the key"
    if not sys.stdin.isatty():
        raise errors.SpecError(
            message, hint="`towline gc` ends it; -y removes the key all the same"
        )
    return out.ask(f"{message}. Remove the key?")


# -- reading them ---------------------------------------------------------------------------------


def _values(out: Out, provider: str, fields: list[str], *, piped: bool) -> dict[str, str]:
    """The keys as they were meant."""
    from towline.credentials import plain  # noqa: PLC0415 - `--help` needs none of it

    if piped and not sys.stdin.isatty():
        given = _lines(provider, fields)
    elif sys.stdin.isatty():
        given = [
            read_hidden(out, f"{provider} {_words(field)}: ", whole=field == fields[-1])
            for field in fields
        ]
    else:
        raise errors.SpecError(
            f"there is no terminal to ask for the {_words(fields[0])} of {provider}",
            hint=f"pipe it: `towline login {provider} --stdin < FILE`",
        )
    return {
        field: plain(text, f"the {_words(field)}")
        for field, text in zip(fields, given, strict=True)
    }


def _lines(provider: str, fields: list[str]) -> list[str]:
    """A line for each field; of a single field all lines, for a paste may have broken it."""
    text = sys.stdin.buffer.read().decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    if len(fields) == 1:
        return ["".join(lines)]
    if len(lines) != len(fields):
        wanted = ", ".join(map(_words, fields))
        message = f"{provider} has {len(fields)} keys, and {len(lines)} lines were read"
        raise errors.SpecError(message, hint=f"one a line, in this order: {wanted}")
    return lines


def _words(field: str) -> str:
    return field.replace("_", " ")


# -- trying them ----------------------------------------------------------------------------------


def _check(out: Out, towline: Towline, name: str, values: Mapping[str, str]) -> None:
    """Ask the provider; returns when the keys are good, or the user takes them unchecked.

    Raises:
        CredentialsError: The provider refuses them.
        TowlineError: It could not be asked.
    """
    try:
        count = asyncio.run(_count(towline.accounts.provider(name, values)))
    except errors.ProviderAuthError as error:
        message = f"nothing was stored, for {name} refuses this key: {error.message}"
        raise errors.CredentialsError(message, hint=own_hint(error) or _new_key(name)) from error
    except (errors.PaymentNeeded, errors.QuotaExceeded) as error:
        out.line(f"{name} accepts the key, but: {error.message}")  # so it knows the account
    except errors.ProviderError as error:
        _store_unchecked(out, name, error)
    else:
        out.line(f"{name} accepts the key; {count} of towline's instances are there")


async def _count(provider: Provider) -> int:
    try:
        async with asyncio.timeout(_ANSWER_S):
            return len(await provider.list_tagged())
    except TimeoutError as error:
        message = f"{provider.name} gave no answer within {_ANSWER_S:.0f} s"
        raise errors.ProviderUnavailable(message) from error


def _store_unchecked(out: Out, name: str, error: errors.ProviderError) -> None:
    out.line(f"the key could not be checked: {error.message}")
    if not sys.stdin.isatty() or not out.ask("Store it unchecked?"):
        message = f"nothing was stored, for {name} could not be asked"
        hint = f"try again, or `towline login {name} --no-check`"
        raise errors.ProviderUnavailable(message, hint=hint) from error


def _new_key(name: str) -> str:
    return f"make a new key in {name}'s console, then `towline login {name}` again"
