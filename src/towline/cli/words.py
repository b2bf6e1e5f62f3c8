"""Say events, progress and money in words: the same ones in every view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from towline.core.run import StepName
from towline.core.units import count_text, seconds_text, size_text, usd_text
from towline.plan import STEPS

if TYPE_CHECKING:
    from towline.store.journal import Event

_WORTH_SAYING = 1.1  # of a compression ratio


def event_json(event: Event) -> dict[str, Any]:
    """An event as `events --json` and `train --json` show it."""
    rest = {key: value for key, value in event.data.items() if key not in ("at", "type")}
    return {"at": event.at, "type": event.kind, **rest}


class Words:
    """Say events in words; remembers when steps began."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}

    def say(self, event: Event) -> str | None:  # noqa: PLR0911 - a table of sentences
        """One line for an event, None for what is shown otherwise."""
        data = event.data
        match event.kind:
            case "step_started":
                self._began[data["step"]] = event.at
                again = f" (attempt {data['attempt']})" if data["attempt"] > 1 else ""
                return f"{_shown(data)}{again} ..."
            case "step_done":
                return f"{_shown(data)}: done ({self._took(event)})"
            case "step_failed":
                result = data["result"]
                how = "failed" if "error" in result else "ended"
                why = f": {result['error']}" if "error" in result else f" {result['stopped']}"
                return f"{_shown(data)}: {how} ({self._took(event)}){why}"
            case "note":
                return f"  {data['text']}"
            case "progress":
                return f"  {progress_text(data)}"
            case "line_broken":
                return f"  connection broken: {data['text']}; trying again, the instance goes on"
            case "line_back":
                return f"  connected again after {seconds_text(data['silent_s'])}"
            case _:
                return None

    def _took(self, event: Event) -> str:
        return seconds_text(max(0.0, event.at - self._began.get(event.data["step"], event.at)))


def _shown(data: dict[str, Any]) -> str:
    return STEPS[StepName(data["step"])].shown


def progress_text(data: dict[str, Any]) -> str:
    """Say `epoch 3/10 loss=0.3`."""
    epoch, total = data.get("epoch"), data.get("total_epochs")
    words = [f"epoch {epoch}" + (f"/{total}" if total else "")] if epoch is not None else []
    return " ".join([*words, *metric_words(data.get("metrics") or {})])


def metric_words(metrics: dict[str, float | None]) -> list[str]:
    """Say each metric as `name=value`."""
    return [
        f"{name}={'nan' if value is None else format(value, '.6g')}"
        for name, value in metrics.items()
    ]


def cost_text(cost: dict[str, Any]) -> str:
    """Say money spent, and what is known of the rest."""
    words = [f"{usd_text(cost['spent_usd'])} spent"]
    if cost["projected_usd"] not in (None, cost["spent_usd"]):
        words.append(f"{usd_text(cost['projected_usd'])} projected")
    if cost["cap_usd"] is not None:
        words.append(f"{usd_text(cost['cap_usd'])} at most")
    return ", ".join(words)


def transfer_words(moved: dict[str, Any]) -> list[str]:
    """A transfer's figures, the same in every view: bytes, files, speed, what is left."""
    done, total = moved["bytes"], moved["total_bytes"]
    words = [f"{size_text(done)} of {size_text(total)}"]
    if moved["total_files"] and moved["total_files"] > 1:
        words.append(f"{moved['files']:,} of {count_text(moved['total_files'], 'file')}")
    if moved["rate_bytes_per_s"]:
        words.append(f"{size_text(moved['rate_bytes_per_s'])}/s")
    if done < total and moved["eta_s"]:
        words.append(f"{seconds_text(moved['eta_s'])} left")
    if moved["connections"]:
        words.append(count_text(moved["connections"], "connection"))
    if moved["ratio"] and moved["ratio"] >= _WORTH_SAYING:
        words.append(f"{moved['ratio']:.1f}x smaller on the line")
    return words


def ceiling_text(ceiling_usd: float | None) -> str:
    """What is known of the cost before the training has said how long it takes."""
    if ceiling_usd is None:
        return "no limit is set (limits: max_cost, max_duration); known once epochs are reported"
    return f"{usd_text(ceiling_usd)} at most, by the task's limits"
