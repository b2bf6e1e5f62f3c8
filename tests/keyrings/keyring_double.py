"""A keyring in a file that tests name, chosen by PYTHON_KEYRING_BACKEND; notes what it is asked.

It goes through the real library `keyring`, as the system's own keyrings do.
"""

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class FileKeyring(KeyringBackend):
    priority = 1

    def _entries(self):
        path = Path(os.environ["TEST_KEYRING"])
        if path.with_suffix(".locked").exists():
            raise KeyringLocked("the keyring is locked")
        return json.loads(path.read_text()) if path.exists() else {}

    def _keep(self, entries):
        Path(os.environ["TEST_KEYRING"]).write_text(json.dumps(entries))

    def _note(self, what, username):
        with open(os.environ["TEST_KEYRING"] + ".asked", "a") as file:
            file.write(f"{what} {username}\n")

    def get_password(self, service, username):
        self._note("get", username)
        return self._entries().get(f"{service}/{username}")

    def set_password(self, service, username, password):
        self._note("set", username)
        self._keep(self._entries() | {f"{service}/{username}": password})

    def delete_password(self, service, username):
        self._note("delete", username)
        entries = self._entries()
        if entries.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError("not there")
        self._keep(entries)
