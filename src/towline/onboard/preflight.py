"""Look before the long work begins: which frameworks the training will find, and do they reach the GPU."""

import json
import os
import subprocess
import sys

from . import container, wire
from .inspect import find_tool

_LIST_S = 60
_TRY_S = 180  # the first use of a GPU builds caches
_ALIVE_EVERY_S = 5.0
_TOOL_FAILED = (125, 126)  # exit statuses of docker and podman when nothing could run inside

# How a script finds what is installed, without importing it (which takes seconds) and in any Python 3.
VERSION_OF = """
import glob, json, os, re, sys
def version(name):
    for folder in sys.path:
        for found in glob.glob(os.path.join(glob.escape(folder), name + "-*.*-info")):
            return re.split("-|[.][a-z]+-info", os.path.basename(found))[1]
"""

# Runs in the training's own Python.
_LIST = (
    VERSION_OF
    + """
found = {}
def torch_cuda():
    from importlib import util
    place = os.path.join(os.path.dirname(util.find_spec("torch").origin), "version.py")
    with open(place) as file:
        said = re.search(r"^cuda[^=\\n]*= *(?:'([^']*)'|None)", file.read(), re.M)
    return said and said.group(1)
torch = version("torch")
if torch:
    try:
        cuda = torch_cuda()
    except Exception:
        cuda = None
    found["torch"] = {"version": torch, "cuda": cuda}
jax = version("jax")
if jax:
    plugin = [n for n in ("13", "12", "11") if version("jax_cuda%s_plugin" % n)]
    found["jax"] = {"version": jax, "cuda": plugin[0] if plugin else None}
flow = version("tensorflow")
if flow:
    found["tensorflow"] = {"version": flow, "cuda": "?"}  # only its import would tell
print("\\n" + json.dumps(found))
"""
)

# Uses the GPU once. The last line is the verdict.
_TRIES = {
    "torch": """
import json, torch
torch.cuda.init()
x = torch.ones(64, 64, device="cuda")
assert float((x @ x).sum()) == 64.0 ** 3, "the GPU computes wrong numbers"
print("\\n" + json.dumps({"device": torch.cuda.get_device_name(0)}))
""",
    "jax": """
import json, jax, jax.numpy as jnp
x = jax.device_put(jnp.ones((64, 64)), jax.devices("gpu")[0])
assert float((x @ x).sum()) == 64.0 ** 3, "the GPU computes wrong numbers"
print("\\n" + json.dumps({"device": jax.devices("gpu")[0].device_kind}))
""",
    "tensorflow": """
import json, tensorflow as tf
assert tf.config.list_physical_devices("GPU"), "no CUDA-capable device is found"
with tf.device("/GPU:0"):
    x = tf.ones((64, 64))
    assert float(tf.reduce_sum(x @ x)) == 64.0 ** 3, "the GPU computes wrong numbers"
print("\\n" + json.dumps({"device": tf.config.list_physical_devices("GPU")[0].name}))
""",
}


def preflight(request, pipe):
    """List the frameworks of the training's Python and try each on the GPU, where there is one.

    Request: venv (or None), env (the task's), gpu (whether to try), image (or None), cwd. Returns
    {"frameworks": {name: {"version", "cuda", and after a try "works", "error", "device"}}}.

    Raises:
        Refusal: "equip": no container can be made.
    """
    env = dict(os.environ, PYTHONUNBUFFERED="1")
    env.update(request["env"])
    program = container.tool() if request["image"] else None

    def run(script, limit_s):
        said, error, code = _run(_command(program, request, script), env, limit_s, pipe)
        if program and code in _TOOL_FAILED:
            raise container.refusal(program, request, error)
        if program and code is None:
            container.remove(request["root"], request["run"])
        return said, error

    frameworks = run(_LIST, _LIST_S)[0] or {}
    for name, facts in sorted(frameworks.items()):
        if request["gpu"] and facts["cuda"] is not None:
            said, error = run(_TRIES[name], _TRY_S)
            facts.update(said or {}, works=said is not None, error=error)
    return {"frameworks": frameworks}


def _command(program, request, script):
    """The script in the training's Python, as its command will find that."""
    python = os.path.join(request["venv"], "bin", "python") if request["venv"] else None
    if program is None:
        own = python or find_tool("python") or find_tool("python3") or sys.executable
        return [own, "-c", script]
    argv = [python or "python3", "-c", script]
    return container.inside(program, request, argv, sorted(request["env"]))


def _run(argv, env, limit_s, pipe):
    """Run a script: what its last line says, why it failed, its exit status (None: timed out)."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    )
    waited = 0.0
    while True:
        try:
            out, err = process.communicate(timeout=_ALIVE_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            waited += _ALIVE_EVERY_S
            if waited >= limit_s:
                process.kill()
                process.communicate()
                return None, "it timed out after %d s" % limit_s, None
            pipe.send_json(wire.JSON, {"alive": True})
    code = process.returncode
    if code != 0:
        return None, _last_line(err, code), code
    try:
        return json.loads(out.decode("utf-8", "replace").splitlines()[-1]), None, 0
    except (ValueError, IndexError):
        return None, "its answer makes no sense: %r" % out[-200:], 0


def _last_line(err, code):
    """The exception that a traceback ends with; advice may follow it."""
    lines = [line.strip() for line in err.decode("utf-8", "replace").splitlines() if line.strip()]
    raised = [line for line in lines if line.split(":")[0].endswith(("Error", "Exception"))]
    said = (raised or lines or ["it ended with status %d" % code])[-1]
    return said[:400]
