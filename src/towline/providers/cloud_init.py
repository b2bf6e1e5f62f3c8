"""User-data for machines that read cloud-config: the host key that makes grade A."""

from __future__ import annotations

import json

from towline.core.instance import Order


def user_data(order: Order) -> str:
    """Cloud-config that gives the SSH server the order's host key, and no other.

    Written as JSON, which is YAML, so that no text can break out of it.
    """
    keys = {"ed25519_private": order.host_key, "ed25519_public": order.host_public_key}
    config = {"ssh_deletekeys": True, "ssh_keys": keys}  # with ssh_keys no others are made
    return "#cloud-config\n" + json.dumps(config)
