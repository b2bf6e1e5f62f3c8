"""No test sees the accounts, or the keyring, of the person who runs it; the longest files first."""

import os

from towline.providers import CLOUDS


def pytest_configure(config):
    if "live" in (config.option.markexpr or "").replace("not live", ""):
        return  # they are what it is about
    for cloud in CLOUDS.values():
        for variable in cloud.keys.values():
            os.environ.pop(variable, None)
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"


#: folders whose files take longest; should one of them start last, the other workers would idle
LONGEST = ("crash", "netns", "faults", "job", "cli", "contracts", "transfer")


def pytest_collection_modifyitems(items):
    items.sort(key=_turn)  # stable: files stay whole, and tests in their order


def _turn(item):
    folder = item.path.parent.name
    return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)
