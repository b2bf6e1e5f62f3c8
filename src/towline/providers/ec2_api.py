"""The border to AWS: boto3's clients, its blocking calls in threads, its exceptions in our words."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import botocore.loaders
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from towline import errors
from towline.providers.account import Account
from towline.providers.http import Rule, refusal, repeated
from towline.providers.parts import need, rows

_TIMEOUT_S = 30.0
_PRICING_REGION = "us-east-1"  # its API answers in few regions, for all of them
_KEY_ID, _SECRET = "access_key_id", "secret_access_key"


class TokenSpent(errors.ProviderUnavailable):
    """A client token stands for an earlier request whose parameters were others."""


class Untold(errors.ProviderUnavailable):
    """Asked for an id, EC2 answers with nothing: neither that it is known nor that it is not."""


def _code(words: str) -> str:
    """A pattern for AWS's code alone: its messages say too many words."""
    return rf"^\d+ \S*(?:{words})"


#: capacity first: it comes with status 500, and a throttled request with 503
_RULES = (
    Rule(
        _code(
            r"Insufficient\w*Capacity|UnfulfillableCapacity|ReservationCapacityExceeded"
            r"|InsufficientFreeAddresses|SpotMaxPriceTooLow|Unsupported\b"
        ),
        errors.NoCapacity,
    ),
    Rule(_code("RequestLimitExceeded|Throttl|TooManyRequests|SlowDown"), errors.RateLimited),
    Rule(
        _code("LimitExceeded|CountExceeded|QuotaExceeded"),
        errors.QuotaExceeded,
        "ask for a higher quota (vCPUs of G or P instances) in AWS's console, Service Quotas",
    ),
    Rule(
        _code("OptInRequired|PendingVerification|Blocked"),
        errors.PaymentNeeded,
        "the account can't rent yet: see its console for a payment method or a verification",
    ),
    Rule(
        _code(
            "AuthFailure|Unauthorized|AccessDenied|InvalidClientTokenId|SignatureDoesNotMatch"
            "|ExpiredToken|RequestExpired|UnrecognizedClient|MissingAuthenticationToken"
        ),
        errors.ProviderAuthError,
        "check the account's keys and what its IAM policy allows",
    ),
    Rule(_code("IdempotentParameterMismatch"), TokenSpent),
    Rule(
        _code(r"\.NotFound|InvalidInstanceID\.Malformed|NoSuchResourceException"), errors.NotFound
    ),
    Rule(_code(r"DependencyViolation|InvalidGroup\.InUse|VolumeInUse"), errors.ProviderUnavailable),
    Rule("^4(04|10) ", errors.ProviderError, "is providers.ec2.base_url right?"),
)
_NO_CREDENTIALS = (
    boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError,
    boto.TokenRetrievalError, boto.NoAuthTokenError, boto.SSOError, boto.MetadataRetrievalError,
)  # fmt: skip

#: botocore's own, and what comes of an answer of another shape, which it trusts
_FOREIGN = (
    boto.BotoCoreError, boto.ClientError, ResponseParserError, AttributeError, LookupError,
    TypeError, ValueError,
)  # fmt: skip


class Aws:
    """One account in one region.

    botocore repeats nothing: with its own retries a refusal could hide that an earlier, lost try
    had succeeded, and an endpoint that is not AWS's may not know client tokens. What only reads
    is repeated here.
    """

    def __init__(self, account: Account) -> None:
        """Read the settings and find the region; nothing is asked yet.

        Raises:
            SpecError: No region is set, or the profile does not exist.
        """
        self._account = account
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        try:
            self._session = _session(account)
        except boto.BotoCoreError as error:
            hint = "correct `providers: {ec2: {profile: ...}}` in config.yaml, or AWS_PROFILE"
            raise errors.SpecError(f"ec2: {error}", hint=hint) from error
        if self._session.region_name is None:
            hint = "set `providers: {ec2: {region: eu-central-1}}` in config.yaml, or AWS_REGION"
            raise errors.SpecError("ec2: no region is set", hint=hint)
        self.region: str = self._session.region_name

    async def call(self, operation: str, /, service: str = "ec2", **arguments: Any) -> Any:
        """Ask once.

        Raises:
            ProviderError: As `in_our_words`.
        """
        return await asyncio.to_thread(self._once, service, operation, arguments)

    async def read(self, operation: str, /, service: str = "ec2", **arguments: Any) -> Any:
        """Ask for what changes nothing; repeated after a passing failure.

        Raises:
            ProviderError: As `in_our_words`.
        """
        return await repeated(
            self._account.clock,
            lambda: asyncio.to_thread(self._once, service, operation, arguments),
        )

    async def pages(
        self, operation: str, key: str, /, service: str = "ec2", **arguments: Any
    ) -> list[Any]:
        """Every row of a list in pages, to its end.

        Raises:
            ProviderReplyError: A page has no such list.
            ProviderError: As `in_our_words`.
        """
        return await repeated(
            self._account.clock,
            lambda: asyncio.to_thread(self._all_pages, service, operation, key, arguments),
        )

    async def instances(self, **which: Any) -> list[dict[str, Any]]:
        """Instances that are asked for by id or filter.

        Raises:
            NotFound: An id is not known.
            Untold: Nothing is said of an id.
            ProviderError: As `in_our_words`.
        """
        found = await self.pages("describe_instances", "Reservations", **which)
        listed = [one for row in rows(found) for one in rows(need(row, "Instances"))]
        if not listed and "InstanceIds" in which:
            ids = ", ".join(which["InstanceIds"])
            raise Untold(f"ec2 tells nothing of {ids}")
        return listed

    def now(self) -> datetime:
        """This moment, as boto3 takes it."""
        return datetime.fromtimestamp(self._account.clock.now(), UTC)

    def _once(self, service: str, operation: str, arguments: Mapping[str, Any]) -> Any:
        try:
            answer = getattr(self._client(service), operation)(**arguments)
        except _FOREIGN as error:
            raise in_our_words(error) from error
        if answer.get("NextToken") or answer.get("Return") is False:
            raise errors.ProviderReplyError(f"ec2 answers {operation} in part, or with no")
        return answer

    def _all_pages(
        self, service: str, operation: str, key: str, arguments: Mapping[str, Any]
    ) -> list[Any]:
        found: list[Any] = []
        try:
            for page in self._client(service).get_paginator(operation).paginate(**arguments):
                found += need(page, key)
        except _FOREIGN as error:
            raise in_our_words(error) from error
        return found

    def _client(self, service: str) -> Any:
        with self._lock:  # boto3's clients may be shared by threads, its sessions may not
            if service not in self._clients:
                self._clients[service] = self._new_client(service)
            return self._clients[service]

    def _new_client(self, service: str) -> Any:
        timeout_s = self._account.number("timeout_s", _TIMEOUT_S)
        try:
            return self._session.client(
                service,
                region_name=_PRICING_REGION if service == "pricing" else self.region,
                endpoint_url=self._account.settings.get("base_url"),
                config=Config(
                    connect_timeout=timeout_s,
                    read_timeout=timeout_s,
                    retries={"total_max_attempts": 1},
                ),
            )
        except ValueError as error:
            hint = "correct `providers: {ec2: {base_url: ...}}` in config.yaml"
            raise errors.SpecError(f"ec2: {error}", hint=hint) from error


def filtered(name: str, *values: str) -> dict[str, Any]:
    """A filter of a list: rows whose field is one of the values."""
    return {"Name": name, "Values": list(values)}


def in_our_words(error: Exception) -> errors.TowlineError:
    """What an exception of botocore's means; the one place that knows them."""
    if isinstance(error, boto.ClientError):
        said = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code, message = str(said.get("Code", "")), str(said.get("Message", ""))
        return refusal("ec2", (status, code, f"{code}: {message}"), _RULES)
    message = f"ec2: {error}"
    if isinstance(error, _NO_CREDENTIALS):
        hint = "`towline login ec2` stores keys; `aws configure` or AWS_PROFILE will do as well"
        return errors.ProviderAuthError(message, hint=hint)
    if isinstance(error, ResponseParserError | boto.PaginationError):
        return errors.ProviderReplyError(message)
    if not isinstance(error, boto.BotoCoreError):
        return errors.ProviderReplyError(f"ec2's answer can't be read: {error!r}")
    if isinstance(error, boto.ParamValidationError):
        return errors.ProviderError(message)  # found before anything was sent
    return errors.ProviderUnavailable(message)


def _session(account: Account) -> boto3.Session:
    """Keys of the account where it has them; else boto3 looks where it always does.

    Keys from the environment are left to boto3, too: a session token may belong to them.
    """
    region = account.settings.get("region") or os.environ.get("AWS_REGION")
    key_id = account.keys.get(_KEY_ID)
    named: dict[str, str] = {}
    if key_id and key_id != os.environ.get("AWS_ACCESS_KEY_ID"):
        named = {"aws_access_key_id": key_id, "aws_secret_access_key": account.key(_SECRET)}
    core = botocore.session.Session(profile=account.settings.get("profile"))
    core.get_scoped_config()  # a profile that does not exist is said to be missing now
    core.register_component("data_loader", _loader())
    return boto3.Session(botocore_session=core, region_name=region, **named)


@functools.cache
def _loader() -> botocore.loaders.Loader:
    """AWS's description of its API: 0.2 s to read, once for all clients."""
    return botocore.loaders.create_loader(
        botocore.session.Session().get_config_variable("data_path")
    )
