"""The border to OpenStack: openstacksdk finds the cloud and logs in; its exceptions in our words.

From the SDK come credentials, clouds.yaml, tokens, certificates and the catalog. Paths and bodies
are those of the API reference, so that each call is made once and is seen here: the SDK's own
retries are off, and an endpoint is taken from the catalog as it is, with its usual version where
the catalog names none. A refused token is renewed once, for with a 401 nothing was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from keystoneauth1 import exceptions as keystone
from openstack.exceptions import SDKException

from towline import errors
from towline.providers.account import Account
from towline.providers.failures import refusal_in
from towline.providers.http import repeated
from towline.providers.openstack_cloud import cloud_of
from towline.providers.openstack_reading import (
    HINT,
    Lacking,
    next_query,
    refused,
    refused_login,
    versioned,
)
from towline.providers.pages import require_end
from towline.providers.parts import need, rows, short

_VERSIONS = {"compute": "v2.1", "network": "v2.0", "image": "v2"}
_SUCCESS = range(200, 300)
_Answer = TypeVar("_Answer")


class OpenStackApi:
    """One project in one region of one cloud."""

    def __init__(self, account: Account) -> None:
        """Find the cloud; nothing is asked yet.

        Raises:
            SpecError: No cloud is named, or what names it can't be used.
            CredentialsError: There are none for it.
        """
        self._clock = account.clock
        try:
            self._cloud = cloud_of(account)
            self._session = self._cloud.get_session()
        except keystone.MissingRequiredOptions as error:
            hint = f"`towline login openstack` stores an application credential; or {HINT}"
            raise errors.CredentialsError(f"openstack: {error}", hint=hint) from error
        except (SDKException, keystone.ClientException) as error:
            raise errors.SpecError(f"openstack: {error}", hint=HINT) from error
        self._urls: dict[str, str] = {}

    @property
    def region(self) -> str | None:
        """The region's name; None where the cloud has only one, without a name."""
        return self._cloud.get_region_name() or None

    @property
    def keystone(self) -> str:
        """Where one logs in."""
        return str(self._cloud.config.get("auth", {}).get("auth_url") or "").rstrip("/")

    async def get(self, service: str, path: str, *, version: str | None = None) -> Any:
        """Read something; the answer's JSON. Repeated after a passing failure.

        Raises:
            ProviderError: As `send`.
        """
        return await repeated(self._clock, lambda: self.send(service, "GET", path, version=version))

    async def find(self, service: str, path: str) -> Any:
        """Read one thing; None for what is not there.

        Raises:
            ProviderError: As `send`, but for NotFound.
        """
        try:
            return await self.get(service, path)
        except errors.NotFound:
            return None

    async def rows(
        self, service: str, path: str, key: str, *, version: str | None = None
    ) -> list[dict[str, Any]]:
        """Every row of a list, page after page.

        Raises:
            ProviderReplyError: A page has no such list.
            ProviderError: As `send`.
        """
        found: list[dict[str, Any]] = []
        query = urlsplit(path).query
        plain = path.partition("?")[0]
        while True:
            page = await self.get(service, f"{plain}?{query}" if query else plain, version=version)
            part = rows(need(page, key))
            found += part
            further = next_query(page, key)
            if further is None:
                require_end(page, len(found))
                return found
            if not part or further == query:
                raise errors.ProviderReplyError(f"openstack's list {plain} has no end")
            query = further

    async def send(
        self, service: str, method: str, path: str, body: Any = None, *, version: str | None = None
    ) -> Any:
        """Ask once; the answer's JSON, None for an empty one.

        Raises:
            ProviderReplyError: Success, but no JSON: it may have happened.
            ProviderError: Any refusal, by the rules and then by the status.
        """
        headers = {"Accept": "application/json", "Connection": "close"}
        if version is not None:
            headers["OpenStack-API-Version"] = f"{service} {version}"
        return await self._asked(
            functools.partial(self._once, service, method, path, body, headers)
        )

    async def remove(self, service: str, path: str) -> None:
        """Remove one thing; what is gone already is no error.

        Raises:
            ProviderError: As `send`, but for NotFound.
        """
        try:
            await self.send(service, "DELETE", path)
        except errors.NotFound:
            return

    async def project(self) -> str:
        """The id of the project that the credentials are for.

        Raises:
            ProviderAuthError: They are for none.
            ProviderError: As `send`.
        """
        with _keystone_read():
            found = await repeated(self._clock, lambda: self._asked(self._session.get_project_id))
        if not found:
            message = "openstack: the credentials are for no project"
            raise errors.ProviderAuthError(message, hint="use those of one project")
        return str(found)

    async def require(self, service: str) -> None:
        """Look for a service in the catalog.

        Raises:
            Lacking: It is not there.
            ProviderError: As `send`.
        """
        await repeated(self._clock, lambda: self._asked(functools.partial(self._url, service)))

    async def _asked(self, ask: Callable[[], _Answer]) -> _Answer:
        """Let a blocking call run in a thread; its failure in our words."""
        try:
            await asyncio.to_thread(self._log_in)
            return await asyncio.to_thread(ask)
        except (keystone.ClientException, SDKException) as error:
            raise in_our_words(error) from error

    def _log_in(self) -> None:
        """Get a token where there is none that lasts."""
        with _keystone_read():
            self._session.get_token()

    def _once(
        self, service: str, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> Any:
        url = self._url(service) + path
        answer = self._session.request(
            url, method, json=body, headers=dict(headers), raise_exc=False,
            connect_retries=0, status_code_retries=0,
        )  # fmt: skip
        if answer.status_code not in _SUCCESS:
            raise refused(answer.status_code, answer.text, answer.headers.get("Retry-After"))
        if not answer.text.strip():
            return None
        try:
            read = json.loads(answer.text)
        except ValueError as error:
            message = f"openstack answered {method} {path} with no JSON: {short(answer.text)}"
            raise errors.ProviderReplyError(message) from error
        if (failure := refusal_in(read)) is not None:
            raise errors.ProviderReplyError(f"openstack answers {method} {path}: {failure}")
        return read

    def _url(self, service: str) -> str:
        """Where a service is."""
        if service not in self._urls:
            url = self._cloud.get_endpoint(service) or self._catalogued(service)
            self._urls[service] = versioned(url, _VERSIONS[service])
        return self._urls[service]

    def _catalogued(self, service: str) -> str:
        """Where the catalog says that it is.

        Raises:
            Lacking: It is not there.
        """
        cloud = self._cloud
        try:
            with _keystone_read():
                url = self._session.get_endpoint(
                    service_type=cloud.get_service_type(service),
                    service_name=cloud.get_service_name(service),
                    interface=cloud.get_interface(service),
                    region_name=cloud.get_region_name(service),
                    skip_discovery=True,
                )
        except keystone.EndpointNotFound:
            url = None
        if not url:
            where = f" in region {self.region}" if self.region else ""
            message = f"openstack: the catalog has no service {service!r}{where}"
            raise Lacking(message, hint="correct providers.openstack.region")
        return str(url)


@contextlib.contextmanager
def _keystone_read() -> Iterator[None]:
    """Where the SDK takes apart what Keystone has answered: it trusts its shape.

    Raises:
        ProviderReplyError: It has another.
    """
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        message = f"openstack: Keystone's answer can't be read: {error!r}"
        raise errors.ProviderReplyError(message) from error


def in_our_words(error: Exception) -> errors.TowlineError:
    """What an exception of the SDK's means; the one place that knows them."""
    message = f"openstack: {error}"
    if isinstance(error, keystone.HttpError) and error.response is not None:
        answer = error.response
        return refused_login(answer.status_code, answer.text, answer.headers.get("Retry-After"))
    original = getattr(error, "original", None)
    if isinstance(error, keystone.EndpointNotFound) or isinstance(original, ValueError):
        return errors.SpecError(f"{message} (is Keystone's URL one?)", hint=HINT)
    if isinstance(error, keystone.InvalidResponse):
        return errors.ProviderReplyError(f"{message}: {short(error.response.text)}")
    if isinstance(error, keystone.AuthorizationFailure | keystone.AuthPluginException):
        return errors.ProviderAuthError(message, hint=HINT)
    return errors.ProviderUnavailable(message)
