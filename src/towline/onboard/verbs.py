"""The verbs by name. A verb takes (request, pipe), may exchange frames, and returns its result."""

import importlib

#: verb -> module and function; a module is loaded when it is asked for, for a run asks often
VERBS = {
    "inspect": ("inspect", "inspect"),
    "attest": ("attest", "attest"),
    "end_passwords": ("attest", "end_passwords"),
    "guard": ("guard", "arm"),
    "rearm": ("guard", "rearm"),
    "receive": ("receive", "receive"),
    "take": ("receive", "take"),
    "unpack": ("unpack", "unpack"),
    "adopt": ("unpack", "adopt"),
    "equip": ("equip", "equip"),
    "preflight": ("preflight", "preflight"),
    "start": ("start", "start"),
    "state": ("start", "state"),
    "halt": ("start", "halt"),
    "follow": ("follow", "follow"),
    "survey": ("survey", "survey"),
    "look": ("survey", "look"),
    "examine": ("examine", "examine"),
    "digest": ("send", "digest"),
    "send": ("send", "send"),
    "read": ("send", "read"),
    "leave": ("leave", "leave"),
}

#: verbs that change the instance: an old driver's are refused
MUTATING = frozenset(
    [
        "end_passwords",
        "guard",
        "receive",
        "take",
        "unpack",
        "adopt",
        "equip",
        "start",
        "halt",
        "leave",
    ],
)


def find(name):
    """The function of a verb."""
    module, function = VERBS[name]
    return getattr(importlib.import_module("." + module, __package__), function)
