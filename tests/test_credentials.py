"""Where the keys of accounts are kept, and what is kept away from everybody else."""

import json
import os
import stat
import sys
from pathlib import Path

import keyring
import pytest

from towline.core.redact import MASK, Redactor
from towline.credentials import Credentials, plain
from towline.errors import CredentialsError

FIELDS = {"api_key": "CLOUD_API_KEY"}
TWO = {"client_id": "CLOUD_CLIENT_ID", "client_secret": "CLOUD_CLIENT_SECRET"}
KEY = "cloud-key-0123456789"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for variable in [*FIELDS.values(), *TWO.values()]:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def redactor():
    return Redactor()


@pytest.fixture
def subject(tmp_path, redactor):
    return Credentials(tmp_path, redactor)


@pytest.fixture
def ring(tmp_path, monkeypatch):
    """The keyring works; its file, beside which stands what it was asked."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "keyrings"))
    from keyring_double import FileKeyring

    path = tmp_path / "ring"
    monkeypatch.setenv("TEST_KEYRING", str(path))
    before = keyring.get_keyring()
    keyring.set_keyring(FileKeyring())
    yield path
    keyring.set_keyring(before)


def asked(ring):
    notes = Path(f"{ring}.asked")
    return notes.read_text().splitlines() if notes.exists() else []


def file_of(tmp_path):
    return tmp_path / "accounts.json"


# -- what was pasted ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pasted",
    [
        f"  {KEY}\n", f"\ufeff{KEY}", f"{KEY[:7]}\r\n{KEY[7:]}", f"{KEY[:7]} \t{KEY[7:]}",
        f"\u200b{KEY[:3]}\u200d{KEY[3:]}\u2060", f"\u00a0{KEY}\u3000", f"\x1b[200~{KEY}\x1b[201~",
        f"{KEY}\0", f"\u202a{KEY}\u202c", f"{KEY[:5]}\u2028{KEY[5:]}",
    ],
)  # fmt: skip
def test_what_a_paste_brings_along_is_taken_out(pasted):
    assert plain(pasted, "the api key") == KEY


@pytest.mark.parametrize(
    ("pasted", "message"),
    [
        ("", "the api key is empty"),
        (" \r\n\ufeff\u200b", "the api key is empty"),
        ("short", "the api key has 5 characters"),
        (f"{KEY[:4]}\u2022\u2022\u2022\u2022\u2022", "in no key"),
        (f"{KEY}\udcff", "in no key"),
    ],
)
def test_what_can_be_no_key_is_refused_and_not_repeated(pasted, message):
    with pytest.raises(CredentialsError, match=message) as caught:
        plain(pasted, "the api key")
    assert caught.value.hint
    assert KEY[:4] not in caught.value.message


# -- the environment ------------------------------------------------------------------------------


def test_nothing_anywhere_is_nothing(subject, tmp_path):
    assert subject.find("cloud", FIELDS) == {}
    assert subject.where("cloud", FIELDS) == {}
    assert subject.complete({"cloud": FIELDS}) == []
    assert not subject.forget("cloud")
    assert not file_of(tmp_path).exists()


def test_the_environment_wins_over_what_is_stored(subject, monkeypatch):
    subject.store("cloud", {"api_key": "stored-key-1"})
    monkeypatch.setenv("CLOUD_API_KEY", f" {KEY}\n")
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}
    assert subject.where("cloud", FIELDS) == {"api_key": "CLOUD_API_KEY"}


@pytest.mark.parametrize("blank", ["", "  ", "\ufeff"])
def test_a_blank_variable_counts_as_unset(subject, monkeypatch, blank):
    subject.store("cloud", {"api_key": KEY})
    monkeypatch.setenv("CLOUD_API_KEY", blank)
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}


def test_a_variable_that_is_no_key_is_named(subject, monkeypatch):
    monkeypatch.setenv("CLOUD_API_KEY", "todo")
    with pytest.raises(CredentialsError, match="CLOUD_API_KEY has 4 characters"):
        subject.find("cloud", FIELDS)


def test_fields_may_come_from_different_places(subject, monkeypatch, tmp_path):
    subject.store("cloud", {"client_id": "stored-id", "client_secret": "stored-secret"})
    monkeypatch.setenv("CLOUD_CLIENT_ID", "exported-id")
    assert subject.find("cloud", TWO) == {
        "client_id": "exported-id", "client_secret": "stored-secret",
    }  # fmt: skip
    assert subject.where("cloud", TWO) == {
        "client_id": "CLOUD_CLIENT_ID", "client_secret": str(file_of(tmp_path)),
    }  # fmt: skip


def test_an_account_is_complete_when_every_key_is_somewhere(subject, monkeypatch):
    accounts = {"cloud": TWO, "local": {}}
    monkeypatch.setenv("CLOUD_CLIENT_ID", "exported-id")
    assert subject.complete(accounts) == []
    monkeypatch.setenv("CLOUD_CLIENT_SECRET", "exported-secret")
    assert subject.complete(accounts) == ["cloud"]
    assert subject.find("cloud", TWO).keys() == TWO.keys()


# -- the file -------------------------------------------------------------------------------------


def test_without_a_keyring_the_file_takes_it_and_that_is_said(subject, tmp_path):
    where = subject.store("cloud", {"api_key": KEY})
    assert where == f"{file_of(tmp_path)}, which only you can read; this machine has no keyring"
    assert json.loads(file_of(tmp_path).read_text()) == {
        "cloud": {"where": "file", "keys": {"api_key": KEY}}
    }
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}
    assert subject.known() == subject.complete({"cloud": FIELDS}) == ["cloud"]


def test_without_the_library_the_file_takes_it_and_that_is_said(subject, monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "pip install 'towline[keyring]'" in subject.store("cloud", {"api_key": KEY})
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}


def test_a_keyring_that_is_switched_off_keeps_nothing(subject, monkeypatch):
    from keyring.backends.null import Keyring

    before = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        assert "switched off" in subject.store("cloud", {"api_key": KEY})
    finally:
        keyring.set_keyring(before)
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_the_file_is_the_users_alone_whatever_the_umask(subject, tmp_path, mask):
    before = os.umask(mask)
    try:
        subject.store("cloud", {"api_key": KEY})
    finally:
        os.umask(before)
    assert stat.S_IMODE(file_of(tmp_path).stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_an_error_with_its_fix(subject, tmp_path, mode, redactor):
    subject.store("cloud", {"api_key": KEY})
    file_of(tmp_path).chmod(mode)
    for ask in (
        lambda: subject.find("cloud", FIELDS),
        lambda: subject.store("other", {"api_key": "another-key"}),
        lambda: subject.forget("cloud"),
        lambda: subject.complete({}),
    ):
        with pytest.raises(CredentialsError, match="others can read") as caught:
            ask()
        assert f"chmod 600 {file_of(tmp_path)}" in caught.value.hint
    file_of(tmp_path).chmod(0o600)
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}


@pytest.mark.parametrize(
    "content",
    [
        "{", "[]", '{"cloud": 1}', '{"cloud": {"where": "moon"}}', '{"cloud": {"where": "file"}}',
        '{"cloud": {"where": "file", "keys": {"api_key": 12345678}}}',
        '{"cloud": {"where": "keyring", "fields": "api_key"}}', "\udcff",
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_left_alone(subject, tmp_path, content):
    file_of(tmp_path).write_text(content, errors="surrogateescape")
    file_of(tmp_path).chmod(0o600)
    before = file_of(tmp_path).read_bytes()
    for ask in (
        lambda: subject.find("cloud", FIELDS),
        lambda: subject.store("a", {"api_key": KEY}),
    ):
        with pytest.raises(CredentialsError, match=r"accounts\.json can't be used") as caught:
            ask()
        assert caught.value.hint
    assert file_of(tmp_path).read_bytes() == before


def test_a_damaged_file_is_no_matter_while_the_environment_has_the_key(
    subject, tmp_path, monkeypatch
):
    file_of(tmp_path).write_text("{")
    monkeypatch.setenv("CLOUD_API_KEY", KEY)
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}
    assert subject.find("local", {}) == {}


def test_a_folder_that_can_not_be_written_is_an_error(subject, tmp_path):
    file_of(tmp_path).with_name("accounts.json.new").mkdir()
    with pytest.raises(CredentialsError, match="can't be written"):
        subject.store("cloud", {"api_key": KEY})


def test_one_account_is_forgotten_and_the_others_stay(subject):
    subject.store("cloud", {"api_key": KEY})
    subject.store("other", {"api_key": "another-key"})
    assert subject.forget("cloud")
    assert not subject.forget("cloud")
    assert subject.find("cloud", FIELDS) == {}
    assert subject.find("other", FIELDS) == {"api_key": "another-key"}


# -- the keyring ----------------------------------------------------------------------------------


def test_the_keyring_takes_it_and_the_file_only_says_so(subject, ring, tmp_path):
    assert subject.store("cloud", {"client_id": "an-id-of-mine", "client_secret": KEY}) == (
        "the keyring"
    )
    assert json.loads(file_of(tmp_path).read_text()) == {
        "cloud": {"where": "keyring", "fields": ["client_id", "client_secret"]}
    }
    assert subject.find("cloud", TWO) == {"client_id": "an-id-of-mine", "client_secret": KEY}
    assert subject.where("cloud", TWO) == dict.fromkeys(TWO, "the keyring")


def test_the_keyring_is_asked_only_for_what_is_in_it(subject, ring, monkeypatch):
    assert subject.find("cloud", FIELDS) == {}
    monkeypatch.setenv("CLOUD_API_KEY", KEY)
    subject.find("cloud", FIELDS)
    monkeypatch.delenv("CLOUD_API_KEY")
    assert asked(ring) == []
    subject.store("cloud", {"api_key": KEY})
    already = len(asked(ring))
    subject.find("other", FIELDS)
    assert subject.complete({"cloud": FIELDS, "other": FIELDS}) == subject.known() == ["cloud"]
    assert len(asked(ring)) == already
    subject.find("cloud", FIELDS)
    assert asked(ring)[already:] == ["get cloud"]


def test_two_homes_hold_two_keys(subject, ring, tmp_path, redactor):
    (tmp_path / "second").mkdir()
    second = Credentials(tmp_path / "second", redactor)
    subject.store("cloud", {"api_key": KEY})
    second.store("cloud", {"api_key": "another-key"})
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}
    assert second.forget("cloud")
    assert subject.find("cloud", FIELDS) == {"api_key": KEY}


def test_forgetting_empties_the_keyring_too(subject, ring):
    subject.store("cloud", {"api_key": KEY})
    assert subject.forget("cloud")
    assert KEY not in ring.read_text()
    assert subject.known() == []


def test_a_key_that_was_removed_in_the_keyring_is_just_not_there(subject, ring):
    subject.store("cloud", {"api_key": KEY})
    ring.unlink()
    assert subject.find("cloud", FIELDS) == {}
    assert subject.forget("cloud")


@pytest.mark.parametrize("text", ["{", "[]", '{"api_key": 1}', '"x"'])
def test_something_else_in_the_keyring_is_named(subject, ring, text):
    subject.store("cloud", {"api_key": KEY})
    ring.write_text(json.dumps(dict.fromkeys(json.loads(ring.read_text()), text)))
    with pytest.raises(CredentialsError) as caught:
        subject.find("cloud", FIELDS)
    assert "towline login cloud" in caught.value.hint


def test_a_locked_keyring_is_an_error_when_it_is_needed_and_a_file_when_not(subject, ring):
    subject.store("cloud", {"api_key": KEY})
    ring.with_suffix(".locked").touch()
    for ask in (lambda: subject.find("cloud", FIELDS), lambda: subject.forget("cloud")):
        with pytest.raises(CredentialsError, match="the keyring is locked") as caught:
            ask()
        assert "unlock" in caught.value.hint
    assert subject.known() == ["cloud"]
    assert "the keyring refused (the keyring is locked)" in subject.store("other", {"api_key": KEY})
    assert subject.find("other", FIELDS) == {"api_key": KEY}


def test_a_key_in_the_keyring_needs_the_library(subject, ring, monkeypatch):
    subject.store("cloud", {"api_key": KEY})
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(CredentialsError) as caught:
        subject.find("cloud", FIELDS)
    assert "towline[keyring]" in caught.value.hint


def test_a_later_login_moves_the_key_out_of_the_file(subject, tmp_path, request):
    subject.store("cloud", {"api_key": KEY})
    request.getfixturevalue("ring")
    subject.store("cloud", {"api_key": "another-key"})
    assert KEY not in file_of(tmp_path).read_text()
    assert subject.find("cloud", FIELDS) == {"api_key": "another-key"}


# -- the redactor ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["environment", "file", "keyring"])
def test_every_value_that_is_read_is_masked_from_then_on(tmp_path, place, monkeypatch, request):
    if place == "keyring":
        request.getfixturevalue("ring")
    if place == "environment":
        monkeypatch.setenv("CLOUD_API_KEY", KEY)
    else:
        Credentials(tmp_path, Redactor()).store("cloud", {"api_key": KEY})
    redactor = Redactor()
    assert KEY in redactor.text(f"a line with {KEY} in it")
    assert Credentials(tmp_path, redactor).find("cloud", FIELDS) == {"api_key": KEY}
    assert redactor.text(f"a line with {KEY} in it") == f"a line with {MASK} in it"


def test_a_value_is_masked_before_it_is_stored(subject, redactor):
    subject.store("cloud", {"api_key": KEY})
    assert KEY not in redactor.text(KEY)
