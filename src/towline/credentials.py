"""Where the keys of accounts are: the environment, else the system's keyring, else a file of ours.

`accounts.json` in TOWLINE_HOME says where each account's key was stored, so that the keyring, which
is slow and may want a password, is asked only for what is in it. The environment always wins.
Every value is made known to the redactor before anything else sees it (rule 7).
"""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towline.core.redact import Redactor
from towline.errors import CredentialsError, LocalWriteError
from towline.home import write_private

FILE_NAME = "accounts.json"
_LEAST = 8  # characters; what is shorter could not be told from ordinary text in a log
_KEYRING, _FILE = "keyring", "file"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# control characters, formats (zero width, byte order, direction), and every kind of blank
_UNSEEN = {"Cc", "Cf", "Zs", "Zl", "Zp"}
_PASTE_MARKS = re.compile("\x1b\\[20[01]~")  # by which terminals tell a paste from typing


class Credentials:
    """The keys of one home's accounts.

    A provider's ``fields`` are the names of its keys ("api_key") with the environment variables
    that they may come from; the caller knows them.
    """

    def __init__(self, folder: Path, redactor: Redactor) -> None:
        """Read nothing yet.

        Args:
            folder: TOWLINE_HOME; it exists.
            redactor: Is told every value.
        """
        self._path = folder / FILE_NAME
        self._redactor = redactor
        # two homes may hold different accounts at one provider
        self._service = f"towline {folder}"

    def find(self, name: str, fields: Mapping[str, str]) -> dict[str, str]:
        """An account's keys by field; what is nowhere is left out.

        Raises:
            CredentialsError: A value is no key, or the file or the keyring can't be read.
        """
        found = {
            field: self._told(plain(value, variable))
            for field, variable in fields.items()
            if (value := _exported(variable))
        }
        if len(found) == len(fields):
            return found
        return {k: value for k, value in self._stored(name).items() if k in fields} | found

    def where(self, name: str, fields: Mapping[str, str]) -> dict[str, str]:
        """Say of each field in words where it comes from; what is nowhere is left out.

        Raises:
            CredentialsError: The file can't be read.
        """
        known = {field: one for field, one in fields.items() if _exported(one)}
        if len(known) < len(fields) and (record := self._read().get(name)) is not None:
            known = dict.fromkeys(_fields(record), self._words(record)) | known
        return {field: known[field] for field in fields if field in known}

    def complete(self, accounts: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Names of the accounts of which every key is somewhere; the keyring is not asked.

        Args:
            accounts: Fields by name; an account without fields is none.

        Raises:
            CredentialsError: The file can't be read.
        """
        stored = {name: set(_fields(record)) for name, record in self._read().items()}
        return [
            name
            for name, fields in accounts.items()
            if fields
            and all(
                _exported(variable) or field in stored.get(name, ())
                for field, variable in fields.items()
            )
        ]

    def known(self) -> list[str]:
        """Names of the accounts whose keys were stored.

        Raises:
            CredentialsError: The file can't be read.
        """
        return list(self._read())

    def store(self, name: str, values: Mapping[str, str]) -> str:
        """Keep an account's keys in place of earlier ones; says in words where.

        Args:
            name: The provider's.
            values: All its keys by field, as `plain` made them.

        Raises:
            CredentialsError: Neither the keyring nor the file takes them.
        """
        for value in values.values():
            self._told(value)
        records = self._read()
        refusal = _keep(self._service, name, json.dumps(dict(values)))
        if refusal is None:
            records[name] = {"where": _KEYRING, "fields": list(values)}
        else:
            records[name] = {"where": _FILE, "keys": dict(values)}
        self._write(records)
        why = f", which only you can read; {refusal}" if refusal else ""
        return self._words(records[name]) + why

    def forget(self, name: str) -> bool:
        """Remove an account's stored keys; says whether there were any.

        Raises:
            CredentialsError: The keyring or the file refuses.
        """
        records = self._read()
        record = records.pop(name, None)
        if record is None:
            return False
        if record["where"] == _KEYRING:
            _drop(self._service, name)
        self._write(records)
        return True

    # -- keyring and file -----------------------------------------------------------------------

    def _stored(self, name: str) -> dict[str, str]:
        """The stored keys of an account; {} without any."""
        record = self._read().get(name)
        if record is None:
            return {}
        if record["where"] == _FILE:
            keys: dict[str, str] = record["keys"]
            return keys
        values = _take(self._service, name)
        return {field: self._told(value) for field, value in values.items()}

    def _told(self, value: str) -> str:
        self._redactor.add(value)
        return value

    def _words(self, record: Mapping[str, Any]) -> str:
        return "the keyring" if record["where"] == _KEYRING else str(self._path)

    def _read(self) -> dict[str, dict[str, Any]]:
        """What is stored where, by name."""
        try:
            with self._path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                records = json.loads(file.read())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise _damaged(self._path, str(error)) from error
        if not isinstance(records, dict) or not all(map(_is_record, records.values())):
            raise _damaged(self._path, "it does not hold what towline wrote")
        for record in records.values():
            for value in record.get("keys", {}).values():
                self._told(value)
        if os.name == "posix" and mode & _OTHERS:
            message = f"others can read the keys in {self._path} (mode {mode:o})"
            hint = f"chmod 600 {self._path}; if others use this machine, make new keys"
            raise CredentialsError(message, hint=hint)
        return records

    def _write(self, records: Mapping[str, Any]) -> None:
        try:
            write_private(self._path, json.dumps(records, indent=1).encode())
        except LocalWriteError as error:
            raise CredentialsError(error.message, hint="check the folder's permissions") from error


def plain(pasted: str, what: str) -> str:
    """A key as it was meant, out of what was pasted: no blanks, line breaks, or invisible marks.

    Args:
        pasted: As it came.
        what: What it is, as a message begins.

    Raises:
        CredentialsError: Nothing is left, or what is left can be no key.
    """
    hint = "copy it once more from the provider's page"
    value = _seen(_PASTE_MARKS.sub("", pasted))
    if not value:
        raise CredentialsError(f"{what} is empty", hint=hint)
    odd = next((one for one in value if not one.isascii()), None)
    if odd is not None:
        masked = f"{hint}; a page may show it masked"
        raise CredentialsError(f"{what} holds {odd!a}, which is in no key", hint=masked)
    if len(value) < _LEAST:
        message = f"{what} has {len(value)} characters; {_LEAST} are needed"
        raise CredentialsError(message, hint=hint)
    return value


def _seen(text: str) -> str:
    return "".join(one for one in text if unicodedata.category(one) not in _UNSEEN)


def _exported(variable: str) -> str:
    """An environment variable; "" for one that is not set or holds blanks only."""
    value = os.environ.get(variable, "")
    return value if _seen(value) else ""


def _fields(record: Mapping[str, Any]) -> list[str]:
    return list(record["fields"] if record["where"] == _KEYRING else record["keys"])


def _is_record(value: Any) -> bool:
    match value:
        case {"where": "keyring", "fields": list(fields)}:
            return all(isinstance(one, str) for one in fields)
        case {"where": "file", "keys": dict(keys)}:
            return all(isinstance(one, str) and len(one) >= _LEAST for one in keys.values())
        case _:
            return False


def _damaged(path: Path, why: str) -> CredentialsError:
    hint = "look at it, remove it, then `towline login` stores the keys again"
    return CredentialsError(f"{path} can't be used: {why}", hint=hint)


# -- the keyring: a library that may be missing, over services that may fail in any way -------------


def _keep(service: str, name: str, text: str) -> str | None:
    """Put a text into the keyring; None when it is in there, else why not."""
    try:
        import keyring  # noqa: PLC0415 - slow, and optional
        from keyring.errors import NoKeyringError  # noqa: PLC0415
    except ModuleNotFoundError:
        return "the library keyring is not installed (pip install 'towline[keyring]')"
    try:
        keyring.set_password(service, name, text)
        is_kept = keyring.get_password(service, name) == text  # one that is switched off keeps none
    except NoKeyringError:
        return "this machine has no keyring"
    except Exception as error:  # noqa: BLE001 - a backend may raise anything; the file takes the key
        return f"the keyring refused ({_said(error)})"
    return None if is_kept else "the keyring is switched off"


def _take(service: str, name: str) -> dict[str, str]:
    """An account's keys from the keyring; {} when somebody removed them there."""
    again = f"unlock the keyring, or `towline login {name}` once more"
    try:
        import keyring  # noqa: PLC0415 - slow, and optional

        text = keyring.get_password(service, name)
        values = {} if text is None else json.loads(text)
    except ModuleNotFoundError as error:
        message = f"the key of {name} is in the keyring, and the library keyring is not installed"
        raise CredentialsError(message, hint="pip install 'towline[keyring]'") from error
    except Exception as error:
        message = f"the keyring does not give the key of {name}: {_said(error)}"
        raise CredentialsError(message, hint=again) from error
    if not _is_record({"where": _FILE, "keys": values}):
        message = f"the keyring holds something else than the key of {name}"
        raise CredentialsError(message, hint=f"`towline login {name}` stores it again")
    keys: dict[str, str] = values
    return keys


def _drop(service: str, name: str) -> None:
    """Remove an account's keys from the keyring; what is gone already is no error."""
    try:
        import keyring  # noqa: PLC0415 - slow, and optional

        if keyring.get_password(service, name) is not None:
            keyring.delete_password(service, name)
    except Exception as error:
        message = f"the keyring does not remove the key of {name}: {_said(error)}"
        hint = f"unlock the keyring and try again, or remove {service!r} there by hand"
        raise CredentialsError(message, hint=hint) from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
