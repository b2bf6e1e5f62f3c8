"""Provider `local` keeps the providers' contract."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.contracts.provider_suite import ProviderSuite, Subject, key_pair
from towline.clock import RealClock
from towline.core.task import Resources
from towline.providers import make
from towline.providers.local_box import Box
from towline.ssh.client import SshDialer


@pytest.fixture
def subject():
    home = Path(tempfile.mkdtemp(prefix="tl-"))
    private_key, public_key = key_pair()

    def fresh():
        return make("local", home=home, settings={}, dialer=SshDialer(), clock=RealClock())

    try:
        yield Subject(
            fresh=fresh,
            need=Resources(),
            expect={"host_key_grade": "A", "rented": True, "sole_owner": True, "settle_s": 0.0},
            private_key=private_key,
            public_key=public_key,
        )
    finally:
        for folder in (home / "local").glob("towline-*"):
            Box(folder).end()
        shutil.rmtree(home)


class TestLocal(ProviderSuite):
    pass
