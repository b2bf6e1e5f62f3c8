"""What a provider's answer to "create" means: the table that keeps two instances from one wish.

After the Open Service Broker's table of orphans: only a plain refusal says that nothing was made;
silence, a passing failure and what can't be read say nothing at all.
"""

from __future__ import annotations

import enum

from towline import errors


class Verdict(enum.Enum):
    """What is known after a create that did not end well."""

    REFUSED = "this offer can't be had; nothing was made"
    ACCOUNT = "this account can't rent now; nothing was made"
    LATER = "asked too often; nothing was made"
    UNKNOWN = "it may have been made"


#: the first class that fits; every other refusal of a provider is plain
_TABLE: tuple[tuple[type[errors.TowlineError], Verdict], ...] = (
    (errors.ProviderUnavailable, Verdict.UNKNOWN),  # no answer, a reset, 408, 409, 5xx
    (errors.ProviderReplyError, Verdict.UNKNOWN),  # success without an id, garbage
    (errors.RateLimited, Verdict.LATER),
    (errors.QuotaExceeded, Verdict.ACCOUNT),
    (errors.PaymentNeeded, Verdict.ACCOUNT),
    (errors.ProviderAuthError, Verdict.ACCOUNT),
    (errors.ProviderError, Verdict.REFUSED),  # no capacity, a bad request
)


def judge(error: errors.TowlineError) -> Verdict:
    """Say what a failed create means."""
    return next((verdict for kind, verdict in _TABLE if isinstance(error, kind)), Verdict.UNKNOWN)
