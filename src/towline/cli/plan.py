"""`towline plan`: what a run would send, skip, take and cost, before anything is rented."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import click

from towline.cli.arguments import task_from, task_options
from towline.cli.common import json_option, opened, path_text
from towline.cli.data import dataset_lines
from towline.cli.text import Out, table
from towline.core.units import count_text, seconds_text, size_text, usd_text

_BITS_PER_MBIT = 1_000_000
_FEW = 4  # lines of a list; the rest is counted
_WORTH_SAYING = 1.1  # of a compression ratio
_SLOW_MBIT = 10
_HOST_KEYS = {
    "A": "is known when it is made, and only that one is accepted",
    "B": "is proven by the machine, before anything of yours is sent",
    "C": "is taken as it is first shown, and only that one from then on",
    "U": "must be in your known_hosts",
}


@click.command()
@task_options
@click.option(
    "--uplink",
    type=click.FloatRange(0, min_open=True),
    metavar="MBIT",
    help="Your uplink in Mbit/s; nothing is measured then.",
)
@json_option
@click.pass_obj
def plan(out: Out, /, target: str | None, uplink: float | None, **given: Any) -> int:
    """Show what a run would send, take and cost; nothing is rented.

    Takes the arguments of `train`. With --host the uplink to that machine is measured, for
    about 4 s; nothing is left there.
    """
    task, base = task_from(target, given)
    given_rate = None if uplink is None else uplink * _BITS_PER_MBIT / 8
    with opened(out) as towline:
        if out.is_terminal:
            out.line("Looking through the files and measuring ...")
        found = asyncio.run(towline.plan(task, base, given_rate))
    if out.as_json:
        out.document(found)
    else:
        out.lines(table(list(_rows(found))))
        out.line("\nNothing was rented. `towline train` with the same arguments does it.")
    return 0


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for one in found["send"]:
        yield from _labelled(one["name"].capitalize(), _sent_lines(one))
        if one["name"] == "dataset" and found["dataset"]:
            yield from _labelled("Contents", dataset_lines(found["dataset"]))
    yield from _labelled("Skipped", _skipped_lines(found["skipped"]))
    yield "On the line", _weight_text(found)
    yield "Uplink", _uplink_text(found)
    upload = found["upload"]
    yield "Upload", f"about {seconds_text(upload['seconds'])}{_priced(upload['cost_usd'])}"
    yield from _labelled("Offers", _offer_lines(found["offers"]))
    yield from _labelled("Left out", list(_gap_lines(found)))
    yield from _labelled(
        "Cost",
        [
            _cost_text(found),
            *_unwatched_lines(found["cost"], has_ttl=found["safety"]["server_ttl"]),
        ],
    )
    yield from _labelled("Safety", _safety_lines(found["safety"]))


def _labelled(label: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    yield from zip([label, *[""] * len(lines)], lines, strict=False)


def _sent_lines(one: dict[str, Any]) -> list[str]:
    lines = [f"{path_text(one['path'])}: {_amount(one)}"]
    if len(one["largest"]) > 1:
        lines += [f"  {part['path']}: {_amount(part)}" for part in one["largest"]]
    return lines


def _amount(one: dict[str, Any]) -> str:
    return f"{count_text(one['files'], 'file')}, {size_text(one['bytes'])}"


def _skipped_lines(skipped: list[dict[str, Any]]) -> list[str]:
    lines = [f"{one['name']}/{one['path']} ({one['why']})" for one in skipped[:_FEW]]
    if len(skipped) > _FEW:
        lines.append(f"and {len(skipped) - _FEW:,} more; --json lists them all")
    return lines


def _weight_text(found: dict[str, Any]) -> str:
    if not found["send"]:
        return "nothing"
    size, sample = found["bytes"], found["sample_bytes"]
    shrinks = (found["ratio"] or 0) >= _WORTH_SAYING
    how = f"{found['ratio']:.1f}x smaller" if shrinks else "it does not shrink"
    judged = "all of it" if sample >= size else f"a sample of {size_text(sample)}"
    return f"about {size_text(found['sent_bytes'])} ({how}; judged by {judged})"


def _uplink_text(found: dict[str, Any]) -> str:
    way = found["uplink"]
    mbit = way["bytes_per_s"] * 8 / _BITS_PER_MBIT
    rate = f"{mbit:.{0 if mbit >= _SLOW_MBIT else 1}f} Mbit/s"
    match way["source"]:
        case "measured":
            over = count_text(way["connections"], "connection")
            return f"{rate}, measured to {way['host']} over {over}, {_rtt_text(way)} away"
        case "given":
            return f"{rate}, as given"
        case _:
            return f"{rate}, assumed: --uplink MBIT says it, --host USER@ADDR measures it"


def _rtt_text(way: dict[str, Any]) -> str:
    return f"{way['rtt_s'] * 1000:.1f} ms"


def _priced(usd: float) -> str:
    return f", {usd_text(usd)} of the instance's time" if usd else ""


def _offer_lines(offers: list[dict[str, Any]]) -> list[str]:
    lines = [_offer_text(offer) for offer in offers[:_FEW]]
    if len(offers) > 1:
        lines[0] += ", the first to be tried"
    if len(offers) > _FEW:
        lines.append(f"and {len(offers) - _FEW:,} more; --json lists them all")
    return lines


def _gap_lines(found: dict[str, Any]) -> Iterator[str]:
    """What is missing among the offers."""
    for one in found["left_out"]:
        yield f"{one['provider']}: {count_text(one['count'], 'offer')}, {one['reason']}"
    for one in found["unreachable"]:
        yield f"{one['provider']}: {one['error']}"


def _offer_text(offer: dict[str, Any]) -> str:
    words = [offer["provider"], offer["type"], _gpu_text(offer), offer["region"]]
    price = offer["price_usd_per_hour"] + (offer["storage_usd_per_hour"] or 0.0)
    cost = f"{usd_text(price)}/h, {usd_text(offer['projected_usd'])} with an hour's training"
    stock = "" if offer["available"] or not price else ", stock not known"
    return f"{' '.join(word for word in words if word)} ({cost if price else 'free'}{stock})"


def _gpu_text(offer: dict[str, Any]) -> str | None:
    memory = f" {offer['vram_gb']:.0f} GB" if offer["vram_gb"] else ""
    return f"{offer['gpus']} x {offer['gpu']}{memory}" if offer["gpu"] else None


def _cost_text(found: dict[str, Any]) -> str:
    from towline.cli.words import ceiling_text  # noqa: PLC0415 - `--help` needs none of it

    if not found["offers"][0]["price_usd_per_hour"]:
        return "none"
    return ceiling_text(found["cost"]["projected_usd"])


def _unwatched_lines(cost: dict[str, Any], *, has_ttl: bool) -> list[str]:
    """What becomes of the limits when this machine is off.

    Before SSH has answered nobody can tell the instance of them; a provider is told at create.
    """
    away = cost["unwatched"]
    if away["training_s"] is None or not cost["projected_usd"]:
        return []
    ended = f"the training is ended after {seconds_text(away['training_s'])}"
    if away["over_usd_per_hour"] == 0:
        latest = f"the instance after {seconds_text(away['lifetime_s'])} at the latest"
        return [f"{ended}, {latest}{'' if has_ttl else ', once SSH has answered'}"]
    over = (
        f"{usd_text(away['over_usd_per_hour'])} for each further hour until a towline command runs"
    )
    return [f"{ended}; with this machine off the instance is not:", f"it bills {over}"]


def _safety_lines(safety: dict[str, Any]) -> list[str]:
    grade = safety["host_key_grade"]
    lines = [f"host key, grade {grade}: it {_HOST_KEYS[grade]}"]
    if not safety["rented"]:
        lines.append(
            "your own machine: nothing bills; the training is ended when nobody comes back"
        )
    else:
        lines += _lifetime_lines(safety)
    if safety["console_url"]:
        lines.append(f"console: {safety['console_url']}")
    return lines


def _lifetime_lines(safety: dict[str, Any]) -> list[str]:
    """Who ends an instance that nobody comes back for."""
    if safety["server_ttl"]:
        return ["the provider itself ends the instance when the task's limits are over"]
    if safety["ends_itself"]:
        return ["the instance ends itself when nobody comes back"]
    lines = ["the instance can't end itself: when nobody comes back, `towline gc` must"]
    if safety["powered_off_bills"] is not False:
        known = "bills" if safety["powered_off_bills"] else "may bill"
        lines.append(f"one that is powered off {known} all the same")
    return lines
