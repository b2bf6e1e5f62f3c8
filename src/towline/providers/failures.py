"""What the body of an answer says of a failure, in the shapes that providers use."""

from __future__ import annotations

import json
import re
from typing import Any

from towline.providers.parts import short

#: said of a path that the server does not have; of a thing it says that the thing is not there
_NO_SUCH_PATH = re.compile(
    r"page not found|no (such )?(route|path|endpoint)|(route|path|endpoint|url) .*not found"
    r"|cannot (get|post|put|delete)\b|requested url",
    re.IGNORECASE,
)


def reason_of(text: str) -> tuple[str, str]:
    """The code and the message of an error's body; "" for what is not JSON."""
    try:
        body = json.loads(text)
    except ValueError:
        return "", ""
    inner = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(inner, dict):  # a word; the sentence, if any, stands beside it
        inner = {"error_reason": inner, **(body if isinstance(body, dict) else {})}
    said = next(
        (inner[k] for k in ("message", "msg", "detail", "error_reason") if inner.get(k)), ""
    )
    codes = ("code", "id", "type", "error", "error_reason")
    code = next((inner[k] for k in codes if inner.get(k)), "")
    return str(code), str(said or code)


def is_of_a_thing(code: str, said: str) -> bool:
    """Whether a 404 speaks of what was asked for, as an API does, and not of the path.

    A wrong `base_url` answers 404 to every question, and nothing is gone for that.
    """
    return bool(code or said) and _NO_SUCH_PATH.search(f"{code} {said}") is None


def refusal_in(answer: Any) -> str | None:
    """The reason of a failure that came with a status of success; None when there is none.

    `{"error": ...}`, `{"errors": [...]}`, `{"success": false}` and `{"status": false}` are in use.
    """
    if not isinstance(answer, dict):
        return None
    for name in ("error", "errors"):
        if answer.get(name):
            return f"{name}: {short(str(answer[name]))}"
    if answer.get("success") is False or answer.get("status") is False:
        return short(str(answer.get("message") or answer.get("msg") or answer))
    return None
