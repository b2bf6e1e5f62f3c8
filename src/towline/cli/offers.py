"""`towline offers`: what all accounts offer at this moment, the best first."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from towline import errors
from towline.cli.accounts import require_provider, safety_short
from towline.cli.common import json_option, opened, terminal_width
from towline.cli.text import Out, table

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.instance import Features, Offer
    from towline.core.task import Resources
    from towline.market import Market

_FEW = 40  # rows of the table; the rest is counted
_UNKNOWN, _NONE = "?", "-"
_STOCK = {True: "yes", False: "no", None: _UNKNOWN}
_MBIT_PER_GBIT = 1000
_HEAD = (
    "PROVIDER", "TYPE", "GPU", "VRAM", "REGION", "PRICE/H", "STOCK", "BOOT", "NETWORK",
    "1 H TRAINING", "SAFETY",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Found:
    """Every offer, the best first, and what is missing of them."""

    offers: Sequence[Offer]
    features: Mapping[str, Features]
    market: Market


@click.command()
@click.option("--gpu", metavar="G", help="Only this GPU, such as H100 or A100-80GB:2.")
@click.option(
    "--provider", "names", multiple=True, metavar="P", help="Only this account; may be repeated."
)
@click.option("--region", default="any", metavar="R", help="Only this region.")
@click.option("--spot", is_flag=True, help="Also machines that the provider may take away.")
@click.option(
    "--max-price", type=click.FloatRange(0), metavar="USD", help="At most this much an hour."
)
@json_option
@click.pass_obj
def offers(out: Out, /, names: tuple[str, ...], max_price: float | None, **need: Any) -> int:
    """Show what all accounts offer now, the best first."""
    from towline.core.task import Resources  # noqa: PLC0415 - `--help` needs none of it

    _require_gpu(need["gpu"])
    for name in names:
        require_provider(name)
    wanted = Resources(max_price_per_hour=max_price, **need)
    with opened(out) as towline:
        found = _ask(towline, list(dict.fromkeys(names)) or _accounts(towline), wanted)
        if out.as_json:
            out.document(_data(found))
        else:
            _show(out, found)
    failures = found.market.failures
    return next(iter(failures.values())).exit_code if failures and not found.features else 0


def _require_gpu(text: str | None) -> None:
    from towline.core.gpu import parse_need  # noqa: PLC0415 - `--help` needs none of it

    try:
        if text is not None:
            parse_need(text)
    except ValueError as error:
        raise errors.SpecError(f"--gpu: {error}", hint="correct it, or leave it out") from error


def _accounts(towline: Towline) -> list[str]:
    """The accounts there are, at least one."""
    from towline.providers import CLOUDS  # noqa: PLC0415 - `--help` needs none of it

    names = towline.accounts.names()
    if not names:
        hint = f"`towline login PROVIDER` adds one, of: {', '.join(CLOUDS)}"
        raise errors.CredentialsError("no account is known yet", hint=hint)
    return names


def _ask(towline: Towline, names: list[str], need: Resources) -> _Found:
    """Ask all accounts at once."""
    from towline import market  # noqa: PLC0415 - `--help` needs none of it

    provider_of = functools.cache(towline.provider)
    answer = asyncio.run(market.ask(names, provider_of, need))
    answered = [name for name in names if name not in answer.failures]
    features = {name: provider_of(name).features for name in answered}
    return _Found(_ranked(answer.offers, need.max_price_per_hour), features, answer)


def _ranked(found: list[Offer], max_price: float | None) -> list[Offer]:
    """What can be rented as a run would try it, then what is out of stock, the cheapest first."""
    from towline.core.offers import Outlook, projected_usd, rank  # noqa: PLC0415

    gone = [
        one
        for one in found
        if one.available is False and (max_price is None or one.hour_usd <= max_price)
    ]
    return rank(found, max_price) + sorted(gone, key=lambda one: projected_usd(one, Outlook()))


def _data(found: _Found) -> dict[str, Any]:
    from towline.core.offers import offer_data  # noqa: PLC0415

    return {
        "offers": [
            offer_data(one) | {"safety": found.features[one.provider].data()}
            for one in found.offers
        ],
        **found.market.gaps(),
    }


def _show(out: Out, found: _Found) -> None:
    from towline.core.offers import left_out_text  # noqa: PLC0415

    rows = [_row(one, found.features[one.provider]) for one in found.offers[:_FEW]]
    if rows:
        out.lines(table([_HEAD, *rows], terminal_width(out)))
    elif found.features:
        out.line(f"no offer fits, of {', '.join(found.features)}")
    if len(found.offers) > _FEW:
        out.line(f"and {len(found.offers) - _FEW:,} more; --json lists them all")
    for name, reasons in found.market.left_out.items():
        out.line(f"\n{name}: {left_out_text(reasons)}")
    for name, error in found.market.failures.items():
        out.line(f"\n{name} is not among them: {error.message}")
        if error.hint:
            out.line(f"     fix: {error.hint}")


def _row(offer: Offer, features: Features) -> tuple[str, ...]:
    from towline.core.offers import Outlook, projected_usd  # noqa: PLC0415
    from towline.core.units import seconds_text, usd_text  # noqa: PLC0415

    return (
        offer.provider,
        f"{offer.type} (spot)" if offer.spot else offer.type,
        f"{offer.gpus} x {offer.gpu}" if offer.gpu else _NONE,
        f"{offer.vram_gb:.0f} GB" if offer.vram_gb else (_UNKNOWN if offer.gpu else _NONE),
        offer.region or _UNKNOWN,
        usd_text(offer.hour_usd),
        _STOCK[offer.available],
        _UNKNOWN if offer.boot_s is None else seconds_text(offer.boot_s),
        _net_text(offer.net_mbit),
        usd_text(projected_usd(offer, Outlook())),
        safety_short(features),
    )


def _net_text(mbit: float | None) -> str:
    if mbit is None:
        return _UNKNOWN
    return f"{mbit / _MBIT_PER_GBIT:.3g} Gbit/s" if mbit >= _MBIT_PER_GBIT else f"{mbit:.0f} Mbit/s"
