"""How old the instance is: seconds since it was rented, on a clock that nobody sets.

Limits are counted by it, on the instance itself, so that no wall clock, no sleep of the laptop and no
change of the driver moves them. `age.json` carries it over a reboot.
"""

import os
import sys
import time

from . import daemon, markers

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_LINUX_BOOTTIME = 7  # time.CLOCK_BOOTTIME, which Python 3.6 has no name for


def boottime():
    """Seconds that no one sets, and that pass in a suspended machine too; 0 is when it booted."""
    if sys.platform.startswith("linux"):
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", _LINUX_BOOTTIME))
    return time.clock_gettime(time.CLOCK_MONOTONIC)  # BSD's and macOS's passes in sleep as well


class Age:
    """The instance's age, known once and counted on from there."""

    def __init__(self, known_s):
        self._known_s = known_s
        self._since = boottime()

    def seconds(self):
        """The age now."""
        return self._known_s + boottime() - self._since


def begin(control, request):
    """The age at the first arming, by what the driver knows of it; later the instance's own word.

    Of the driver: "known_s", measured by the process that rented the instance; else None, and
    then "wall_s", by a clock that somebody may have set, counts as far as the machine itself
    bears it out: it has been up for so long ("own_boot": its first process is its own), and took
    "boot_s" at most to come up.
    """
    age = read(control, request["run"])
    if age is None:
        told = request["age"]
        up_s = _up_s() if told["own_boot"] else 0.0
        witnessed_s = max(0.0, min(told["wall_s"], up_s + told["boot_s"]))
        age = Age(max(told["known_s"] or 0.0, witnessed_s))
        note(control, request["run"], age)
    return age


def read(control, run):
    """The age by its file, None without one. After a reboot, the longer of what two clocks say."""
    noted = markers.newest(os.path.join(control, "age.json"), run)
    if noted is None:
        return None
    passed = boottime() - noted["boottime"]
    if noted["boot_id"] != boot_id():
        passed = max(boottime(), time.time() - noted["wall"])
    return Age(noted["age_s"] + max(0.0, passed))


def note(control, run, age):
    """Write the age down, for the next boot.

    Raises:
        OSError: Nothing takes it.
    """
    value = {"age_s": age.seconds(), "boottime": boottime(), "wall": time.time()}
    markers.save(os.path.join(control, "age.json"), run, dict(value, boot_id=boot_id()))


def boot_id():
    """Which boot of the machine this is."""
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip()
    except OSError:
        return ""


def _up_s():
    """Seconds since this machine's, or this container's, first process began; 0 where not known."""
    ticks = daemon.born(1)
    return max(0.0, boottime() - ticks / os.sysconf("SC_CLK_TCK")) if ticks else 0.0
