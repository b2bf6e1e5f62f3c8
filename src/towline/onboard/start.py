"""Start the training exactly once, under a supervisor that nothing on the laptop can end.

Files in the control folder, in the order they appear:
  start.json       the start marker: run, epoch, hash of the nonce; made exclusively
  job.json         pid and birth of the training, written by the training's own process before it
                   turns into the user's command: without it the command never began
  supervisor.lock  held while the supervisor lives
  container.json   only of a training in a container: which tool has made it
  exit.json        exit code and the nonce itself, which no job knows: written by rename
"""

import hashlib
import os
import shutil
import signal
import subprocess
import time

from . import container, daemon
from .fence import control_folder
from .inspect import find_tool

_WINDOW = ("220", "50")  # columns, rows: wide enough that no trainer wraps its metrics
_OWN_ENV = {"PYTHONUNBUFFERED": "1", "COLUMNS": _WINDOW[0], "LINES": _WINDOW[1]}
_ACKNOWLEDGE_S = 15.0


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
    found["window"] = _open_window(request) if found["phase"] != "none" else None
    return found


def state(request, _pipe):
    """Say how the training stands.

    "phase" is none, running, ended or interrupted; "exit" the exit marker or None.
    """
    control = control_folder(request)
    running = daemon.is_locked(os.path.join(control, "supervisor.lock"))
    # read the marker after the lock: a supervisor writes it before it lets go
    begun = daemon.read_json(os.path.join(control, "start.json"))
    exited = _exit_marker(control, begun)
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
        "guard": daemon.read_json(os.path.join(control, "ended-by-guard.json")),
    }


def _exit_marker(control, begun):
    """The exit marker if it carries the nonce that the start marker has the hash of, else None."""
    try:
        marker = daemon.read_json(os.path.join(control, "exit.json"))
        said = hashlib.sha256(marker["nonce"].encode()).hexdigest()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # there is none, or something else has been written in its place
    return marker if begun is not None and said == begun["nonce_sha256"] else None


def halt(request, _pipe):
    """End the training: SIGTERM to its group, SIGKILL after ``grace_s``; returns `state`."""
    control = control_folder(request)
    job = daemon.read_json(os.path.join(control, "job.json"))
    deadline = time.monotonic() + request["grace_s"]
    asked = False
    while job is not None and state(request, None)["phase"] == "running":
        late = time.monotonic() >= deadline
        if late or not asked:
            daemon.signal_group(job["pid"], signal.SIGKILL if late else signal.SIGTERM)
            asked = True
        time.sleep(0.05)
    return state(request, None)


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
    marker = {
        "run": request["run"],
        "epoch": request["epoch"],
        "nonce_sha256": hashlib.sha256(request["nonce"].encode()).hexdigest(),
        "at": time.time(),
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
    code = 70  # sysexits' "internal software error", if we can't even fork
    try:
        os.set_inheritable(lock_fd, False)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        pid = os.fork()
        if pid == 0:
            _become_job(control, request, log, program)  # never returns
        status = os.waitpid(pid, 0)[1]
        if program is not None:
            container.remove(request["root"], request["run"])  # it outlives a killed client
        daemon.signal_group(pid, signal.SIGTERM)  # what the command left in the background
        signum = status & 0x7F
        code = 128 + signum if signum else status >> 8
        marker = {"run": request["run"], "nonce": request["nonce"], "code": code, "signal": signum}
        marker.update(at=time.time(), log_size=os.fstat(log).st_size)
        daemon.write_json(os.path.join(control, "exit.json"), marker)
    finally:
        os._exit(0)


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
        born = daemon.born(os.getpid())
        daemon.write_json(os.path.join(control, "job.json"), {"pid": os.getpid(), "born": born})
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


def _open_window(request):
    """Open a tmux session that shows the log; returns its name, None without tmux.

    The session is a window on the training, not its parent: it may be killed at will.
    """
    tmux = find_tool("tmux")
    if tmux is None:
        return None
    if _tmux(tmux, "has-session", "-t", "=" + request["session"]) == 0:
        return request["session"]
    env = {k: v for k, v in os.environ.items() if k != daemon.MARK[:-1]}
    show = "exec tail -n +1 -F '%s'" % request["log"].replace("'", "'\\''")
    argv = [tmux, "new-session", "-d", "-s", request["session"], "-x", _WINDOW[0], "-y", _WINDOW[1]]
    try:
        subprocess.check_output(
            argv + [show], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=env, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None  # the training does not depend on it; the caller says that there is no window
    return request["session"]


def close_window(session):
    """End the tmux session of a run, if there is one."""
    tmux = find_tool("tmux")
    if tmux is not None:
        _tmux(tmux, "kill-session", "-t", "=" + session)


def _tmux(tmux, *argv):
    """Ask tmux something; its exit status, None when it does not answer."""
    try:
        return subprocess.call(
            [tmux] + list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no training depends on its window
