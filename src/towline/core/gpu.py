"""GPU names: what providers, drivers and people call one and the same model, and what is one whole.

A name that differs in one word can be another chip: an RTX 4090 D is no RTX 4090, a laptop's is not
the card of that name. Form factors of one chip (SXM, PCIe, NVL) are one model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_MODEL = re.compile(
    r"(?<![A-Z0-9])(?:"
    r"(?:RTX|GTX) ?(?:PRO ?(?:SERVER ?)?)?A?\d{3,4}"
    r"(?: ?TI ?SUPER| ?TI| ?SUPER| ?D ?V\d| ?D|(?: ?SFF)? ?ADA)?(?=X\d|(?![A-Z0-9]))"
    r"|RX ?\d{4}(?: ?(?:XTX|XT|GRE))?(?![A-Z0-9])|TITAN ?(?:RTX|XP|X|V)(?![A-Z0-9])|MI\d{3}[AX]?"
    r"|(?:[A-Z]{1,2}\d{2,4}[A-Z]?|[ALPT][24]|T4G)(?= |X\d|SXM|PCIE|NVL|$))"
)
_SUPER = re.compile(r"(?<=\d)S( TI)?(?= |$)")  # "RTX 4070S Ti" is a 4070 Ti SUPER
_MEMORY = re.compile(r"(\d+(?:\.\d+)?) ?G(?:I?B)?\b")
_SEPARATORS = re.compile(r"[-_.:/()\s]+")
_COUNT = re.compile(r"\b(\d{1,2}) ?X\b|(?<=\d)X ?(\d{1,2})\b")
#: words after a model that make it another one
_KINDS = (
    ("LAPTOP", re.compile(r"\b(?:LAPTOP|MOBILE|WITH MAX Q)\b")),
    ("SFF", re.compile(r"\bSFF\b")),
)
_PART = re.compile(
    r"(?<![A-Z0-9])(?:MIG|VGPU|GRID|SHARED|SLICED?|PARTIAL|FRACTION(?:AL)?|[1-7]G ?\d{1,3}GB)"
    r"(?![A-Z0-9])"
)
_FRACTION = re.compile(r"(?<![\d.])(?:0?\.\d+|\d+\.\d+ ?X\b|\d/\d)(?![\d/])")
_PROFILE = re.compile(r" \d{1,3}[ABCQ](?![A-Z0-9])")  # of a vGPU: "A100-1-10C", "L40S-48Q"
#: of a memory size: what a vendor rounds away
_SLACK = 0.15
#: of the memory that was paid for: what a driver keeps for itself, and error correction
_LEAST = 0.9
_GB_PER_MIB = 1024**2 / 1e9
#: GB of the smallest card of a model that is for rent
_SMALLEST_GB = {
    **dict.fromkeys(("A2", "A16", "A4000", "T4", "T4G", "P100", "V100", "RTX2000ADA"), 16),
    **dict.fromkeys(("RTX4060TI", "RTX5060TI", "RTX3060", "RTX3070", "RTX2080", "RTX4060"), 8),
    **dict.fromkeys(("RTX4080", "RTX4080SUPER", "RTX4070TISUPER", "RTX5070TI", "RTX5080"), 16),
    **dict.fromkeys(("RTX4070", "RTX4070TI", "RTX4070SUPER", "RTX5070", "RTX3080TI"), 12),
    **dict.fromkeys(("A10", "A10G", "A30", "A5000", "L4", "P40", "RTX6000", "RTX4500ADA"), 24),
    **dict.fromkeys(("RTX3090", "RTX3090TI", "RTX4090", "RTX4090D", "RTXPRO4000", "TITANRTX"), 24),
    **dict.fromkeys(("A40", "A6000", "L20", "L40", "L40S", "RTX6000ADA", "RTX8000"), 48),
    **dict.fromkeys(("H100", "H800"), 80),
    **dict.fromkeys(("A100", "A800"), 40),
    **dict.fromkeys(("RTX5090", "RTX5090D", "RTX5000ADA", "RTXPRO4500", "V100S"), 32),
    "A4500": 20,
    "RTX4000ADA": 20,
    "RTX4000SFFADA": 20,
    "RTX3080": 10,
    "RTX2080TI": 11,
    "K80": 12,
    "RTXPRO6000": 96,
    "RTXPRO5000": 48,
    "RTX5880ADA": 48,
    "H20": 96,
    "GH200": 96,
    "H200": 141,
    "B200": 180,
    "B300": 270,
    "GB200": 180,
    "GB300": 270,
    "MI300X": 192,
    "MI325X": 256,
}
#: a name such as "GH200 480GB" speaks of the processor's memory
_OTHERS_GB = {"GH200": 200.0}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One model: its canonical name, and one GPU's memory in GB where the text says it.

    ``part``: the text speaks of a share of a GPU, such as a MIG slice, a vGPU or "0.5x".
    """

    model: str
    memory_gb: float | None = None
    part: bool = False

    def fits(self, need: Gpu) -> bool:
        """Say whether it is the model that is needed, whole, with the memory where that is stated."""
        if self.model != need.model or self.part:
            return False
        if self.memory_gb is None or need.memory_gb is None:
            return True
        return abs(self.memory_gb - need.memory_gb) <= _SLACK * need.memory_gb

    @property
    def least_gb(self) -> float | None:
        """GB that a machine must show for it; None where nothing is known of the model."""
        size = self.memory_gb or _SMALLEST_GB.get(self.model)
        return None if size is None else size * _LEAST


def parse(text: str) -> Gpu | None:
    """Read a model out of whatever a provider or driver calls it; None when there is none.

    "NVIDIA A100-SXM4-80GB", "gpu_1x_a100_sxm4_80gb" and "A100 (80 GB)" are one and the same.
    """
    plain = _SEPARATORS.sub(" ", text.upper())
    found = _MODEL.search(plain) or _MODEL.search(_SUPER.sub(r"\1 SUPER", plain))
    if found is None:
        return None
    plain = found.string
    rest = plain[found.end() :]
    model = _canonical(found[0], rest)
    memory = _MEMORY.search(plain[: found.start()] + " " + rest)
    size = float(memory[1]) if memory else None
    if size is not None and size > _OTHERS_GB.get(model, size):
        size = None
    return Gpu(model, size, part=is_part(text) or _PROFILE.search(rest) is not None)


def is_part(text: str) -> bool:
    """Say whether a text speaks of a share of a GPU, whatever the model."""
    upper = text.upper()
    return any((_FRACTION.search(upper), _PART.search(_SEPARATORS.sub(" ", upper))))


def parse_count(text: str) -> int:
    """How many GPUs a text such as "4x H100" speaks of; 1 where it does not say."""
    found = _COUNT.search(_SEPARATORS.sub(" ", text.upper()))
    return int(found[1] or found[2]) if found else 1


def parse_need(text: str) -> tuple[Gpu, int]:
    """Read `resources.gpu`: MODEL[-MEMORY][:COUNT].

    Raises:
        ValueError: It names no model, a part of a GPU, or no count from 1 up.
    """
    name, _colon, count = text.partition(":")
    model = parse(name)
    is_count = (count or "1").isascii() and (count or "1").isdigit() and int(count or 1) > 0
    if model is None or model.part or not is_count or _COUNT.search(name.upper()):
        raise ValueError(f"{text!r} is no GPU; write H100, H100:2 or A100-80GB:1")
    return model, int(count or 1)


def shortfall(seen: Iterable[Mapping[str, object]], wanted: Gpu, count: int) -> str | None:
    """Why the GPUs that a machine shows are not so many whole ones of a model; None when they are.

    Args:
        seen: Rows of `onboard.inspect`: name, memory_mib, mig; or an error.
        wanted: The model, with its memory where that was said.
        count: How many.
    """
    rows = list(seen)
    if len(rows) != count:
        return f"it has {len(rows)} GPUs"
    return next((why for why in (_flaw(row, wanted) for row in rows) if why), None)


def _flaw(row: Mapping[str, object], wanted: Gpu) -> str | None:
    name, mib = str(row.get("name") or ""), str(row.get("memory_mib") or "")
    has = parse(name)
    if str(row.get("mig") or "").lower() == "enabled":
        return "its GPU is divided (MIG)"
    if has is not None and has.part:
        return "its GPU is a part of one"
    if has is None or has.model != wanted.model:
        return "its GPU is another"
    least, size_gb = wanted.least_gb, int(mib) * _GB_PER_MIB if _is_whole(mib) else None
    if least is not None and size_gb is not None and size_gb < least:
        return f"its GPU has {size_gb:.0f} GB"
    return None


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _canonical(model: str, rest: str) -> str:
    """RTX A6000 is the A6000; RTX 4090 is the RTX4090."""
    joined = model.replace(" ", "").replace("SERVER", "")
    joined = joined.removeprefix("RTX") if joined.startswith("RTXA") else joined
    return joined + "".join(word for word, sign in _KINDS if sign.search(rest))
