"""Run things in a container: the image is the machine that they see, the run's folders stay ours.

The container is the training's, not the supervisor's: whoever ends the training removes it too,
because a killed `docker run` leaves its container behind.
"""

import os
import re
import subprocess

from .inspect import find_tool
from .wire import Refusal

TOOLS = ("docker", "podman")
_QUICK_S = 60


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


def inside(program, request, argv, name=None, env=()):
    """The command line that runs ``argv`` in a container of the request's image.

    Args:
        program: docker or podman.
        request: With "image", "cwd", "gpu".
        argv: What runs inside.
        name: The container's name, for `remove`.
        env: Names of variables that pass; their values come from the caller's own environment,
            so that none stands in a command line.
    """
    shared = os.path.join(os.path.expanduser("~"), "towline")
    command = [program, "run", "--rm", "--init", "--network=host", "--ipc=host"]
    command += ["--name", name] if name else []
    command += _user(program) + _gpus(program, request)
    command += ["--volume", "%s:%s" % (shared, shared), "--workdir", request["cwd"]]
    for key in env:
        command += ["--env", key]
    return command + ["--entrypoint", argv[0], request["image"]] + argv[1:]


def name_of(run):
    """The name of a run's container."""
    return "towline-" + re.sub(r"[^a-zA-Z0-9_.-]", "-", run)


def remove(run):
    """End a run's container if there is one; safe to repeat."""
    for name in TOOLS:
        program = find_tool(name)
        if program is not None:
            _ask(program, "rm", "--force", name_of(run))


def _user(program):
    """Files that the training writes must be the instance's user's, who has to read them."""
    if os.getuid() == 0:
        return []
    if os.path.basename(program) == "podman":
        return ["--userns=keep-id"]
    return ["--user", "%d:%d" % (os.getuid(), os.getgid())]


def _gpus(program, request):
    if not request["gpu"]:
        return []
    if os.path.basename(program) == "podman":
        return ["--device", "nvidia.com/gpu=all"]
    return ["--gpus", "all"]


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
