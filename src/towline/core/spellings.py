"""Every form in which a program may print a secret value."""

from __future__ import annotations

import base64
import html
import json
import shlex
import urllib.parse

#: a shorter one can't be told from ordinary text
LEAST_BYTES = 6
_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")


def spellings(raw: bytes) -> set[bytes]:
    """Every form in which a program may print a value."""
    text = raw.decode("utf-8", "replace")
    forms = {
        raw,
        urllib.parse.quote(raw, safe="").encode(),
        urllib.parse.quote_plus(raw).encode(),
        json.dumps(text)[1:-1].encode(),
        json.dumps(text, ensure_ascii=False)[1:-1].encode(),
        repr(text)[1:-1].encode("utf-8", "replace"),
        shlex.quote(text).strip("'").encode("utf-8", "replace"),
        html.escape(text).encode("utf-8", "replace"),
        raw.hex().encode(),
        raw.hex().upper().encode(),
        raw[::-1],
    }
    for shift in range(3):
        # the characters that depend on the neighbours are left out at both ends
        coded = base64.b64encode(b"\0" * shift + raw)
        start = (0, 2, 3)[shift]
        end = len(coded) - (0, 3, 2)[(len(raw) + shift) % 3]
        forms |= {coded[start:end], coded[start:end].translate(_TO_URLSAFE)}
    return {form for form in forms if len(form) >= LEAST_BYTES}
