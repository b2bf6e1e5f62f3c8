"""Say events, progress and money in words: the same ones in every view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from towline.core.run import StepName
from towline.core.units import count_text, seconds_text, size_text, usd_text
from towline.plan import STEPS

if TYPE_CHECKING:
    from towline.store.journal import Event

_WORTH_SAYING = 1.1  # of a compression ratio
_STEP = 0.1  # of the training
_MIB = 1 << 20


def event_json(event: Event) -> dict[str, Any]:
    """An event as `events --json` and `train --json` show it."""
    rest = {key: value for key, value in event.data.items() if key not in ("at", "type")}
    return {"at": event.at, "type": event.kind, **rest}


class Words:
    """Say events in words; remembers when steps began."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._said: tuple[int | None, float] = (None, 0.0)  # epoch and share of the training
        self._console_tells = False

    def say(self, event: Event) -> str | None:
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
                return f"  {progress_text(data)}" if self._is_news(data) else None
            case _:
                return _aside(event)

    def _is_news(self, data: dict[str, Any]) -> bool:
        """Whether a report is worth a line: an epoch's metrics, a new epoch, a good step forward."""
        epoch, done = data.get("epoch"), data.get("fraction") or 0.0
        if data.get("file"):  # it says again what the console said, if that says anything
            if self._console_tells or not data.get("metrics") or epoch == self._said[0]:
                return False
            self._said = (epoch, done)
            return True
        self._console_tells |= bool(data.get("metrics"))
        step, total = data.get("step"), data.get("total_steps")
        is_amid = bool(step and total and step < total)
        if is_amid or not data.get("metrics"):
            is_new = not is_amid and epoch != self._said[0]
            if not is_new and abs(done - self._said[1]) < _STEP:
                return False
        self._said = (epoch, done)
        return True

    def _took(self, event: Event) -> str:
        return seconds_text(max(0.0, event.at - self._began.get(event.data["step"], event.at)))


def _aside(event: Event) -> str | None:
    """One line for what happens beside the steps."""
    match event.kind:
        case "line_broken":
            text = event.data["text"]
            return f"  connection broken: {text}; trying again, the instance goes on"
        case "line_back":
            return f"  connected again after {seconds_text(event.data['silent_s'])}"
        case _:
            return None


def _shown(data: dict[str, Any]) -> str:
    return STEPS[StepName(data["step"])].shown


def progress_text(data: dict[str, Any]) -> str:
    """Say `epoch 3/10 step 40/400 loss=0.3 (results.csv)`."""
    words = []
    for name in ("epoch", "step"):
        now, total = data.get(name), data.get(f"total_{name}s")
        if now is not None:
            words.append(f"{name} {now}" + (f"/{total}" if total else ""))
    if not words and data.get("fraction") is not None:
        words.append(f"{data['fraction']:.0%}")
    words += metric_words(data.get("metrics") or {})
    if words and data.get("file"):
        words.append(f"({data['file'].rpartition('/')[2]})")
    return " ".join(words)


def machine_words(machine: dict[str, Any]) -> list[str]:
    """What the instance is doing: `GPU 97 %, 41.0/80.0 GB, 61 C`, `CPU 12 %`, memory, disk."""
    words = [_gpu_text(gpu, len(machine["gpus"])) for gpu in machine.get("gpus") or []]
    if machine.get("cpu") is not None:
        words.append(f"CPU {machine['cpu']:.0%}")
    if machine.get("memory_bytes") is not None and machine.get("memory_total_bytes"):
        words.append(f"memory {_of(machine['memory_bytes'], machine['memory_total_bytes'])}")
    if machine.get("disk_free_bytes") is not None:
        words.append(f"disk {size_text(machine['disk_free_bytes'])} free")
    return words


def _gpu_text(gpu: dict[str, Any], count: int) -> str:
    words = ["GPU" if count == 1 else f"GPU {gpu['index']}"]
    words += [f"{gpu['busy']:.0%}"] if gpu["busy"] is not None else []
    if gpu["memory_mib"] is not None and gpu["memory_total_mib"]:
        words.append(_of(gpu["memory_mib"] * _MIB, gpu["memory_total_mib"] * _MIB))
    words += [f"{gpu['temperature_c']:.0f} C"] if gpu["temperature_c"] is not None else []
    return " ".join(words)


def _of(used: float, total: float) -> str:
    return f"{used / 1e9:.1f}/{total / 1e9:.1f} GB"


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
