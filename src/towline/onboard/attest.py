"""Prove which machine this is, and close the door that a provider insisted on."""

import hashlib
import hmac
import os
import subprocess

from .inspect import find_tool

_CONFIG = "/etc/ssh/sshd_config.d/00-towline.conf"
#: Debian and Ubuntu call the service ssh, others sshd; sshd reads the first value it finds
_SCRIPT = (
    "printf 'PasswordAuthentication no\\nKbdInteractiveAuthentication no\\n' > %s"
    " && { systemctl reload ssh || systemctl reload sshd || service ssh reload; }" % _CONFIG
)


def attest(request, _pipe):
    """Answer with the secret in the comment of our own public key, over what the caller sees.

    Returns {"mac": None} when the key stands here without a comment.
    """
    path = os.path.expanduser("~/.ssh/authorized_keys")
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except OSError:
        return {"mac": None}
    for line in lines:
        before, found, comment = line.partition(request["key"])
        if before and found and comment.strip():
            said = "%s %s" % (request["nonce"], request["host_key"])
            mac = hmac.new(comment.strip().encode(), said.encode(), hashlib.sha256)
            return {"mac": mac.hexdigest()}
    return {"mac": None}


def end_passwords(_request, _pipe):
    """Switch password login off, as root or by sudo; returns {"error"}, None when it is done."""
    argv = ["sh", "-c", _SCRIPT]
    if find_tool("sudo"):
        argv = ["sudo", "-n"] + argv
    try:
        subprocess.check_output(argv, stderr=subprocess.STDOUT, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        text = getattr(error, "output", b"") or b""
        return {"error": (text.decode(errors="replace").strip() or str(error))[:300]}
    return {"error": None}
