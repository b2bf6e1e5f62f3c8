"""Verda's API with its OAuth2: a token for the client's id and secret, renewed when it is over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from towline import errors
from towline.providers.account import Account
from towline.providers.http import Api, Rule
from towline.providers.parts import ident, need, rows, segment

_BASE_URL = "https://api.verda.com/v1"
_USED = 0.9  # of a token's life: no request is to meet its last seconds
_PAGE = 100
_WHO = "check client id and secret, and providers.verda.base_url"


class _Unsigned(errors.ProviderAuthError):
    """401: the token is not valid, or no more."""


class Session:
    """Calls that are signed; one token serves them until it is over."""

    def __init__(self, account: Account, rules: Sequence[Rule]) -> None:
        """Ask nothing yet.

        Raises:
            CredentialsError: The account has no id or no secret.
        """
        self._clock = account.clock
        self._grant = {
            "grant_type": "client_credentials",
            "client_id": account.key("client_id"),
            "client_secret": account.key("client_secret"),
        }
        self._token, self._until = "", 0.0
        where = (account.name, account.text("base_url", _BASE_URL), account.clock)
        timeout_s = account.number("timeout_s", 30.0)
        # also a 404: whoever is not known here knows of no instance
        refused = (Rule(r"^4(?!08|29)\d\d ", errors.ProviderAuthError, _WHO),)
        self._door = Api(*where, dict, rules=refused, timeout_s=timeout_s)
        self._api = Api(
            *where,
            lambda: {"Authorization": f"Bearer {self._token}"},
            rules=(Rule(r"^401 ", _Unsigned), *rules),
            timeout_s=timeout_s,
        )

    async def sign_in(self) -> None:
        """Have a token that is valid for now."""
        if self._clock.now() < self._until:
            return
        since = self._clock.now()
        answer = await self._door.send("POST", "/oauth2/token", self._grant)
        self._token = need(answer, "access_token", kind=str)
        self._until = since + _USED * need(answer, "expires_in", kind=int)

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """Read something; see `http.Api`."""
        return await self._signed(lambda: self._api.get(path, params))

    async def send(self, method: str, path: str, body: Any = None) -> Any:
        """Ask once; see `http.Api`."""
        return await self._signed(lambda: self._api.send(method, path, body))

    async def make(self, path: str, body: Mapping[str, Any]) -> str:
        """Create something; its id, which the API answers as bare text.

        Raises:
            ProviderReplyError: Success, but no id: it may have been made.
        """
        text = await self._signed(lambda: self._api.send("POST", path, body, plain=True))
        made = segment(str(text).strip().strip('"'))
        if made is None:
            message = f"verda answered POST {path} with success and no id: {str(text)[:200]}"
            raise errors.ProviderReplyError(message)
        return made

    async def pages(self, path: str) -> list[dict[str, Any]]:
        """All rows of a list in pages, of which the answer itself says nothing."""
        found: dict[str, dict[str, Any]] = {}
        page = 1
        while True:
            listed = rows(await self.get(path, {"page": page, "pageSize": _PAGE}))
            fresh = {ident(row, "id"): row for row in listed}
            if fresh.keys() <= found.keys():
                return list(found.values())
            found |= fresh
            page += 1

    async def _signed(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask; if the token is refused, which does nothing, ask once more with a new one."""
        await self.sign_in()
        try:
            return await ask()
        except _Unsigned:
            self._until = 0.0
        await self.sign_in()
        try:
            return await ask()
        except _Unsigned as refused:
            raise errors.ProviderAuthError(refused.message) from refused
