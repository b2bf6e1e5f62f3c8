"""The program that travels to the instance: the same bytes each time, and it runs there."""

import io
import subprocess
import sys
import zipfile

from towline.bundle import onboard_pyz


def test_the_same_sources_give_the_same_bytes():
    first = onboard_pyz()
    onboard_pyz.cache_clear()
    assert onboard_pyz() == first


def test_the_same_bytes_come_from_another_process():
    code = "import hashlib, towline.bundle as b; print(hashlib.sha256(b.onboard_pyz()).hexdigest())"
    said = {
        subprocess.check_output([sys.executable, "-c", code], text=True, env=None) for _ in range(2)
    }
    assert len(said) == 1


def test_it_holds_every_module_and_nothing_else():
    with zipfile.ZipFile(io.BytesIO(onboard_pyz())) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert names[0] == "__main__.py"
    assert {"onboard/main.py", "onboard/start.py", "onboard/wire.py"} <= set(names)
    assert all(name == "__main__.py" or name.startswith("onboard/") for name in names)
    assert all(name.endswith(".py") for name in names)


def test_it_takes_a_tenth_of_a_second_at_10_mbit_at_the_most():
    assert len(onboard_pyz()) < 125_000
