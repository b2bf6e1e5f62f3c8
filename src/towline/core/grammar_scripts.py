"""nanoGPT's and nanochat's lines, and fastai's table."""

from __future__ import annotations

import re

from towline.core.reading import NUMBER, Memory, Progress, Rule, Seen, number, part, share

_NANO_STEP = re.compile(
    rf"^step (\d{{1,9}}): train loss ({NUMBER}), val loss ({NUMBER})$", re.ASCII
)
_NANO_ITER = re.compile(rf"^iter (\d{{1,9}}): loss ({NUMBER}), time ", re.ASCII)
_CHAT = re.compile(r"^step (\d{1,9})/(\d{1,9}) \([\d.]+%\) \| (.*)$", re.ASCII)
_CHAT_LOSS = re.compile(rf"\bloss: ({NUMBER})", re.ASCII)
_CHAT_ETA = re.compile(rf"\beta: ({NUMBER})m\b", re.ASCII)
_CHAT_VALID = re.compile(rf"^Step (\d{{1,9}}) \| Validation bpb: ({NUMBER})", re.ASCII)
_HEADER = re.compile(r"^epoch\s+train_loss\s+(\S.*?)\s+time\s*$")
_ROW = re.compile(
    rf"^(\d{{1,9}})\s+((?:(?:{NUMBER}|None|#na#)\s+)+)\d+:\d\d(?::\d\d)?\s*$", re.ASCII
)
_BAR = re.compile(
    r"^Epoch (\d{1,9})/(\d{1,9}) : \|[^|]*\| [\d.]+% \[(\d{1,9})/(\d{1,9}) ", re.ASCII
)
_MOST_COLUMNS = 40


def _nanogpt(line: str, _memory: Memory) -> list[Seen] | None:
    if found := _NANO_STEP.match(line):
        metrics = {"train_loss": number(found[2]), "val_loss": number(found[3])}
        return [Seen(Progress(step=int(found[1]), metrics=metrics, source="nanogpt"))]
    if found := _NANO_ITER.match(line):
        loss = {"loss": number(found[2])}
        return [Seen(Progress(step=int(found[1]), metrics=loss, source="nanogpt"))]
    return None


def _nanochat(line: str, _memory: Memory) -> list[Seen] | None:
    found = _CHAT.match(line)
    if found is None:
        return None
    step, total = int(found[1]), int(found[2])
    loss, eta = _CHAT_LOSS.search(found[3]), _CHAT_ETA.search(found[3])
    minutes = number(eta[1]) if eta else None
    at = Progress(
        step=step,
        total_steps=total,
        fraction=part(step, total),
        eta_s=None if minutes is None else minutes * 60,
        metrics={"loss": number(loss[1])} if loss else {},
        source="nanochat",
    )
    return [Seen(at, frame=True)]


def _nanochat_valid(line: str, _memory: Memory) -> list[Seen] | None:
    found = _CHAT_VALID.match(line)
    bpb = {"val_bpb": number(found[2])} if found else {}
    return [Seen(Progress(step=int(found[1]), metrics=bpb, source="nanochat"))] if found else None


def _fastai(line: str, memory: Memory) -> list[Seen] | None:
    """Fastai's header: the rows below count from 0."""
    header = _HEADER.match(line)
    if header is None:
        return None
    columns = ["train_loss", *header[1].split()[:_MOST_COLUMNS]]
    memory["fastai"] = {"columns": columns, "total": None, "whole": 0}
    return []


def _fastai_row(line: str, memory: Memory) -> list[Seen] | None:
    table = memory.get("fastai")
    row = _ROW.match(line) if table else None
    if table is None or row is None:
        return None
    epoch, total = int(row[1]) + 1, table["total"]
    values = zip(table["columns"], row[2].split(), strict=False)
    at = Progress(
        epoch=epoch,
        total_epochs=total,
        fraction=share(epoch, total),
        metrics={name: number(v) for name, v in values if v not in {"None", "#na#"}},
        source="fastai",
    )
    return [Seen(at)]


def _fastai_bar(line: str, memory: Memory) -> list[Seen] | None:
    """A frame of fastai's bar, which counts from 1."""
    table = memory.get("fastai")
    if table is None:
        return None
    bar = _BAR.match(line)
    if bar is None:
        return [] if line.rstrip().endswith(" :") else None  # a bar that was wiped
    epoch, total, done, whole = (int(text) for text in bar.groups())
    table["total"], table["whole"] = total, max(whole, table["whole"])
    at = Progress(
        epoch=epoch,
        total_epochs=total,
        step=done,
        total_steps=whole,
        fraction=share(epoch, total, part(done, whole)),
        source="fastai",
    )
    return [Seen(at, frame=True)] if whole == table["whole"] else []  # else its validation


RULES: tuple[Rule, ...] = (
    (" loss ", _nanogpt),
    ("step ", _nanochat),
    ("Validation bpb", _nanochat_valid),
    ("train_loss ", _fastai),
    (":", _fastai_row),
    ("Epoch ", _fastai_bar),
)
