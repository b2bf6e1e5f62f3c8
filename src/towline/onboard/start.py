"""Start the training exactly once, under a supervisor that nothing on the laptop can end.

Files in the control folder, in the order they appear:
  start.json       the start marker: run, epoch, hash of the nonce; made exclusively
  job.json         pid and birth of the training, written by the training's own process before it
                   turns into the user's command: without it the command never began
  supervisor.lock  held while the supervisor lives
  container.json   only of a training in a container: which tool has made it
  detached.json    the command's exit code while processes that left its group go on
  halted.json      the training was asked to end, and when, by the instance's age
  exit.json        exit code and the nonce itself, which no job knows: written by rename, and
                   where the disk is full by `markers`' other ways
"""

import hashlib
import os
import shutil
import signal
import time

from . import age, children, container, daemon, markers, window, wire
from .fence import control_folder

_OWN_ENV = {"PYTHONUNBUFFERED": "1", "COLUMNS": window.COLUMNS, "LINES": window.ROWS}
_ACKNOWLEDGE_S = 15.0
KILL_S = 5.0  # from SIGKILL on: what lives then is held by the kernel, or is another user's
_PULSE_S = 2.0
_IDLE_S = 600.0


def start(request, _pipe):
    """Start the command unless it was started before; returns `state` either way.

    Request: command, env, secrets, path_first (folders), links ([link, target]), cwd,
    output, log, nonce, session, image (or None), gpu,
    scripts ({path: text}).
    """
    control = control_folder(request)
    deadline = time.monotonic() + _ACKNOWLEDGE_S
    started = False
    while time.monotonic() < deadline and not _acknowledged(control):
        # another request may have the lock, and may die before it has started anything
        fd = daemon.try_lock(os.path.join(control, "supervisor.lock"))
        if fd is not None:
            if started:
                break  # our supervisor died before it had started anything
            if not _acknowledged(control):
                started = True
                _launch(control, request, fd)
            os.close(fd)
        time.sleep(0.005)
    found = state(request, None)
    found["window"] = window.open_for(request) if found["phase"] != "none" else None
    return found


def state(request, _pipe):
    """Say how the training stands.

    "phase" is none, running, ended or interrupted; "exit" the exit marker or None; "detached"
    {"code", "processes"} while the command has ended and processes of it go on, else None;
    "clock_back_s" how far this machine's clock was set back since the start.
    """
    control = control_folder(request)
    running = daemon.is_locked(os.path.join(control, "supervisor.lock"))
    # read the marker after the lock: a supervisor writes it before it lets go
    begun = daemon.read_json(os.path.join(control, "start.json"))
    exited = _exit_marker(control, begun, request["run"])
    job = daemon.read_json(os.path.join(control, "job.json"))
    if exited is not None:
        phase = "ended"
    elif job is None:
        phase = "running" if running else "none"
    else:
        alive = daemon.born(job["pid"]) == job["born"]
        phase = "running" if running or alive else "interrupted"
    return {
        "phase": phase,
        "start": begun,
        "exit": exited,
        "detached": _detached(control) if phase == "running" else None,
        "guard": markers.newest(os.path.join(control, "ended-by-guard.json"), request["run"]),
        "clock_back_s": _clock_back_s(begun or {}),
    }


def _clock_back_s(begun):
    """A fresh machine sets its clock when it gets to it: files made since may look older."""
    if begun.get("boot_id") != age.boot_id():
        return 0.0  # another boot, or an older towline's marker: nothing is known
    passed_s = age.boottime() - begun["boottime"]
    return max(0.0, passed_s - (time.time() - begun["wall"]))


def _exit_marker(control, begun, run):
    """The exit marker if it carries the nonce that the start marker has the hash of, else None."""
    for marker in markers.found(os.path.join(control, "exit.json"), run) if begun else ():
        said = hashlib.sha256(str(marker.get("nonce")).encode()).hexdigest()
        if said == begun["nonce_sha256"]:
            return marker
    return None


def _detached(control):
    try:
        found = daemon.read_json(os.path.join(control, "detached.json"))
        return {"code": int(found["code"]), "processes": int(found["processes"])}
    except (ValueError, KeyError, TypeError):
        return None  # there is none, or it is half written: it is only told


def halt(request, pipe):
    """End the training: SIGTERM, SIGKILL after ``grace_s``; returns `state`.

    Its phase is still "running" where a process survives SIGKILL for five seconds: no wait would
    end it. Its group is signalled, and what has left that.
    """
    control = control_folder(request)
    job = daemon.read_json(os.path.join(control, "job.json"))
    found = state(request, None)
    if job is None or found["phase"] != "running":
        return found
    _mark_halted(control, request)
    children.end(job, signal.SIGTERM)
    kill_at = time.monotonic() + request["grace_s"]
    said = time.monotonic()
    while found["phase"] == "running" and time.monotonic() < kill_at + KILL_S:
        if time.monotonic() >= kill_at:
            children.end(job, signal.SIGKILL)
        if pipe is not None and time.monotonic() - said >= _PULSE_S:
            said = time.monotonic()
            pipe.send_json(wire.JSON, {"halting": True})  # the line counts silence as broken
        time.sleep(0.05)
        found = state(request, None)
    return found


def _mark_halted(control, request):
    """Say that the training was asked to end: from then on it is no reason to wait for it.

    Where it can't be written, only the guard's wait is longer.
    """
    known = age.read(control, request["run"])
    try:
        value = {"age_s": known.seconds() if known else None}
        daemon.write_json(os.path.join(control, "halted.json"), value)
    except OSError:
        return


def _launch(control, request, fd):
    """Start the supervisor, which takes the lock over."""
    program = None
    if request["image"]:
        program = container.tool()
    _mark_start(control, request)
    _prepare_folders(request)
    if daemon.daemonize(fd):
        _supervise(control, request, fd, program)  # never returns


def _mark_start(control, request):
    markers.reserve(os.path.join(control, "exit.json"))  # the training may fill the disk
    marker = {
        "run": request["run"],
        "epoch": request["epoch"],
        "nonce_sha256": hashlib.sha256(request["nonce"].encode()).hexdigest(),
        # a file server's clock may be behind this machine's: what the training writes is not older
        "at": min(time.time(), os.stat(os.path.join(control, "exit.json.reserve")).st_mtime),
        "wall": time.time(),
        "boottime": age.boottime(),
        "boot_id": age.boot_id(),
    }
    daemon.write_json(os.path.join(control, "start.json"), marker)  # under the supervisor's lock


def _prepare_folders(request):
    for folder in (request["cwd"], request["output"]):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    for path, text in request.get("scripts", {}).items():  # a recipe's, by the side of the code
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "wb") as file:
            file.write(text.encode("utf-8"))
    for link, target in request["links"]:  # a dataset that lies inside the code at home
        if not os.path.lexists(link):
            os.makedirs(os.path.dirname(link), mode=0o700, exist_ok=True)
            os.symlink(target, link)
    if shutil.which("python") is None:  # many systems have python3 only
        os.makedirs(request["path_first"][-1], mode=0o700, exist_ok=True)
        link = os.path.join(request["path_first"][-1], "python")
        if not os.path.lexists(link):
            os.symlink(shutil.which("python3") or os.path.realpath("/proc/self/exe"), link)


def _acknowledged(control):
    names = ("job.json", "exit.json")
    return any(os.path.exists(os.path.join(control, name)) for name in names)


def _supervise(control, request, lock_fd, program):
    """Run the command as a child and write its exit marker; the daemon's whole life."""
    code, signum = 70, 0  # sysexits' "internal software error", if we can't even fork
    try:
        os.set_inheritable(lock_fd, False)
        oom_score = daemon.set_oom_score(-1000)
        children.adopt_orphans()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        pid = os.fork()
        if pid == 0:
            if oom_score is not None:
                daemon.set_oom_score(oom_score)
            _become_job(control, request, log, program)  # never returns
        status = os.waitpid(pid, 0)[1]
        signum = status & 0x7F
        code = 128 + signum if signum else status >> 8
        _tidy(control, request, pid, program, code)
        marker = {"run": request["run"], "nonce": request["nonce"], "code": code, "signal": signum}
        marker.update(at=time.time(), log_size=os.fstat(log).st_size)
        markers.save(os.path.join(control, "exit.json"), request["run"], marker)
    finally:
        os._exit(0)


def _tidy(control, request, pid, program, code):
    """End what the command left in its group, wait for what has left that; fail at nothing."""

    def say(count):
        value = {"code": code, "processes": count}
        try:
            daemon.write_json(os.path.join(control, "detached.json"), value)
        except OSError:
            return  # it is only told

    try:
        children.end_rest_of(pid)
        if program is not None:  # it outlives a killed client, and would be waited for
            container.remove(request["root"], request["run"])
        children.wait_for_detached(pid, request.get("idle_s", _IDLE_S), say)
    except Exception:  # noqa: BLE001 - whatever it is, the exit code is worth more
        return


def _become_job(control, request, log, program):
    """Turn into the user's command: own session, the log as output, secrets in its environment."""
    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(request["cwd"])
        os.umask(0o022)
        job = {"pid": os.getpid(), "born": daemon.born(os.getpid())}
        job["supervisor"] = {"pid": os.getppid(), "born": daemon.born(os.getppid())}
        daemon.write_json(os.path.join(control, "job.json"), job)
        argv = _argv(request, program)
        os.execve(argv[0], argv, _environment(request))
    except OSError as error:
        os.write(2, ("towline: the command could not be started: %s\n" % error).encode())
    finally:
        os._exit(127)


def _argv(request, program):
    """The command in a shell: on the machine itself, or in a container."""
    if program is None:
        shell = shutil.which("bash") or "/bin/sh"
        return [shell, "-c", request["command"]]
    names = list(_OWN_ENV) + sorted(request["env"]) + sorted(request["secrets"])
    return container.command(program, request, names)


def _environment(request):
    env = dict(os.environ)
    env.update(_OWN_ENV)
    env.update(request["env"])
    env.update(request["secrets"])
    env["PATH"] = os.pathsep.join(request["path_first"] + [env.get("PATH", os.defpath)])
    return env
