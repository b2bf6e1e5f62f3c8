"""Runs towline's command line in forked children of one warm process, some of which die on cue.

One JSON request a line on stdin: {"argv", "cwd", "env", "out", "die_after_commit", "kill_after_s",
"pid_file", "money_only"}. With "pid_file" the child says there who it is, so that others can kill
it; with "money_only" the steps between renting and terminating do nothing. Modules of "warm" are
imported before the fork, once for all children.
"times" children run at once. One JSON reply a line on stdout: {"status", "statuses"}; a negative
status is a signal.
Forking a process that has imported everything saves a second a run.
"""

import importlib
import json
import os
import signal
import sys
import threading
import time

import asyncssh  # noqa: F401 - warm
import psutil  # noqa: F401
import pydantic
import yaml  # noqa: F401

import towline.api  # noqa: F401
import towline.taskfile
from towline.cli import main as cli
from towline.store.database import Database

towline.taskfile.json_schema()  # builds pydantic's validators once
_ = pydantic.VERSION


def die_after(commits):
    """SIGKILL this process right after its n-th commit."""
    real = Database.commit
    seen = 0

    def commit(self):
        nonlocal seen
        real(self)
        seen += 1
        if seen == commits:
            os.kill(os.getpid(), signal.SIGKILL)

    Database.commit = commit


def skip_the_work():
    """Leave only what costs money: acquire and release. The others ask once whether it lives."""
    from towline import plan
    from towline.core.run import StepName

    async def look(ctx):
        await ctx.require_alive()
        return {"gpus": [], "model": {}}

    for name in StepName:
        if name not in {StepName.ACQUIRE, StepName.RELEASE}:
            plan.STEPS[name] = plan.Step(name, plan.STEPS[name].shown, look, None)


def child(request):
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if request.get("pid_file"):
        with open(request["pid_file"], "w") as file:
            file.write(str(os.getpid()))
    if request.get("money_only"):
        skip_the_work()
    if request.get("die_after_commit"):
        die_after(request["die_after_commit"])
    sys.argv = ["towline", *request["argv"]]
    try:
        cli.main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def kill_later(pid, seconds):
    def run():
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)

    timer = threading.Thread(target=run, daemon=True)
    timer.start()
    return timer


def fork(request):
    for module in request.get("warm", []):
        importlib.import_module(module)
    pid = os.fork()
    if pid == 0:
        child(request)
    return pid


def main():
    for line in sys.stdin:
        request = json.loads(line)
        pids = [fork(request) for _ in range(request.get("times", 1))]
        delay = request.get("kill_after_s")
        if delay is not None:
            statuses = [reap(pids[0], kill_later(pids[0], delay))]
        else:
            statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps({"status": statuses[0], "statuses": statuses}), flush=True)


def reap(pid, timer):
    """Wait for the kill to have been sent before the pid is freed: it could be another's by then."""
    timer.join()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


main()
