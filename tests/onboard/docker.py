#!/usr/bin/env python3
"""A stand-in for docker's command line: "containers" are processes with a clean environment.

Strict about what it is given, so that a wrong call fails: unknown options, a volume that is not
there, a name that is taken. Notes each call in $STAND_IN/calls; images are files in $STAND_IN.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

STATE = pathlib.Path(os.path.realpath(__file__)).parent / "stand-in"
FLAGS = {"--rm", "--network=host", "--ipc=host"}
VALUED = {
    "--name",
    "--volume",
    "--workdir",
    "--env",
    "--entrypoint",
    "--gpus",
    "--user",
    "--security-opt",
    "--stop-timeout",
}


def run(argv):
    given = {}
    while argv[0].startswith("-"):
        option = argv.pop(0)
        if option in VALUED:
            given.setdefault(option, []).append(argv.pop(0))
        elif option not in FLAGS:
            sys.exit(f"unknown flag: {option}")
    image, *args = argv
    if not (STATE / "images" / image).exists():
        sys.exit(f"Unable to find image '{image}' locally")
    for volume in given["--volume"]:
        assert pathlib.Path(volume.split(":")[0]).is_dir(), volume
    names = [name for name in given.get("--env", []) if "=" not in name]
    env = {name: os.environ[name] for name in names if name in os.environ}
    env |= dict(name.split("=", 1) for name in given.get("--env", []) if "=" in name)
    env["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    inside = subprocess.Popen(
        [*given["--entrypoint"], *args], cwd=given["--workdir"][0], env=env, start_new_session=True
    )
    named = STATE / "running" / given.get("--name", [str(inside.pid)])[0]
    named.parent.mkdir(exist_ok=True)
    named.write_text(str(inside.pid))
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(inside.pid, signal.SIGTERM))
    code = inside.wait()
    named.unlink(missing_ok=True)
    sys.exit(128 - code if code < 0 else code)


def remove(name):
    path = STATE / "running" / name
    if path.exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(path.read_text()), signal.SIGKILL)
        path.unlink(missing_ok=True)


def main():
    with (STATE / "calls").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    match sys.argv[1:]:
        case ["info"]:
            pass
        case ["image", "inspect", image]:
            sys.exit(0 if (STATE / "images" / image).exists() else 1)
        case ["pull", image]:
            if image == "no/such":
                print("Error response from daemon: pull access denied for no/such")
                sys.exit(1)
            print("Pulling from", image)
            (STATE / "images" / image).parent.mkdir(parents=True, exist_ok=True)
            (STATE / "images" / image).touch()
        case ["run", *argv]:
            run(argv)
        case ["rm", "--force", name]:
            remove(name)
        case ["ps", "--quiet", "--filter", said]:
            name = said.removeprefix("name=")
            print("\n".join(one.name for one in STATE.glob(f"running/{name}*")))
        case other:
            sys.exit(f"unknown command: {other}")


main()
