"""The training of a life: a user's script that keeps a record of its own, outside of the run's folder.

Each line of the record is JSON: {"kind", "at", ...}, with `at` on the clock that never jumps. Kinds: "start"
(pid), "line" (text: it is in the log to its last byte), "signal", "model" (sha256), "end" (code).
PLAN: {"epochs", "every_s", "size", "seed", "code"}.
"""

TRAIN = '''
import errno, hashlib, json, os, random, signal, time

plan = json.loads(os.environ["PLAN"])


class Asked(BaseException):
    pass


def note(kind, **more):
    fd = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, (json.dumps(dict(more, kind=kind, at=time.monotonic())) + "\\n").encode())
    os.close(fd)


def patient(fd, data):
    """A full disk is waited out: no healthy training dies of one."""
    while data:
        try:
            data = data[os.write(fd, data):]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            time.sleep(0.02)


def say(text):
    patient(1, (text + "\\n").encode())
    note("line", text=text)


def opened(path):
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            time.sleep(0.02)


def save(seed):
    data = random.Random(seed).getrandbits(8 * plan["size"]).to_bytes(plan["size"], "big")
    path = os.path.join(os.environ["TOWLINE_OUTPUT"], "model.pt")
    fd = opened(path + ".part")
    patient(fd, data)
    os.close(fd)
    os.rename(path + ".part", path)
    note("model", sha256=hashlib.sha256(data).hexdigest())


def asked(number, _frame):
    signal.signal(number, signal.SIG_IGN)
    note("signal", number=number)
    raise Asked


signal.signal(signal.SIGTERM, asked)
note("start", pid=os.getpid())
try:
    for epoch in range(1, plan["epochs"] + 1):
        width = epoch * 37 % 101
        say("epoch %d/%d loss=%.4f %s" % (epoch, plan["epochs"], 1 / epoch, "x" * width))
        time.sleep(plan["every_s"])
    if plan["code"] == 0:
        save(plan["seed"])
    code = plan["code"]
except Asked:
    save(plan["seed"] + 1)
    code = 143
note("end", code=code)
os._exit(code)
'''
