"""The environment of an instance on this machine: clean, but with this machine's package caches.

A rented machine knows nothing of its renter's shell, so neither does an instance: what passes is
listed by name here, and nothing that looks like a secret passes even then.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

_PASS = re.compile(
    r"LANG|LANGUAGE|LC_[A-Z]+|TZ"
    r"|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|(PIP|UV)_[A-Z0-9_]+"
    r"|(http|https|all|ftp|no)_proxy|(HTTP|HTTPS|ALL|FTP|NO)_PROXY"
)
_SECRET_NAME = re.compile(r"TOKEN|PASS|SECRET|CREDENTIAL|API_?KEY|AUTH(?!OR)")
_SECRET_VALUE = re.compile(r"://[^/\s]*@")  # user:password@ or token@ in a URL
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def instance_environment(
    caller: Mapping[str, str], *, home: Path, bin_folder: Path, runtime: Path
) -> dict[str, str]:
    """Make the environment that every process of an instance starts with.

    Args:
        caller: The environment of the process that creates the instance.
        home: The instance user's home folder.
        bin_folder: The instance's own programs; first on PATH.
        runtime: A short path for sockets and temporary files.
    """
    env = {key: value for key, value in caller.items() if _may_pass(key, value)}
    env |= _package_tools(caller)
    env |= {
        "HOME": str(home),
        "PATH": _path(caller.get("PATH", ""), bin_folder),
        "SHELL": login_shell(),
        "TMPDIR": str(runtime),
        "TMUX_TMPDIR": str(runtime),
    }
    return env


def login_shell() -> str:
    """The shell of the user who runs this process."""
    if sys.platform == "win32":
        return ""
    import pwd  # noqa: PLC0415 - POSIX only

    try:
        return pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    except KeyError:  # a container's user without an entry
        return "/bin/sh"


def _may_pass(key: str, value: str) -> bool:
    looks_secret = _SECRET_NAME.search(key.upper()) or _SECRET_VALUE.search(value)
    return _PASS.fullmatch(key) is not None and not looks_secret


def _path(caller_path: str, bin_folder: Path) -> str:
    """The instance's own programs, then the caller's PATH without any virtual environment's."""
    folders = [
        folder
        for folder in (caller_path or _SYSTEM_PATH).split(os.pathsep)
        if Path(folder).is_absolute() and not (Path(folder).parent / "pyvenv.cfg").exists()
    ]
    return os.pathsep.join([str(bin_folder), *dict.fromkeys(folders)])


def _package_tools(caller: Mapping[str, str]) -> dict[str, str]:
    """Caches and settings of pip and uv, which would be looked for below the instance's home."""
    caches = Path(caller.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pip_cache = caches / "pip"
    if sys.platform == "darwin" and not caller.get("XDG_CACHE_HOME"):
        pip_cache = Path.home() / "Library/Caches/pip"
    env = {
        "PIP_CACHE_DIR": caller.get("PIP_CACHE_DIR", str(pip_cache)),
        "UV_CACHE_DIR": caller.get("UV_CACHE_DIR", str(caches / "uv")),
    }
    configs = Path(caller.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    pip_files = [
        configs / "pip/pip.conf",
        Path.home() / "Library/Application Support/pip/pip.conf",
        Path.home() / ".pip/pip.conf",
    ]
    found = next((file for file in pip_files if file.is_file()), None)
    if "PIP_CONFIG_FILE" not in caller and found is not None:
        env["PIP_CONFIG_FILE"] = str(found)
    uv_file = configs / "uv/uv.toml"
    if "UV_CONFIG_FILE" not in caller and uv_file.is_file():
        env["UV_CONFIG_FILE"] = str(uv_file)
    return env
