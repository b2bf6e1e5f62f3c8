"""A warm process that runs towline's command line in forked children; see tests/crash/forker.py."""

import json
import subprocess
import sys
from pathlib import Path

_FORKER = Path(__file__).with_name("crash") / "forker.py"


class Forker:
    """A warm process that runs the command line in forked children."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, _FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def run(self, request):
        """Run one request; its exit status."""
        return self.run_all(request)[0]

    def run_all(self, request):
        """Run one request; the exit status of each child."""
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["statuses"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
