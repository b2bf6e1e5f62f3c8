"""Ask a provider's HTTP API, and say in our words what it answered.

Every request has its own connection: a kept one that the server has closed meanwhile would leave
a POST's outcome unknown. A GET is repeated after a passing failure; what changes something never
is, for the caller must look first whether it has happened.
"""

from __future__ import annotations

import functools
import json
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from towline import errors
from towline.core.backoff import delays
from towline.ports import Clock
from towline.providers.failures import is_of_a_thing, reason_of, refusal_in
from towline.providers.parts import short

if TYPE_CHECKING:
    from towline.providers.account import Account

_TIMEOUT_S = 30.0
_TRIES = 4
_PAUSES_S = (0.5, 8.0)
_LONGEST_RETRY_S = 30.0
_SUCCESS = range(200, 300)
_LINK_NEXT = re.compile(r"""rel="?next\b""", re.IGNORECASE)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a provider's own words for a failure mean.

    ``pattern`` is looked for, whatever its case, in "<status> <code> <message>"; the first rule
    that fits wins. ``hint`` None: the error's usual one.
    """

    pattern: str
    error: type[errors.ProviderError]
    hint: str | None = None


class Api:
    """One provider's HTTP API."""

    def __init__(
        self,
        name: str,
        base_url: str,
        clock: Clock,
        headers: Callable[[], Mapping[str, str]],
        *,
        rules: Sequence[Rule] = (),
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """Ask nothing yet.

        Args:
            name: The provider's, for messages.
            base_url: Without a slash at its end.
            clock: For the pauses between two tries.
            headers: Called for each request; holds the key.
            rules: The provider's own words for failures.
            timeout_s: For connecting, and for each silence while reading.
        """
        self._name = name
        self._base_url = base_url.rstrip("/")
        self._clock = clock
        self._headers = headers
        self._rules = rules
        self._timeout_s = timeout_s

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """Read something; the answer's JSON. Repeated after a passing failure.

        Raises:
            ProviderError: As `send`.
        """
        return await repeated(self._clock, lambda: self.send("GET", path, params=params))

    async def find(self, path: str) -> Any:
        """Read one thing; None for what is not there.

        Raises:
            ProviderReplyError: Success without a word; or as `send`.
            ProviderError: As `send`, but for NotFound.
        """
        try:
            found = await self.get(path)
        except errors.NotFound:
            return None
        if found is None:
            raise errors.ProviderReplyError(f"{self._name} answers GET {path} with nothing")
        return found

    async def remove(
        self, path: str, *, method: str = "DELETE", params: Mapping[str, Any] | None = None
    ) -> bool:
        """Remove one thing; what is gone already is no error. Whether it was there.

        Raises:
            ProviderError: As `send`, but for NotFound.
        """
        try:
            await self.send(method, path, params=params)
        except errors.NotFound:
            return False
        return True

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        plain: bool = False,
        as_it_is: bool = False,
    ) -> Any:
        """Ask once; the answer's JSON, None for an empty one, its text when `plain`.

        Args:
            method: Of HTTP.
            path: After the API's URL.
            body: What is sent as JSON.
            params: The query.
            plain: Take the answer for text.
            as_it_is: Give the answer back even if it says itself that it failed.

        Raises:
            NotFound: 404, in the API's own form.
            RateLimited: 429.
            ProviderUnavailable: No answer, or 408, 409, 5xx: whether it happened is not known.
            ProviderReplyError: Success, but no JSON, or one that tells of a failure: it may have
                happened. A 404 that is not the API's: another server answers, or another path.
            ProviderError: Any other refusal, by the rules and then by the status.
        """
        status, text, headers = await self._ask(method, path, body, params)
        what = f"{self._name} answers {method} {path} with {status}"
        if status not in _SUCCESS:
            raise self._refused(what, status, text, headers.get("retry-after"))
        if plain or not text.strip():
            return text if plain else None
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise errors.ProviderReplyError(f"{what} and no JSON: {short(text)}") from error
        failure = None if as_it_is else refusal_in(answer)
        if failure is not None:
            raise errors.ProviderReplyError(f"{what} and a failure: {failure}")
        if _LINK_NEXT.search(headers.get("link", "")):
            raise errors.ProviderReplyError(f"{what} and a further page: {headers['link']}")
        return answer

    def _refused(
        self, what: str, status: int, text: str, retry_after: str | None
    ) -> errors.TowlineError:
        code, said = reason_of(text)
        ruled = rule_for(self._rules, f"{status} {code} {said or text}") is not None
        refused = refusal(self._name, (status, code, said or text), self._rules, retry_after)
        if isinstance(refused, errors.NotFound) and not ruled and not is_of_a_thing(code, said):
            hint = f"is providers.{self._name}.base_url right?"
            return errors.ProviderReplyError(f"{what}, not as its API: {short(text)}", hint=hint)
        return refused

    async def _ask(
        self,
        method: str,
        path: str,
        body: Any,
        params: Mapping[str, Any] | None,
    ) -> tuple[int, str, Mapping[str, str]]:
        import httpx  # noqa: PLC0415 - 0.1 s, and only clouds need it

        verify: Any = _tls() if self._base_url.startswith("https:") else False
        try:
            async with httpx.AsyncClient(verify=verify, timeout=self._timeout_s) as client:
                answer = await client.request(
                    method,
                    self._base_url + path,
                    params=params,
                    json=body,
                    headers=dict(self._headers()),
                )
                return answer.status_code, answer.text, answer.headers
        except httpx.InvalidURL as error:
            message = f"providers.{self._name}.base_url can't be used: {error}"
            raise errors.SpecError(message, hint="correct it in config.yaml") from error
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise errors.ProviderUnavailable(
                f"{self._name} does not answer {method} {path}: {what}"
            ) from error


def api_of(
    account: Account,
    base_url: str,
    headers: Callable[[], Mapping[str, str]],
    rules: Sequence[Rule] = (),
) -> Api:
    """The API of an account, whose settings have the last word on where it is."""
    return Api(
        account.name,
        account.text("base_url", base_url),
        account.clock,
        headers,
        rules=rules,
        timeout_s=account.number("timeout_s", _TIMEOUT_S),
    )


def refusal(
    name: str,
    failure: tuple[int, str, str],
    rules: Sequence[Rule],
    retry_after: str | None = None,
) -> errors.TowlineError:
    """What a failure means: by the provider's own words, and then by the status.

    Args:
        name: The provider's, for the message.
        failure: HTTP status, the provider's code, its message.
        rules: The provider's own words for failures.
        retry_after: The header of that name, if any.
    """
    status, code, said = failure
    message = f"{name} answers {status}: {short(said or code) or 'no reason given'}"
    rule = rule_for(rules, f"{status} {code} {said}")
    if rule is not None:
        return rule.error(message, hint=rule.hint)
    if status == 429:  # noqa: PLR2004 - HTTP's own numbers
        return errors.RateLimited(message, retry_after_s=_seconds(retry_after))
    return _by_status(status)(message)


def rule_for(rules: Sequence[Rule], failure: str) -> Rule | None:
    """The first rule that fits "<status> <code> <message>"."""
    fitting = (rule for rule in rules if re.search(rule.pattern, failure, re.IGNORECASE))
    return next(fitting, None)


async def repeated(clock: Clock, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    """Ask again after a passing failure; only for what changes nothing.

    Raises:
        ProviderError: As `ask`, the last time.
    """
    # no two of many runs that were refused together ask again together
    pauses = (pause_s * random.uniform(0.7, 1.3) for pause_s in delays(*_PAUSES_S))  # noqa: S311
    for _ in range(_TRIES - 1):
        try:
            return await ask()
        except errors.RateLimited as limited:
            wanted = limited.retry_after_s or 0.0
            await clock.sleep(max(next(pauses), min(wanted, _LONGEST_RETRY_S)))
        except errors.ProviderUnavailable:
            await clock.sleep(next(pauses))
    return await ask()


def _by_status(status: int) -> type[errors.ProviderError]:
    """The table for every provider: what a bare status means."""
    match status:
        case 401 | 403:
            return errors.ProviderAuthError
        case 402:
            return errors.PaymentNeeded
        case 404 | 410:
            return errors.NotFound
        case 408 | 409:
            return errors.ProviderUnavailable
        case _ if 400 <= status < 500:  # noqa: PLR2004
            return errors.ProviderError
        case _:
            return errors.ProviderUnavailable


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its form with a date is not used by these APIs."""
    return float(retry_after) if retry_after and re.fullmatch(r"\d+(\.\d+)?", retry_after) else None


@functools.cache
def _tls() -> ssl.SSLContext:
    import httpx  # noqa: PLC0415

    return httpx.create_ssl_context()  # 30 ms; the same for every request
