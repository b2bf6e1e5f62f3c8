"""The proof by which a machine shows that a host key is its own."""

from __future__ import annotations

import hashlib
import hmac


def proof(secret: str, nonce: str, host_key: str) -> str:
    """HMAC-SHA256 of nonce and host key under the secret, as hex; `onboard.attest` makes the same."""
    return hmac.new(secret.encode(), f"{nonce} {host_key}".encode(), hashlib.sha256).hexdigest()
