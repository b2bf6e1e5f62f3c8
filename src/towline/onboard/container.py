"""Run things in a container: the image is the machine that they see, the run's folders stay ours.

A killed `docker run` leaves its container behind, so that whoever ends the run's processes removes
its containers too. `container.json` in the control folder, written before the first one is made,
says that there may be some.
"""

import os
import subprocess

from . import daemon
from .inspect import find_tool
from .wire import Refusal

TOOLS = ("docker", "podman")
TRIAL = "-trial"  # what prepares the training
_QUICK_S = 60

# The container's first process. Linux ignores signals that PID 1 does not catch, and an init of the
# tool's own is not always installed (podman's is another package) and passes them to one process only.
# $1 is the command: like outside of a container, all its processes get the signal and may finish (-1
# is all there are, which is right inside a container only), and the exit status is its own.
_FIRST = """
PATH="${VIRTUAL_ENV:+$VIRTUAL_ENV/bin:}$PATH"; export PATH
alone() { test $$ = 1; }
trap 'asked=1; if alone; then kill -TERM -1; else kill -TERM $job; fi' TERM
shell=$(command -v bash) || shell=/bin/sh
"$shell" -c "$1" &
job=$!
wait $job; code=$?
while kill -0 $job 2>/dev/null; do wait $job; code=$?; done
while test $asked && alone && kill -0 -1 2>/dev/null; do sleep 0.1 || break; done
exit $code
"""


def tool():
    """Path of docker or podman, the first that answers.

    Raises:
        Refusal: "equip", when there is none, or none that works for this user.
    """
    said = []
    for name in TOOLS:
        program = find_tool(name)
        if program is None:
            continue
        failure = _ask(program, "info")
        if failure is None:
            return program
        said.append("%s does not work here: %s" % (name, failure))
    reason = "; ".join(said) or "the instance has neither docker nor podman"
    hint = "take an image of the provider's that has docker, or leave `image` out of the task"
    raise Refusal("equip", reason, hint=hint)


def pull(program, image, run):
    """Fetch an image unless it is there; ``run`` runs the command and shows its output."""
    if _ask(program, "image", "inspect", image) is not None:
        run([program, "pull", image])


def command(program, request, names):
    """The command line that runs the request's command in its container.

    ``names`` are variables that pass; their values come from the caller's own environment, so that
    none stands in a command line.
    """
    argv = ["/bin/sh", "-c", _FIRST, "towline", request["command"]]
    return inside(program, request, argv, names, "")


def inside(program, request, argv, env=(), name=TRIAL):
    """The command line that runs ``argv`` in a container of the request's image.

    Args:
        program: docker or podman.
        request: With "root", "run", "image", "cwd", "gpu".
        argv: What runs inside.
        env: Names of variables that pass, as in `command`.
        name: What the container is called, after the run; the training's own is "".
    """
    _note(program, request)
    line = [program, "run", "--rm", "--name", _name(request["run"], name)]
    line += ["--network=host", "--ipc=host"]
    line += ["--stop-timeout", "1"]  # podman's `rm --force` asks first, and waits so long
    line += ["--security-opt", "label=disable"]  # SELinux would deny it the run's folder
    line += _user(program, request, env) + _gpus(program, request)
    for folder in (request["root"], os.path.expanduser("~/towline/.cache")):
        if os.path.isdir(folder):
            line += ["--volume", "%s:%s" % (folder, folder)]
    line += ["--workdir", request["cwd"]]
    for key in env:
        line += ["--env", key]
    return line + ["--entrypoint", argv[0], request["image"]] + argv[1:]


def remove(root, run):
    """End and remove what containers a run has; safe to repeat.

    ``root`` is the run's folder.
    """
    noted = daemon.read_json(os.path.join(root, ".towline", "container.json"))
    if noted is not None and os.path.basename(noted["tool"]) in TOOLS:
        for what in ("", TRIAL):  # podman does nothing at all when one of several is not there
            _ask(noted["tool"], "rm", "--force", _name(run, what))


def _name(run, what):
    return "towline-" + run + what


def _note(program, request):
    path = os.path.join(request["root"], ".towline", "container.json")
    if not os.path.exists(path):
        daemon.write_json(path, {"tool": program})


def _user(program, request, env):
    """Files that the training writes must be the instance's user's, who has to read them."""
    if os.getuid() == 0:
        return []
    user = ["--userns=keep-id"]
    if os.path.basename(program) == "docker":
        user = ["--user", "%d:%d" % (os.getuid(), os.getgid())]
    if "HOME" not in env:  # the image does not know this user: its home would be /
        user += ["--env", "HOME=" + os.path.join(request["root"], ".towline")]
    return user


def _gpus(program, request):
    if not request["gpu"]:
        return []
    if os.path.basename(program) == "podman":
        return ["--device", "nvidia.com/gpu=all"]
    return ["--gpus", "all"]


def refusal(program, request, said):
    """What to tell when the tool could not run anything inside."""
    name = os.path.basename(program)
    hint = "try it there: `towline ssh`, then `%s run --rm %s true`" % (name, request["image"])
    if request["gpu"] and ("nvidia" in said or "capabilities: [[gpu]]" in said):
        hint = (
            "%s can't hand the GPU over: install nvidia-container-toolkit there (for podman also"
            " `nvidia-ctk cdi generate`), or choose a provider's image that has it" % name
        )
    return Refusal("equip", "%s can't run %s: %s" % (name, request["image"], said), hint=hint)


def _ask(program, *argv):
    """None when the command succeeds, else what it says."""
    try:
        subprocess.check_output(
            [program] + list(argv),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            timeout=_QUICK_S,
        )
    except subprocess.CalledProcessError as error:
        said = error.output.decode("utf-8", "replace").strip().splitlines()
        return (said or ["status %d" % error.returncode])[-1][:300]
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None
