"""How the guard comes back after a reboot of the instance: by cron, or by the user's systemd.

Only asked for on a rented machine that is all ours. What is set up here `leave` takes away again.
"""

import os
import pwd
import subprocess
import sys

from . import daemon, wire
from .inspect import find_tool

_LIMIT_S = 10
_CRONS = ("cron", "crond", "fcron")
_SYSTEMD = "/run/systemd/system"  # there where systemd has booted the machine
_NOTE = "reboot.json"
_REQUEST = "rearm.request"


def survive(control, request):
    """Have the guard started at each boot: "cron", "systemd", or None where neither will do it."""
    noted = daemon.read_json(os.path.join(control, _NOTE))
    if noted is not None:
        return noted["how"]
    told = {"root": request["root"], "run": request["run"]}
    with open(os.path.join(control, _REQUEST), "wb") as file:
        file.write(wire.pack_json(wire.JSON, told))
    for way in (_by_cron, _by_systemd):
        noted = way(control, request["run"])
        if noted is not None:
            break
    noted = noted or {"how": None}
    daemon.write_json(os.path.join(control, _NOTE), noted)
    return noted["how"]


def forget(control, run):
    """Take away what `survive` has set up."""
    noted = daemon.read_json(os.path.join(control, _NOTE)) or {"how": None}
    if noted["how"] == "cron":
        lines = _crontab() or []
        _ask(["crontab", "-"], _text(line for line in lines if not line.endswith(_sign(run))))
    elif noted["how"] == "systemd":
        for path in _units(run):
            if os.path.lexists(path):
                os.unlink(path)
        if noted["linger"]:
            _linger("disable-linger")


def _command(control, run):
    """The guard's start as a shell's line; the mark is how `leave` finds it."""
    words = [sys.executable, "-IS", os.path.join(control, "onboard.pyz"), "rearm"]
    line = " ".join("'%s'" % word.replace("'", "'\\''") for word in words)
    source = os.path.join(control, _REQUEST).replace("'", "'\\''")
    return "env %s%s %s < '%s' > /dev/null 2>&1" % (daemon.MARK, run, line, source)


# -- cron -----------------------------------------------------------------------------------------


def _by_cron(control, run):
    line = "@reboot %s %s" % (_command(control, run), _sign(run))
    if "%" in line or not _cron_lives():  # % ends a line of cron's
        return None
    lines = _crontab()
    if lines is None or _ask(["crontab", "-"], _text(lines + [line])) is None:
        return None
    return {"how": "cron"}


def _sign(run):
    return "# towline-%s" % run


def _text(lines):
    return "".join(line + "\n" for line in lines)


def _crontab():
    """The user's lines; None where they can't be read, so that none is lost."""
    out = _ask(["crontab", "-l"], empty="no crontab")
    return None if out is None else out.splitlines()


def _cron_lives():
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        try:
            with open("/proc/%s/comm" % name) as file:
                if name.isdigit() and file.read().strip() in _CRONS:
                    return True
        except (OSError, ValueError):
            continue
    return False


# -- systemd --------------------------------------------------------------------------------------

_UNIT = """[Unit]
Description=towline's guard of run %s
[Service]
Type=oneshot
KillMode=process
ExecStart=/bin/sh -c "%s"
[Install]
WantedBy=default.target
"""


def _by_systemd(control, run):
    """A unit of the user's own, and the user's services started at boot (linger)."""
    command = _command(control, run)
    if '"' in command or "%" in command or "\\" in command or "$" in command:
        return None  # it would have to be quoted once more
    if not os.path.isdir(_SYSTEMD):
        return None
    is_set = "yes" in (_ask(["loginctl", "show-user", _user(), "--property=Linger"]) or "")
    if not is_set and not _linger("enable-linger"):
        return None
    unit, wanted = _units(run)
    os.makedirs(os.path.dirname(wanted), exist_ok=True)
    with open(unit, "w") as file:
        file.write(_UNIT % (run, command))
    if not os.path.lexists(wanted):
        os.symlink(unit, wanted)
    return {"how": "systemd", "linger": not is_set}


def _units(run):
    folder = os.path.expanduser("~/.config/systemd/user")
    name = "towline-guard-%s.service" % run
    return os.path.join(folder, name), os.path.join(folder, "default.target.wants", name)


def _linger(verb):
    """Whether it could be set, by the user's own right or by a sudo that asks nothing."""
    argv = ["loginctl", verb, _user()]
    return any(_ask(way + argv) is not None for way in ([], ["sudo", "-n"]))


def _user():
    return pwd.getpwuid(os.getuid()).pw_name


def _ask(argv, text="", empty=None):
    """What a program prints; None when it fails, but "" when it says ``empty`` then."""
    program = find_tool(argv[0])
    if program is None:
        return None
    try:
        process = subprocess.Popen(
            [program] + argv[1:],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError:
        return None
    try:
        out, said = process.communicate(text.encode(), timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return None
    if process.returncode and empty is not None and empty.encode() in said:
        return ""
    return None if process.returncode else out.decode("utf-8", "replace")
