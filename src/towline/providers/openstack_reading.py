"""What OpenStack's services answer, in our words: failures, links to further pages, endpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from towline import errors
from towline.providers.http import Rule, refusal
from towline.providers.parts import rows, told
from towline.providers.parts import text as text_of

HINT = "check `providers: {openstack: ...}` in config.yaml, clouds.yaml, and the variables OS_*"
_ROUTER = "connect the network to a router with a gateway there, or set `network`"


class Lacking(errors.ProviderError):
    """The catalog has no such service: that says nothing of what is in it."""


class VersionRefused(errors.ProviderError):
    """The cloud is older than the version of its API that was asked for."""


_RULES = (
    # Nova says 403, Neutron 409, old clouds 413
    Rule(r"^4(03|09|13) .*quota", errors.QuotaExceeded, "ask the cloud for a higher quota"),
    Rule(r"^413 ", errors.RateLimited),
    Rule(r"IpAddressGenerationFailure|ExternalIpAddressExhausted", errors.NoCapacity),
    Rule(r"no valid host", errors.NoCapacity),
    # comes with a 404, and is none
    Rule(r"ExternalGatewayForFloatingIPNotFound", errors.ProviderError, _ROUTER),
    Rule(r"^406 ", VersionRefused),
)


def refused(status: int, text: str, retry_after: str | None) -> errors.TowlineError:
    """What a failure means.

    Args:
        status: Of HTTP.
        text: The answer's body.
        retry_after: The header of that name, if any.
    """
    code, said = _reason(text)
    found = refusal("openstack", (status, code, said), _RULES, retry_after)
    if isinstance(found, errors.NotFound) and not code:  # a proxy's word, or another path's
        return errors.ProviderReplyError(found.message, hint="is the service's URL in the catalog?")
    return found


def refused_login(status: int, text: str, retry_after: str | None) -> errors.TowlineError:
    """What a failure of Keystone's means: nothing of what it knows is a server.

    It answers 404 for an application credential or a project that it does not know.
    """
    found = refused(status, text, retry_after)
    passing = isinstance(found, errors.ProviderUnavailable | errors.RateLimited)
    return found if passing else errors.ProviderAuthError(found.message, hint=HINT)


def next_query(page: Mapping[str, Any], key: str) -> str | None:
    """The query of the next page. The rest of its link may be of a host that only a proxy sees."""
    links = rows(told(page, f"{key}_links", kind=list) or [])
    hrefs = [text_of(link, "href") for link in links if link.get("rel") == "next"]
    href = next(iter(hrefs), "") or text_of(page, "next")
    return urlsplit(href).query or None


def versioned(url: str, version: str) -> str:
    """An endpoint with the version that its catalog may leave out."""
    plain = url.rstrip("/")
    parts = urlsplit(plain).path.split("/")
    named = any(part[:1] == "v" and part[1:2].isdigit() for part in parts)
    return plain if named else f"{plain}/{version}"


def _reason(text: str) -> tuple[str, str]:
    """The code and the message of an error: each service wraps them in a word of its own."""
    try:
        ((word, inner),) = json.loads(text).items()
        return str(inner.get("type") or inner.get("title") or word), str(inner["message"])
    except (ValueError, AttributeError, KeyError, TypeError):
        return "", text
