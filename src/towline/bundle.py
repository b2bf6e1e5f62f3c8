"""Pack `towline.onboard` into the zip file that runs on the instance."""

from __future__ import annotations

import functools
import io
import zipfile
from importlib import resources

_MAIN = b"import sys\nfrom onboard.main import main\nsys.exit(main())\n"
_EPOCH = (2020, 1, 1, 0, 0, 0)  # fixed, so that the same sources give the same bytes


@functools.cache
def onboard_pyz() -> bytes:
    """Build `onboard.pyz`; the same bytes each time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", _EPOCH), _MAIN)
        for file in sorted(resources.files("towline.onboard").iterdir(), key=lambda f: f.name):
            if file.name.endswith(".py"):
                info = zipfile.ZipInfo(f"onboard/{file.name}", _EPOCH)
                archive.writestr(info, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
