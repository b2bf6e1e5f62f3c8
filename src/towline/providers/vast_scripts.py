"""What runs inside Vast.ai's containers: how the run's key gets in, and how one ends itself."""

from __future__ import annotations

import shlex

#: a later start of the container finds the line there
_ONSTART = """\
umask 077; mkdir -p ~/.ssh; keys=~/.ssh/authorized_keys; line={line}
grep -qxF "$line" "$keys" 2>/dev/null || printf '\\n%s\\n' "$line" >> "$keys"
"""
#: $0 is the API; sessions over SSH lack the container's own environment
_END_SELF = """\
of_container() { tr '\\0' '\\n' < /proc/1/environ | sed -n "s/^$1=//p"; }
id=${CONTAINER_ID:-$(of_container CONTAINER_ID)}
key=${CONTAINER_API_KEY:-$(of_container CONTAINER_API_KEY)}
until
  python3 -c 'import sys, urllib.request as web
header = {"Authorization": "Bearer " + sys.argv[2]}
web.urlopen(web.Request(sys.argv[1], method="DELETE", headers=header), timeout=30)
' "$0/api/v0/instances/$id/" "$key" ||
  curl -fsS -m 30 -X DELETE -H "Authorization: Bearer $key" "$0/api/v0/instances/$id/"
do sleep 10; done
"""


def onstart(public_key: str) -> str:
    """The start script that lets a key in: its line with the comment, once."""
    return _ONSTART.format(line=shlex.quote(public_key.strip()))


def end_self_argv(base_url: str) -> tuple[str, ...]:
    """The command by which a container destroys its instance, with the key that Vast gave it."""
    return ("sh", "-c", _END_SELF, base_url)
