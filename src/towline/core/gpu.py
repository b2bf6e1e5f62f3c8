"""GPU names: what providers, drivers and people call one and the same model."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MODEL = re.compile(
    r"(?:RTX|GTX) ?(?:PRO ?)?A?\d{4}(?: ?(?:ADA|TI|SUPER))?|MI\d{3}[AX]?"
    r"|(?<![A-Z0-9])(?:[A-Z]{1,2}\d{2,4}[A-Z]?|[ALPT][24]|T4G)(?= |X\d|$)"
)
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?G(?:I?B)?\b")
_SEPARATORS = re.compile(r"[-_.:/()\s]+")
_COUNT = re.compile(r"\b(\d{1,2}) ?X\b|(?<=\d)X ?(\d{1,2})\b")
#: of a memory size: what a vendor rounds away
_SLACK = 0.15


@dataclass(frozen=True, slots=True)
class Gpu:
    """One model: its canonical name, and one GPU's memory in GB where the text says it."""

    model: str
    memory_gb: float | None = None

    def fits(self, need: Gpu) -> bool:
        """Say whether it is the model that is needed, with the memory where that is stated."""
        if self.model != need.model:
            return False
        if self.memory_gb is None or need.memory_gb is None:
            return True
        return abs(self.memory_gb - need.memory_gb) <= _SLACK * need.memory_gb


def parse(text: str) -> Gpu | None:
    """Read a model out of whatever a provider or driver calls it; None when there is none.

    "NVIDIA A100-SXM4-80GB", "gpu_1x_a100_sxm4_80gb" and "A100 (80 GB)" are one and the same.
    """
    plain = _SEPARATORS.sub(" ", text.upper())
    found = _MODEL.search(plain)
    if found is None:
        return None
    memory = _MEMORY.search(plain[: found.start()] + " " + plain[found.end() :])
    return Gpu(_canonical(found[0]), float(memory[1]) if memory else None)


def parse_count(text: str) -> int:
    """How many GPUs a text such as "4x H100" speaks of; 1 where it does not say."""
    found = _COUNT.search(_SEPARATORS.sub(" ", text.upper()))
    return int(found[1] or found[2]) if found else 1


def parse_need(text: str) -> tuple[Gpu, int]:
    """Read `resources.gpu`: MODEL[-MEMORY][:COUNT].

    Raises:
        ValueError: It names no model, or no count from 1 up.
    """
    name, _colon, count = text.partition(":")
    model = parse(name)
    if model is None or not (count or "1").isdigit() or int(count or 1) < 1:
        raise ValueError(f"{text!r} is no GPU; write H100, H100:2 or A100-80GB:1")
    return model, int(count or 1)


def _canonical(model: str) -> str:
    """RTX A6000 is the A6000; RTX 4090 is the RTX4090."""
    joined = model.replace(" ", "")
    return joined.removeprefix("RTX") if joined.startswith("RTXA") else joined
