"""Markers that must get written although the disk is full, and are looked for where they may be.

A marker is a small JSON file of the control folder. Room for it is set aside in time, as
`<marker>.reserve`; a full disk takes no new file, but it lets an old one be written over. Where
the disk takes nothing at all, the marker goes to a folder that lies on another one.
"""

import errno
import json
import os
import stat

from . import daemon

_ROOM = 4096
_ELSEWHERE = ("/dev/shm", "/run/user/%d" % os.getuid(), "/tmp")  # noqa: S108 - read with suspicion


def reserve(path):
    """Set room for a marker aside; done again it costs nothing.

    Raises:
        OSError: There is none.
    """
    seen = _ours(path + ".reserve")
    if seen is not None and os.path.getsize(path + ".reserve") == _ROOM:
        return
    fd = os.open(path + ".reserve", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        _fill(fd, os.urandom(_ROOM))  # what compresses would get no room of its own
    finally:
        os.close(fd)


def save(path, run, value):
    """Write a marker whole, in the first place that takes it; older ones behind it go.

    Raises:
        OSError: None does; the reason of the last.
    """
    places = [path] + _others(path, run)
    ways = [lambda: daemon.write_json(path, value), lambda: _over_reserve(path, value)]
    ways += [lambda to=place: _write_anew(to, value) for place in places[1:]]
    for number, way in enumerate(ways):
        try:
            way()
        except OSError as error:
            failure = error
            if not os.path.isdir(os.path.dirname(path)):
                break  # the run was left, and nobody will look
            continue
        for place in places[max(1, number) :]:  # older ones
            _remove(place)
        return
    raise failure


def found(path, run):
    """Yield what was written as this marker, wherever it is, the newest first; no garbage."""
    places = [place for place in (_ours(one) for one in [path] + _others(path, run)) if place]
    for _written, place in sorted(places, reverse=True):
        try:
            value = daemon.read_json(place)
        except (ValueError, OSError):
            continue  # half of one, or something else in its place
        if isinstance(value, dict):
            yield value


def newest(path, run):
    """What was written last as this marker, None without any."""
    return next(found(path, run), None)


def forget(run):
    """Remove what lies elsewhere of a run's markers."""
    for folder in _ELSEWHERE:
        try:
            names = [name for name in os.listdir(folder) if name.startswith(_prefix(run))]
        except OSError:
            continue  # there is no such folder
        for name in names:
            _remove(os.path.join(folder, name))


def _remove(path):
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EPERM, errno.EACCES):
            raise


def _over_reserve(path, value):
    """Write over the room that was set aside, and let it take the marker's place."""
    fd = os.open(path + ".reserve", os.O_WRONLY)
    try:
        _fill(fd, json.dumps(value).encode().ljust(_ROOM))
    finally:
        os.close(fd)
    os.rename(path + ".reserve", path)
    try:
        reserve(path)  # there is room again: the old marker's
    except OSError:
        return  # or there was no old one; this one is written


def _write_anew(path, value):
    """Write where others can write too: into no file and no link of theirs."""
    _remove(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _fill(fd, json.dumps(value).encode())
    finally:
        os.close(fd)


def _fill(fd, data):
    if os.write(fd, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(fd)


def _others(path, run):
    """The marker's places on other disks."""
    name = _prefix(run) + os.path.basename(path)
    return [os.path.join(folder, name) for folder in _ELSEWHERE]


def _prefix(run):
    return "towline-%d-%s-" % (os.getuid(), run)


def _ours(path):
    """(time, path) of a file that we have written; None for any other."""
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    is_ours = stat.S_ISREG(seen.st_mode) and seen.st_uid == os.getuid()
    return (seen.st_mtime, path) if is_ours else None
