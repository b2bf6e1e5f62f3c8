"""What a new machine is told at create: the host key that makes grade A."""

from __future__ import annotations

import base64
import json

from towline.core.instance import Order

_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key"


def user_data(order: Order) -> str:
    """Cloud-config that gives the SSH server the order's host key, and no other.

    Written as JSON, which is YAML, so that no text can break out of it.
    """
    keys = {"ed25519_private": order.host_key, "ed25519_public": order.host_public_key}
    config = {"ssh_deletekeys": True, "ssh_keys": keys}  # with ssh_keys no others are made
    return "#cloud-config\n" + json.dumps(config)


def host_key_script(order: Order) -> str:
    """A startup script that does the same on a machine that is up already.

    For providers that run a script instead of reading cloud-config, as root or as a user with
    sudo. The keys are in base64, so that no text can break out of it.
    """
    private, public = (
        base64.b64encode(f"{(key or '').strip()}\n".encode()).decode()
        for key in (order.host_key, order.host_public_key)
    )
    return f"""\
#!/bin/sh
root=; [ "$(id -u)" = 0 ] || root='sudo -n'
$root sh -eu <<'END'
umask 077
echo {private} | base64 -d > {_KEY_FILE}.new
echo {public} | base64 -d > {_KEY_FILE}.pub.new
chmod 644 {_KEY_FILE}.pub.new
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
mv {_KEY_FILE}.pub.new {_KEY_FILE}.pub
mv {_KEY_FILE}.new {_KEY_FILE}
systemctl restart ssh || systemctl restart sshd || service ssh restart || service sshd restart
END
"""
