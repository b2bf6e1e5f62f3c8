"""Commands that look: `ls`, `status`, `events`, `receipt`, `schema`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from towline.cli.common import (
    json_option,
    opened,
    path_text,
    run_argument,
    terminal_width,
)
from towline.cli.text import Out, table

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.run import Attempt, RunRecord

_NOTHING = "-"


@click.command()
@json_option
@click.pass_obj
def ls(out: Out) -> None:
    """List the runs, the newest first."""
    with opened(out) as towline:
        runs = [(run, towline.status(run)) for run in towline.store.runs()]
        if out.as_json:
            out.document([status for _run, status in runs])
            return
        if not runs:
            out.line("No runs yet. `towline train` starts one, `towline demo` shows one.")
            return
        head = ["NAME", "ID", "STATE", "STEP", "AGE", "COST", "MODEL, ERROR OR PROGRESS"]
        rows = [head, *(_row(towline, run, status) for run, status in runs)]
        out.lines(table(rows, terminal_width(out)))


def _row(towline: Towline, run: RunRecord, status: dict[str, Any]) -> list[str]:
    from towline.core.units import seconds_text, usd_text  # noqa: PLC0415

    model, error = status["model"]["path"], status["error"]["message"]
    return [
        run.name,
        run.id,
        _state_text(towline, run),
        status["step"] or _NOTHING,
        seconds_text(towline.clock.now() - run.created_at),
        usd_text(status["cost"]["spent_usd"]),
        error or (path_text(model) if model else _progress_text(status)),
    ]


def _progress_text(status: dict[str, Any]) -> str:
    """How far an active run is, in a few words."""
    from towline.cli.words import progress_text  # noqa: PLC0415
    from towline.core.units import seconds_text  # noqa: PLC0415

    words = [progress_text(status["progress"] | {"metrics": {}})]
    if status["progress"]["eta_s"] is not None:
        words.append(f"{seconds_text(status['progress']['eta_s'])} left")
    return ", ".join(word for word in words if word) or _NOTHING


def _state_text(towline: Towline, run: RunRecord) -> str:
    """The state, and whether somebody sees to it."""
    from towline.core.run import RunState  # noqa: PLC0415

    if run.state is not RunState.ACTIVE:
        return str(run.state)
    wish = f", {run.wish} wished" if run.wish else ""
    return f"active{wish}" if towline.store.driver(run.id) else f"active, no driver{wish}"


# -- status ---------------------------------------------------------------------------------------


@click.command()
@run_argument
@json_option
@click.pass_obj
def status(out: Out, run: str | None) -> None:
    """Show a run as it is now."""
    with opened(out) as towline:
        found = towline.store.find(run)
        shown = towline.status(found)
        if out.as_json:
            out.document(shown)
            return
        out.line(f"{found.name} ({found.id}): {_state_text(towline, found)}")
        rows = [(key, text) for key, text in _status_rows(towline, found, shown) if text]
        out.lines(table([[f"  {key}", text] for key, text in rows]))


def _status_rows(
    towline: Towline, run: RunRecord, status: dict[str, Any]
) -> Iterator[tuple[str, str | None]]:
    from towline.cli.words import cost_text, progress_text  # noqa: PLC0415
    from towline.core.run import RunState, StepName  # noqa: PLC0415
    from towline.core.units import seconds_text  # noqa: PLC0415
    from towline.plan import STEPS  # noqa: PLC0415

    is_active = run.state is RunState.ACTIVE
    facts, now = towline.store.facts(run.id), towline.clock.now()
    step = status["step"]
    if is_active:
        yield "step", f"{STEPS[StepName(step)].shown} ({step})"
        driver = towline.store.driver(run.id)
        yield "now", _now_text(facts, towline.store.attempts(run.id)) if driver else None
        yield "driver", driver or f"none: towline resume {run.name}"
    since = facts.get("unreachable_since")
    if is_active and since is not None:
        yield "line", f"unreachable since {_clock(since)} ({seconds_text(now - since)})"
    yield "instance", _instance_text(run, status["instance"])
    yield "transfer", _transfer_text(status["transfer"])
    yield "progress", progress_text(status["progress"]) or None
    left = status["progress"]["eta_s"]
    yield "left", None if left is None else f"about {seconds_text(left)}"
    if is_active:
        yield from _instance_rows(facts, status)
    yield "cost", cost_text(status["cost"])
    yield "checkpoint", _checkpoint_text(status["checkpoint"], now) if is_active else None
    yield "model", _model_text(status["model"])
    yield from (
        (key, status["error"][part]) for key, part in (("error", "message"), ("hint", "hint"))
    )
    yield "results", path_text(run.results_dir)
    took = seconds_text((run.ended_at or now) - run.created_at)
    yield "started", f"{_clock(run.created_at)}, {'for' if is_active else 'took'} {took}"


def _now_text(facts: dict[str, Any], attempts: list[Attempt]) -> str | None:
    """The newest sentence, unless it is an earlier step's."""
    said = facts.get("status")
    if not said or not attempts or said["at"] < attempts[-1].started_at:
        return None
    text: str = said["text"]
    return text


def _clock(at: float) -> str:
    """A moment in the user's own time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _instance_text(run: RunRecord, instance: dict[str, Any]) -> str:
    if instance["state"] is None:
        return f"none yet, at {run.provider}"
    price = instance["price_usd_per_hour"]
    words = [f"{instance['id'] or 'not known yet'} at {run.provider}"]
    words += [instance["address"]] if instance["address"] else []
    return ", ".join([*words, f"${price:.2f} an hour" if price else "free", instance["state"]])


def _instance_rows(
    facts: dict[str, Any], status: dict[str, Any]
) -> Iterator[tuple[str, str | None]]:
    """How it stands on the instance of an active run."""
    from towline.arming import reboot_text  # noqa: PLC0415
    from towline.cli.words import machine_words  # noqa: PLC0415
    from towline.core.run import StepName  # noqa: PLC0415

    if (guard := facts.get("guard")) is not None:
        yield "guard", reboot_text(guard["reboot"])
    if status["step"] == StepName.FOLLOW:
        yield "machine", ", ".join(machine_words(status["machine"])) or None
        yield "stalled", (status["stalled"] or {}).get("text")


def _transfer_text(transfer: dict[str, Any]) -> str | None:
    from towline.cli.words import transfer_words  # noqa: PLC0415

    if transfer["direction"] is None:
        return None
    return f"{transfer['direction']}, {', '.join(transfer_words(transfer))}"


def _checkpoint_text(checkpoint: dict[str, Any], now: float) -> str | None:
    from towline.core.units import seconds_text, size_text  # noqa: PLC0415

    if checkpoint["path"] is None:
        return None
    epoch = "" if checkpoint["epoch"] is None else f"epoch {checkpoint['epoch']}, "
    age = seconds_text(max(0.0, now - checkpoint["at"]))
    size = size_text(checkpoint["size_bytes"])
    return f"{path_text(checkpoint['path'])} ({epoch}{size}, {age} old)"


def _model_text(model: dict[str, Any]) -> str | None:
    from towline.core.units import size_text  # noqa: PLC0415

    if model["path"] is None:
        return None
    return (
        f"{path_text(model['path'])} ({size_text(model['size_bytes'])}, SHA-256 {model['sha256']})"
    )


# -- events, receipt, schema ----------------------------------------------------------------------


@click.command()
@run_argument
@json_option
@click.pass_obj
def events(out: Out, run: str | None) -> None:
    """Print what happened in a run."""
    from towline.cli.words import Words, event_json, progress_text  # noqa: PLC0415

    with opened(out) as towline:
        words = Words()
        for event in towline.store.events(towline.store.find(run).id):
            if out.as_json:
                out.json(event_json(event))
                continue
            told = progress_text(event.data) if event.kind == "progress" else words.say(event)
            text = told or event.data.get("message") or event.data.get("state") or ""
            out.line(f"{_clock(event.at)}  {event.kind:<12}  {text.strip()}")


@click.command()
@run_argument
@json_option
@click.pass_obj
def receipt(out: Out, run: str | None) -> None:
    """Show what a run did, took and cost."""
    with opened(out) as towline:
        found = towline.store.find(run)
        value = towline.receipt(found)
        if out.as_json:
            out.document(value)
            return
        out.line(f"{found.name} ({found.id}): {_state_text(towline, found)}")
        out.lines(table([["STEP", "TOOK", "ATTEMPTS", "COST"], *_step_rows(value)]))
        out.lines(_receipt_lines(value))


def _step_rows(value: dict[str, Any]) -> Iterator[list[str]]:
    from towline.core.units import seconds_text, usd_text  # noqa: PLC0415

    for row in value["steps"]:
        took, cost = seconds_text(row["seconds"]), usd_text(row["cost_usd"])
        yield [row["step"], took, str(row["attempts"]), cost]


def _receipt_lines(value: dict[str, Any]) -> Iterator[str]:
    from towline.core.units import count_text, seconds_text, size_text, usd_text  # noqa: PLC0415

    for one in value["transfers"]:
        files, seconds = count_text(one["files"], "file"), seconds_text(one["seconds"])
        sent = f"{size_text(one['bytes'])} ({size_text(one['sent_bytes'])} sent)"
        yield f"{one['direction']}: {files}, {sent} in {seconds}"
    yield f"model: {_model_text(value['model']) or 'none'}"
    instance, release = value["instance"], value["release"]
    yield f"instance: {instance['id'] or 'none'} ({instance['type'] or 'no type'})"
    yield f"gone: {release['proof'] if release['gone'] else 'not proven yet'}"
    yield f"cost: {usd_text(value['cost_usd'])}"
    if value["reason"]:
        yield f"reason: {value['reason']}"


@click.command()
@click.pass_obj
def schema(out: Out) -> None:
    """Print the JSON Schema of towline.yaml."""
    from towline.taskfile import json_schema  # noqa: PLC0415

    out.document(json_schema())
