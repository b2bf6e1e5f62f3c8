"""Which account rented: what the ledger remembers of it, and nothing of that is a secret.

A key is remembered by its fingerprint: the first eight hexadecimal digits of a hash, so that two
keys are told apart and none can be got back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Renter:
    """One account at one provider, as its settings and its key name it.

    ``place`` holds the settings that decide which part of which account answers, such as
    `base_url` and `region`, by name; what is not set is left out. ``key`` is a fingerprint, ""
    where a library found the credentials by itself. ``account`` is the provider's own id of the
    account, None where it does not tell one. ``earlier_keys`` are fingerprints of keys that the
    user says the account had; they are not stored.
    """

    provider: str
    key: str
    place: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    earlier_keys: tuple[str, ...] = field(default=(), compare=False)

    def has_key_of(self, other: Renter) -> bool:
        """Whether both are one account, as far as place and key tell."""
        known = {self.key, *self.earlier_keys} - {""}
        return self._is_at(other) and other.key in known

    def is_account_of(self, other: Renter) -> bool:
        """Whether both are one account by the provider's own word."""
        return self._is_at(other) and self.account is not None and self.account == other.account

    def _is_at(self, other: Renter) -> bool:
        return (self.provider, dict(self.place)) == (other.provider, dict(other.place))

    def differing(self, other: Renter) -> list[str]:
        """Names of the settings of ``place`` in which two accounts differ."""
        names = {*self.place, *other.place}
        return sorted(one for one in names if self.place.get(one) != other.place.get(one))

    def text(self, other: Renter) -> str:
        """The account in words, by what tells it from another."""
        words = [f"{one} {self.place.get(one, 'not set')}" for one in self.differing(other)]
        if self.account != other.account and self.account is not None:
            words.append(f"account {self.account}")
        if self.key != other.key or not words:
            words.append(f"key {self.key}" if self.key else "credentials found by its library")
        return ", ".join(words)

    def known_as(self, account: str | None) -> Renter:
        """The same with the provider's own id of the account."""
        return replace(self, account=account)

    def data(self) -> dict[str, Any]:
        """What the ledger stores."""
        return {
            "provider": self.provider,
            "key": self.key,
            "place": dict(self.place),
            "account": self.account,
        }


def fingerprint(provider: str, key: str) -> str:
    """By what a key is told from another; the key can't be got back from it."""
    digest = hashlib.sha256(f"towline account at {provider}\n{key}".encode())
    return digest.hexdigest()[:_DIGITS]
