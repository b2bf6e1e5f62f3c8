"""Which OpenStack cloud is meant: by config.yaml, by clouds.yaml, or by the variables OS_*."""

from __future__ import annotations

import os
from typing import Any

from openstack.config import OpenStackConfig
from openstack.config.cloud_region import CloudRegion

from towline import errors
from towline.providers.account import Account

_TIMEOUT_S = 30.0
_KEY_ID, _SECRET = "application_credential_id", "application_credential_secret"
#: by each of these the SDK finds something to log in with
_WAYS = ("OS_CLOUD", "OS_AUTH_TYPE", "OS_USERNAME", "OS_USER_ID", "OS_TOKEN")


def cloud_of(account: Account) -> CloudRegion:
    """The cloud that is named: by `cloud`, by a URL and the account's keys, or as the SDK finds it.

    Raises:
        SpecError: None is.
        CredentialsError: There are none for it.
    """
    common: dict[str, Any] = {"api_timeout": account.number("timeout_s", _TIMEOUT_S)}
    if "region" in account.settings:
        common["region_name"] = account.text("region", "")
    named = account.settings.get("cloud")
    if named is not None:
        return OpenStackConfig(app_name="towline").get_one(cloud=str(named), **common)
    url = account.settings.get("base_url") or os.environ.get("OS_AUTH_URL")
    if url and account.keys.get(_KEY_ID):
        keys = {"auth_url": str(url), _KEY_ID: account.key(_KEY_ID), _SECRET: account.key(_SECRET)}
        plain = OpenStackConfig(app_name="towline", load_yaml_config=False, load_envvars=False)
        found = {
            "interface": "OS_INTERFACE",
            "cacert": "OS_CACERT",
            "region_name": "OS_REGION_NAME",
        }
        told = {key: os.environ[name] for key, name in found.items() if name in os.environ}
        return plain.get_one(auth_type="v3applicationcredential", auth=keys, **{**told, **common})
    if any(name in os.environ for name in _WAYS):
        if "base_url" in account.settings:
            common["auth"] = {"auth_url": str(url)}
        return OpenStackConfig(app_name="towline").get_one(**common)
    if url:
        account.key(_KEY_ID)  # says how to give it
    hint = (
        "set `providers: {openstack: {base_url: https://.../v3}}` in config.yaml, or OS_AUTH_URL;"
    )
    raise errors.SpecError(
        "openstack: neither Keystone's URL nor a cloud of clouds.yaml is named",
        hint=f"{hint} for clouds.yaml set `cloud`, or OS_CLOUD",
    )
