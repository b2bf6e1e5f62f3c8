"""The redactor: what must never be read, taken out of every text.

Two stages. Known values, in every encoding a program may print them in, are always masked. Then
come rules for what looks like a secret: names with values, headers, tokens of known shape, key
blocks. Pure; it does not know where the text comes from or goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ahocorasick_rs import MATCHKIND_LEFTMOST_LONGEST, BytesAhoCorasick

from towline.core.spellings import LEAST_BYTES, spellings

MASK = "***REDACTED***"
_MASK = MASK.encode()
_HOLD_LIMIT = 64 * 1024
_BREAKS = (b"\n", b"\r")
_SEPARATORS = (b" ", b"\t", b",", b";")
_ENDS = (1024, 256, 64, 16)
_BETWEEN_WORDS = 4096  # so far from where it would be cut, a line without end is searched for one

_NAME = (
    rb"(?:password|passwd|passphrase|pwd|secret|credentials?|token"
    rb"|(?:api|access|secret|private|auth|account|signing)[_.-]?key|signature|(?-i:_KEY))"
)
_QUOTED = (
    rb"\\+[\"'][^\"'\\\r\n]*(?:\\+[\"'])?"  # inside a JSON string: \"value\"
    rb"|\"(?:[^\"\\\r\n]|\\.)*\"?|'(?:[^'\\\r\n]|\\.)*'?"
)
_BARE = rb"[^\s\"'`,;&<>(){}\[\]\\]+"
# gate (lower case, any of), pattern, replacement; no pattern but the first spans lines
_RULES: list[tuple[tuple[bytes, ...], re.Pattern[bytes], bytes]] = [
    (
        (b"private key-----",),
        re.compile(
            rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
        _MASK,
    ),
    (
        (b"authorization",),
        re.compile(
            rb"((?:proxy-)?authorization\\?[\"']?[ \t]*[:=][ \t]*+\\?+[\"']?+)(?!\*\*\*)[^\r\n\"'\\]+",
            re.IGNORECASE,
        ),
        rb"\1" + _MASK,
    ),
    (
        (b"bearer",),
        re.compile(rb"\b(bearer)[ \t]++(?!\*\*\*)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE),
        rb"\1 " + _MASK,
    ),
    (
        (b"://",),
        re.compile(rb"((?<=[A-Za-z0-9+.-])://[^\s/:@\"']*:)(?!\*\*\*)[^\s/@\"']+(?=@)"),
        rb"\1" + _MASK,
    ),
    (
        (b"--",),
        re.compile(
            rb"(--(?:[a-z0-9]++-)*?(?:password|passwd|passphrase|secret|token|api-?key|access-key)"
            rb"[ \t]++)(?!-|\*\*\*)(\S+)",
            re.IGNORECASE,
        ),
        rb"\1" + _MASK,
    ),
    ((b"cw_",), re.compile(rb"\b(cw_)[A-Za-z0-9_-]{6,}"), rb"\1" + _MASK),
    (
        tuple(
            b"hf_ ghp_ gho_ ghu_ ghs_ ghr_ glpat- akia asia aiza "
            b"sk- xox npm_ pypi- rpa_ secret_ dop_v1_ sk_live_ eyj dckr_pat_ github_pat_".split()
        ),
        re.compile(
            rb"(?<![A-Za-z0-9_])(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}"
            rb"|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|(?:AKIA|ASIA)[A-Z0-9]{16}\b"
            rb"|AIza[A-Za-z0-9_-]{30,}|sk-(?:proj-|ant-|or-)?[A-Za-z0-9_-]{20,}"
            rb"|xox[abeoprs]-[A-Za-z0-9-]{10,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,}"
            rb"|rpa_[A-Za-z0-9]{20,}|secret_[A-Za-z0-9_]{20,}(?:\.[A-Za-z0-9]{16,})?"
            rb"|dop_v1_[a-f0-9]{40,}|[sr]k_live_[A-Za-z0-9]{16,}|dckr_pat_[A-Za-z0-9_-]{20,}"
            rb"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*)?)"
        ),
        _MASK,
    ),
]
_KEY_BEGINS = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_KEY_ENDS = re.compile(rb"-----END [A-Z0-9 ]*PRIVATE KEY-----")
_SECRET_NAME = re.compile(rb"[A-Za-z0-9_.-]*" + _NAME, re.IGNORECASE)
_NAMED_VALUE = re.compile(
    rb"(" + _NAME + rb"\\*[\"']?[ \t]*(?::=|=>|[:=])[ \t]*)(" + _QUOTED + rb"|" + _BARE + rb")",
    re.IGNORECASE,
)
_BEHIND_NAME = frozenset(b"\\\"' \t:=")
_KEY_KINDS = (b"api", b"access", b"secret", b"private", b"auth", b"account", b"signing", b"_")
_NAMES = [
    b"password", b"passwd", b"passphrase", b"pwd", b"secret", b"credential", b"credentials",
    b"token", b"signature",
    *(kind + dash + b"key" for kind in _KEY_KINDS for dash in (b"_", b"-", b".", b"") if kind + dash != b"__"),
]  # fmt: skip
_GATES = [(gate, number) for number, (gates, _, _) in enumerate(_RULES) for gate in gates]
_WORDS = [*_NAMES, *(gate for gate, _ in _GATES)]
# a longer word hides the gates inside it: it opens them too
_FIRES = [{number for gate, number in _GATES if gate in word} for word in _WORDS]
# one pass finds where a rule may strike; most of a log holds none of these words
_SCANNER = BytesAhoCorasick(_WORDS, MATCHKIND_LEFTMOST_LONGEST)
# values that are no secrets though their names sound so: numbers, truths, nothing
_PLAIN_VALUE = re.compile(
    rb"[-+]?[0-9][0-9.,eE+-]*|true|false|none|null|nan|\*\*\*.*", re.IGNORECASE
)
_INSIDE = re.compile(rb"(\\*[\"']|)(.*?)(\\*[\"']|)", re.DOTALL)
_PASSWORD = re.compile(rb"pass|pwd", re.IGNORECASE)


class Redactor:
    """Masks known secrets and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._needles: set[bytes] = set()
        self._longest = 0  # bytes of the longest of them
        self._known: BytesAhoCorasick | None = None
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Mask a value from now on, in every known encoding.

        Raises:
            ValueError: It is too short to be told from ordinary text.
        """
        raw = secret.encode("utf-8", "surrogateescape")
        if len(raw) < LEAST_BYTES:
            message = f"a secret of {len(raw)} bytes is too short to be masked; 6 are needed"
            raise ValueError(message)
        pieces = [raw, *(line for line in raw.split(b"\n") if len(line.strip()) >= LEAST_BYTES)]
        for piece in pieces:
            self._needles |= spellings(piece.strip(b"\r\n"))
        self._longest = max(map(len, self._needles))
        self._known = BytesAhoCorasick(list(self._needles), MATCHKIND_LEFTMOST_LONGEST)

    def text(self, text: str) -> str:
        """Redact a text."""
        raw = text.encode("utf-8", "surrogatepass")
        return self.data(raw).decode("utf-8", "surrogatepass")

    def data(self, data: bytes) -> bytes:
        """Redact bytes; every byte outside the masks stays as it is."""
        if self._known is not None:
            data = _masked(data, self._known.find_matches_as_indexes(data))
        rules, names = _struck(data)
        for number in sorted(rules):
            data = _RULES[number][1].sub(_RULES[number][2], data)
        return _mask_named(data, _struck(data)[1] if rules else names)

    def value(self, value: Any) -> Any:
        """Redact a JSON-like value, its keys' names considered."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(key): self._member(key, one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return value

    def inner_cut(self, held: bytearray) -> int:
        """Where a line without end, held so far, may be cut; 0 while it is short enough to wait.

        No known value stands across the cut, and none begins before it that is not whole yet.
        """
        keep = max(_HOLD_LIMIT, self._longest + _BETWEEN_WORDS)
        if len(held) <= 2 * keep:
            return 0
        cut = len(held) - keep
        cut = max(cut, *(held.rfind(one, cut, cut + _BETWEEN_WORDS) + 1 for one in _SEPARATORS))
        if self._known is not None:
            spans = self._known.find_matches_as_indexes(bytes(held[: cut + self._longest]))
            cut = next((start for _, start, end in spans if start < cut < end), cut)
        return cut

    def stream(self) -> RedactingStream:
        """A redactor of bytes that come in pieces."""
        return RedactingStream(self)

    def _member(self, key: Any, value: Any) -> Any:
        if isinstance(key, str) and isinstance(value, str) and value and is_secret_name(key):
            return value if _PLAIN_VALUE.fullmatch(value.encode("utf-8", "replace")) else MASK
        return self.value(value)


class RedactingStream:
    """Redacts what comes in pieces as if it had come at once; time grows with the bytes alone.

    Whole lines leave; a line under way is held, up to 64 KiB of its end, and so is an open private key.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = bytearray()
        self._is_inside_line = False
        #: what the bytes that have left end with, as far as it is no secret
        self.end = b""

    @property
    def at_safe_point(self) -> bool:
        """Whether a fresh stream could take over right behind what has left."""
        return not self._is_inside_line

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """Take bytes; returns the redacted bytes that may leave and the raw bytes they stand for."""
        before = len(self._held)
        self._held += data
        last = max(data.rfind(one) for one in _BREAKS)
        cut = _before_open_key(self._held, before + last + 1) if last >= 0 else 0
        if cut:
            self._is_inside_line = False
        else:
            cut = self._redactor.inner_cut(self._held)
            self._is_inside_line = self._is_inside_line or cut > 0
        return self._leave(cut)

    def flush(self) -> tuple[bytes, int]:
        """Take the end of the stream."""
        return self._leave(len(self._held))

    def _leave(self, cut: int) -> tuple[bytes, int]:
        if not cut:
            return b"", 0
        raw = bytes(self._held[:cut])
        del self._held[:cut]
        clean = self._redactor.data(raw)
        self.end = next((raw[-n:] for n in _ENDS if raw[-n:] == clean[-n:]), b"")
        return clean, cut


def _masked(data: bytes, spans: Sequence[tuple[int, int, int]]) -> bytes:
    """Put a mask in place of each (needle, start, end)."""
    if not spans:
        return data
    parts, at = [], 0
    for _needle, start, end in spans:
        parts += [data[at:start], _MASK]
        at = end
    return b"".join([*parts, data[at:]])


def is_secret_name(name: str) -> bool:
    """Say whether a key's name announces a secret: `api_key`, not `tokens`."""
    return _SECRET_NAME.fullmatch(name.encode("utf-8", "replace")) is not None


def _before_open_key(held: bytearray, cut: int) -> int:
    """Hold a private key back from its first line until its last has come."""
    at = 0
    while (begin := _KEY_BEGINS.search(held, at, cut)) is not None:
        end = _KEY_ENDS.search(held, begin.end(), cut)
        if end is None:
            line = max(held.rfind(one, 0, begin.start()) for one in _BREAKS) + 1
            return cut if len(held) - line > _HOLD_LIMIT else line
        at = end.end()
    return cut


def _struck(data: bytes) -> tuple[set[int], list[int]]:
    """Rules whose gate word stands in the data, and where a secret's name may stand."""
    rules: set[int] = set()
    names = []
    for word, start, end in _SCANNER.find_matches_as_indexes(data.lower()):
        rules |= _FIRES[word]
        if word < len(_NAMES) and end < len(data) and data[end] in _BEHIND_NAME:
            names.append(start)
    return rules, names


def _mask_named(data: bytes, names: list[int]) -> bytes:
    """Mask the values that stand behind these names."""
    parts, at = [], 0
    for start in names:
        match = _NAMED_VALUE.match(data, start) if start >= at else None
        if match is not None:
            parts += [data[at:start], _mask_value(match)]
            at = match.end()
    return b"".join([*parts, data[at:]]) if parts else data


def _mask_value(match: re.Match[bytes]) -> bytes:
    name, value = match.groups()
    parts = _INSIDE.fullmatch(value)
    assert parts is not None  # noqa: S101 - it matches everything
    opening, inner, closing = parts.groups()
    is_password = _PASSWORD.search(name) is not None
    if not inner or (not is_password and len(inner) < LEAST_BYTES):
        return match[0]
    if _PLAIN_VALUE.fullmatch(inner) and not (is_password and inner[:1].isdigit()):
        return match[0]
    return name + opening + _MASK + closing
