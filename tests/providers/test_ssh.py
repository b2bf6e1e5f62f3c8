"""Provider `ssh`: addresses, notes, and what it concludes when the machine does not answer."""

import asyncio
import getpass
import socket

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.clock import FakeClock
from towline import errors
from towline.core.instance import Address, InstanceId, Order, run_id_from, tag_for
from towline.core.task import Resources
from towline.providers import make
from towline.providers.ssh import SshProvider, parse_host
from towline.ssh.client import SshDialer

TAG = tag_for(run_id_from(b"abcdefgh"))
ORDER = Order(tag=TAG, public_key="")
ME = getpass.getuser()


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("ann@gpu-box", ("ann", "gpu-box", 22)),
        ("ann@gpu-box:2222", ("ann", "gpu-box", 2222)),
        ("gpu-box", (ME, "gpu-box", 22)),
        ("gpu-box:65535", (ME, "gpu-box", 65535)),
        ("a.b+c-d_9@10.0.0.7:1", ("a.b+c-d_9", "10.0.0.7", 1)),
        ("ann@box.example.org.", ("ann", "box.example.org.", 22)),
        ("ann@my_box", ("ann", "my_box", 22)),
        ("ann@[::1]", ("ann", "::1", 22)),
        ("[2001:db8::7]:2222", (ME, "2001:db8::7", 2222)),
        ("ann@[fe80::1%eth0]:22", ("ann", "fe80::1%eth0", 22)),
    ],
)
def test_a_host_is_read(text, parsed):
    assert parse_host(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "ann@", "@box", "ann@@box", "a@b@c", "ann@box:", "ann@box:0", "ann@box:65536"),
        *("ann@box:22:22", "ann@box:x", "ann@box:-1", "ann@box:٢٢", "ann@::1", "::1", "ann@[box]"),
        *("ann@[::1", "ann@::1]", "ann@[::1]22", "ann@[::1]:", "ann@[fe80::1%e;d]", "[]"),
        *("-oProxyCommand=id@box", "ann@-oProxyCommand=id", "-box", "ann@box;id", "ann@$(id)"),
        *("ann@box\n", "ann@bo x", " ann@box", "an n@box", "ann`id`@box", "ann@box/x", "ann@box#"),
        *("ssh://ann@box", "ann@box..org", "ann@.box", "ann@bóx", "ann@box\x00", "ann:pw@box"),
        "ann@" + "x" * 300,
        "u" * 70 + "@box",
    ],
)
def test_what_is_no_host_is_refused_with_the_right_form(text):
    with pytest.raises(errors.SpecError) as caught:
        parse_host(text)
    assert repr(text) in caught.value.message
    assert "user@address:port" in caught.value.hint


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30) | st.from_regex(r"[-a-z@:\[\]%.0-9]*"))
@example("-a")
@example("[::1]:22")
def test_whatever_is_accepted_can_be_taken_for_nothing_else(text):
    try:
        user, host, port = parse_host(text)
    except errors.SpecError:
        return
    for word in (user, host):
        assert word.isascii()
        assert not word.startswith("-")
        assert not set(word) & set(" \t\r\n\0'\"`$&|;<>()*?\\!#~{}/@[]")
    assert 1 <= port <= 65535
    written = f"{user}@[{host}]:{port}" if ":" in host else f"{user}@{host}:{port}"
    assert parse_host(written) == (user, host, port)


@settings(deadline=None)
@given(
    user=st.from_regex(r"[a-z_][a-z0-9_.-]{0,20}", fullmatch=True),
    host=st.ip_addresses().map(str) | st.from_regex(r"[a-z0-9]+(\.[a-z0-9]+){0,3}", fullmatch=True),
    port=st.integers(1, 65535),
)
def test_every_ordinary_address_is_accepted(user, host, port):
    text = f"{user}@[{host}]:{port}" if ":" in host else f"{user}@{host}:{port}"
    assert parse_host(text) == (user, host, port)


@pytest.fixture
def provider(tmp_path):
    return SshProvider(tmp_path, {}, SshDialer(), FakeClock())


def offered(provider, **need):
    return asyncio.run(provider.offers(Resources(**need)))[0]


def test_without_a_host_the_flag_is_named(provider):
    with pytest.raises(errors.SpecError) as caught:
        offered(provider)
    assert "--host" in caught.value.hint


def test_files_are_remembered_by_absolute_path(provider, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    offer = offered(provider, host="ann@box", identity="key", known_hosts="~/kh")
    assert offer.payload == {
        "user": "ann",
        "host": "box",
        "port": "22",
        "identity": str(tmp_path / "key"),
        "known_hosts": "/home/ann/kh",
    }
    assert offer.price_usd_per_h == 0


def test_settings_stand_in_for_what_the_task_leaves_out(tmp_path):
    settings = {"host": "bob@other:2200", "identity": "/k"}
    provider = SshProvider(tmp_path, settings, SshDialer(), FakeClock())
    assert offered(provider).payload == {
        "user": "bob",
        "host": "other",
        "port": "2200",
        "identity": "/k",
    }
    assert offered(provider, host="ann@box").payload["host"] == "box"


@pytest.mark.parametrize(
    ("settings", "near"), [({"hosts": "x"}, "'host'"), ({"ident": ""}, "'ide")]
)
def test_an_unknown_setting_is_refused_with_the_nearest(tmp_path, settings, near):
    with pytest.raises(errors.SpecError) as caught:
        make("ssh", home=tmp_path, settings=settings, dialer=SshDialer(), clock=FakeClock())
    assert f"did you mean {near}" in caught.value.hint


def test_a_setting_of_the_wrong_kind_is_refused(tmp_path):
    with pytest.raises(errors.SpecError, match="must be text"):
        SshProvider(tmp_path, {"host": 7}, SshDialer(), FakeClock())


def test_create_makes_a_private_note_and_may_be_repeated(provider, tmp_path):
    offer = offered(provider, host="ann@box:2222", identity="/k")
    made = asyncio.run(provider.create(offer, ORDER))
    assert asyncio.run(provider.create(offer, ORDER)) == made
    assert made.id == made.tag == TAG
    assert made.address == Address(host="box", port=2222, user="ann", identity="/k")
    note = tmp_path / "ssh" / f"{TAG}.json"
    assert note.stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "ssh").iterdir()) == [note]


def test_create_says_when_it_can_not_write(tmp_path):
    (tmp_path / "ssh").write_text("in the way")
    provider = SshProvider(tmp_path, {}, SshDialer(), FakeClock())
    with pytest.raises(errors.ProviderError):
        asyncio.run(provider.create(offered(provider, host="ann@box"), ORDER))


def test_a_damaged_note_is_an_error_and_not_an_absent_instance(provider, tmp_path):
    (tmp_path / "ssh").mkdir()
    for text in ("", "[]", '{"host":'):
        (tmp_path / "ssh" / f"{TAG}.json").write_text(text)
        with pytest.raises(errors.ProviderReplyError, match=TAG):
            asyncio.run(provider.get(InstanceId(TAG)))
        with pytest.raises(errors.ProviderReplyError, match=TAG):
            asyncio.run(provider.list_tagged())


def test_files_that_are_no_notes_are_not_listed(provider, tmp_path):
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "notes.json").write_text("{}")
    (tmp_path / "ssh" / f".{TAG}.json.77").write_text("{}")
    assert asyncio.run(provider.list_tagged()) == []


@pytest.fixture
def closed_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: it refuses
        yield held.getsockname()[1]


@pytest.fixture
def unreachable(provider, closed_port, tmp_path):
    known = tmp_path / "known_hosts"
    known.write_text(
        f"[127.0.0.1]:{closed_port} ssh-ed25519"
        " AAAAC3NzaC1lZDI1NTE5AAAAIJ1bEmyeWd2jBYrFFNkzGqSB6Q1s0aR0Zx9pQvPqEJ0f\n"
    )
    offer = offered(provider, host=f"ann@127.0.0.1:{closed_port}", known_hosts=str(known))
    return asyncio.run(provider.create(offer, ORDER))


def test_a_refused_connection_proves_nothing_once_the_run_has_been_there(
    provider, unreachable, tmp_path
):
    entered = tmp_path / "runs" / TAG.removeprefix("towline-") / "entered"
    entered.parent.mkdir(parents=True)
    entered.touch()
    with pytest.raises(errors.ProviderUnavailable) as caught:
        asyncio.run(provider.terminate(unreachable.id))
    assert "ann@127.0.0.1" in caught.value.message
    assert "towline gc" in caught.value.hint
    assert asyncio.run(provider.get(unreachable.id)) == unreachable


def test_a_refused_connection_is_the_end_when_the_run_has_never_been_there(provider, unreachable):
    asyncio.run(provider.terminate(unreachable.id))
    assert asyncio.run(provider.get(unreachable.id)) is None


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(errors.SpecError) as caught:
        make("lokal", home=None, settings={}, dialer=SshDialer(), clock=FakeClock())
    assert "local, ssh" in caught.value.hint


def test_nothing_in_the_environment_is_needed_to_name_the_local_user(monkeypatch):
    def nobody():
        raise OSError

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(errors.SpecError, match="user name"):
        parse_host("box")
    assert parse_host("ann@box")[0] == "ann"
