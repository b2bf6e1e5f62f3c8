"""The verbs by name. A verb takes (request, pipe), may exchange frames, and returns its result."""

from . import equip, follow, guard, inspect, leave, receive, send, start, unpack

VERBS = {
    "inspect": inspect.inspect,
    "guard": guard.arm,
    "receive": receive.receive,
    "unpack": unpack.unpack,
    "adopt": unpack.adopt,
    "equip": equip.equip,
    "start": start.start,
    "state": start.state,
    "halt": start.halt,
    "follow": follow.follow,
    "survey": send.survey,
    "digest": send.digest,
    "send": send.send,
    "leave": leave.leave,
}

#: verbs that change the instance: an old driver's are refused
MUTATING = frozenset(
    ["guard", "receive", "unpack", "adopt", "equip", "start", "halt", "leave"],
)
