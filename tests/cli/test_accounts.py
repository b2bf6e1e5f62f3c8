"""`login`, `logout`, `offers` and `doctor PROVIDER`, against a cloud's stand-in over real HTTP."""

import contextlib
import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest
from clouds import lambda_cloud as fake

from towline import errors
from towline.cli import doctor as doctor_module
from towline.cli.accounts import safety_short, safety_words
from towline.core.instance import Features
from towline.core.redact import MASK
from towline.ports import Finding
from towline.providers.lambda_cloud import LambdaCloud

if os.name == "posix":
    import pty

KEY = fake.KEY
WRONG = "another-key-012345"


@pytest.fixture
def cloud():
    with fake.LambdaCloud(boxes=False) as cloud:
        yield cloud
        assert cloud.violations == []
        assert cloud.machines == {}


@pytest.fixture
def laptop(laptop, cloud):
    """A laptop that knows where the cloud is, and no key."""
    settle(laptop, cloud.base_url)
    return laptop


def settle(laptop, base_url, **more):
    settings = {"lambda": {"base_url": base_url, "timeout_s": 5}, **more}
    laptop.config.write_text(json.dumps({"providers": settings}))


def piped(laptop, text, *arguments, code=0, env=None):
    """`towline login lambda --stdin` with that text on the pipe."""
    process = laptop.popen(
        "login", "lambda", "--stdin", *arguments, stdin=-1, env=laptop.env | (env or {})
    )
    stdout, stderr = process.communicate(text, timeout=50)
    assert process.returncode == code, stdout + stderr
    return stdout + stderr


def given(laptop, key=KEY):
    """The key is stored already."""
    laptop.home.mkdir(mode=0o700)
    accounts_file(laptop).touch(mode=0o600)
    accounts_file(laptop).write_text(
        json.dumps({"lambda": {"where": "file", "keys": {"api_key": key}}})
    )


def accounts_file(laptop):
    return laptop.home / "accounts.json"


def stored(laptop):
    file = accounts_file(laptop)
    return json.loads(file.read_text()) if file.exists() else {}


def nobody_listens():
    return "http://127.0.0.1:9/api/v1"


def exported(laptop, key=KEY):
    return {"env": laptop.env | {"LAMBDA_API_KEY": key}}


# -- login ----------------------------------------------------------------------------------------


def test_a_key_that_the_provider_accepts_is_stored(laptop, cloud):
    said = piped(laptop, f"{KEY}\n")
    assert "lambda accepts the key; 0 of towline's instances are there" in said
    assert (
        f"stored in {accounts_file(laptop)}, which only you can read; this machine has no" in said
    )
    assert accounts_file(laptop).stat().st_mode & 0o777 == 0o600
    assert stored(laptop) == {"lambda": {"where": "file", "keys": {"api_key": KEY}}}
    assert cloud.asked("list_instances") == 1


@pytest.mark.parametrize(
    "text", [f"\ufeff  {KEY[:6]}\r\n{KEY[6:]}\r\n", f"\n\n{KEY}\u200b", f"{KEY[:4]} {KEY[4:]}"]
)
def test_what_a_paste_brings_along_does_not_matter(laptop, text):
    piped(laptop, text)
    assert stored(laptop)["lambda"]["keys"] == {"api_key": KEY}


def test_a_refused_key_is_not_stored_and_not_shown(laptop):
    given(laptop)
    said = piped(laptop, WRONG, code=2)
    assert "nothing was stored, for lambda refuses this key" in said
    assert "hint: make a new key in lambda's console" in said
    assert WRONG not in said
    assert stored(laptop)["lambda"]["keys"] == {"api_key": KEY}


def test_a_key_that_the_provider_repeats_in_its_answer_is_masked(laptop, cloud, monkeypatch):
    def authorize(request):
        raise fake._refuse(401, "global/invalid-api-key", f"the key {WRONG} was invalid")

    monkeypatch.setattr(cloud, "authorize", authorize)
    said = piped(laptop, WRONG, code=2)
    assert MASK in said
    assert WRONG not in said


def test_an_account_that_must_pay_first_has_a_good_key(laptop, cloud):
    cloud.fail("list_instances", "402")
    said = piped(laptop, KEY)
    assert "lambda accepts the key, but: lambda answers 402" in said
    assert stored(laptop)["lambda"]["keys"] == {"api_key": KEY}


def test_a_key_that_can_not_be_checked_is_stored_only_when_told_so(laptop):
    settle(laptop, nobody_listens())
    said = piped(laptop, KEY, code=4)
    assert "the key could not be checked: lambda does not answer" in said
    assert "--no-check" in said
    assert stored(laptop) == {}
    assert "stored in" in piped(laptop, KEY, "--no-check")
    assert stored(laptop)["lambda"]["keys"] == {"api_key": KEY}


def test_a_damaged_answer_is_no_acceptance(laptop, cloud):
    cloud.fail("list_instances", "garbage")
    assert "could not be checked" in piped(laptop, KEY, code=4)
    assert stored(laptop) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the api key is empty"),
        ("\n \n", "the api key is empty"),
        ("short", "the api key has 5 characters"),
        ("abc\u2022\u2022\u2022\u2022\u2022\u2022", "in no key"),
    ],
)
def test_what_can_be_no_key_is_refused_before_anybody_is_asked(laptop, cloud, text, message):
    assert message in piped(laptop, text, code=2)
    assert cloud.audit == []


def test_two_keys_are_two_lines(laptop):
    login = ("login", "verda", "--stdin", "--no-check")
    wrong = laptop.popen(*login, stdin=-1)
    assert "one a line, in this order: client id, client secret" in wrong.communicate("just-one")[1]
    assert wrong.returncode == 2
    right = laptop.popen(*login, stdin=-1)
    right.communicate("the-client-id\r\nthe-client-secret\r\n")
    assert right.returncode == 0
    assert stored(laptop)["verda"]["keys"] == {
        "client_id": "the-client-id", "client_secret": "the-client-secret",
    }  # fmt: skip


def test_a_variable_that_is_set_too_is_said_to_win(laptop):
    said = piped(laptop, KEY, env={"LAMBDA_API_KEY": WRONG})
    assert "LAMBDA_API_KEY in the environment still wins over it" in said
    assert stored(laptop)["lambda"]["keys"] == {"api_key": KEY}


def test_without_a_terminal_and_a_pipe_it_is_an_error_that_says_so(laptop):
    done = laptop("login", "lambda", code=2)
    assert "there is no terminal to ask for the api key of lambda" in done.stderr
    assert "`towline login lambda --stdin < FILE`" in done.stderr


@pytest.mark.parametrize("command", ["login", "logout", "doctor"])
def test_an_unknown_provider_names_the_known_ones(laptop, command):
    done = laptop(command, "lamda", code=2)
    assert "there is no provider 'lamda'" in done.stderr
    assert "did you mean 'lambda'? Known: local, ssh, canopywave, lambda," in done.stderr


@pytest.mark.parametrize("name", ["local", "ssh"])
def test_your_own_machines_need_no_key(laptop, name):
    assert laptop("login", name).stdout == f"{name} needs no key\n"


def test_a_file_that_others_can_read_stops_login_before_it_asks(laptop):
    given(laptop)
    accounts_file(laptop).chmod(0o644)
    said = piped(laptop, KEY, code=2)
    assert f"chmod 600 {accounts_file(laptop)}" in said
    assert KEY not in said


class Terminal:
    """A command on a pseudo-terminal, fed when it asks."""

    def __init__(self, laptop, *arguments):
        self.ours, theirs = pty.openpty()
        self.process = laptop.popen(*arguments, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.screen = ""

    def answer(self, question, text):
        while question not in self.screen:
            self.screen += os.read(self.ours, 65536).decode()
        os.write(self.ours, text.encode())

    def end(self):
        with contextlib.suppress(OSError):  # what Linux says when the other side has closed
            while part := os.read(self.ours, 65536):
                self.screen += part.decode()
        os.close(self.ours)
        return self.process.wait(timeout=30)


@pytest.mark.parametrize(
    "pasted",
    [f"{KEY}\n", f"  {KEY} \n", f"{KEY[:6]}\n{KEY[6:]}\n", f"\n{KEY}\n", f"\x1b[200~{KEY}\x1b[201~\n"],
)  # fmt: skip
def test_on_a_terminal_the_key_is_asked_for_and_never_shown(laptop, pasted):
    terminal = Terminal(laptop, "login", "lambda")
    terminal.answer("lambda api key: ", pasted)
    assert terminal.end() == 0, terminal.screen
    assert stored(laptop)["lambda"]["keys"] == {"api_key": KEY}
    assert KEY not in terminal.screen
    assert KEY[6:] not in terminal.screen


def test_a_terminal_in_place_of_a_pipe_is_asked_without_showing_either(laptop):
    terminal = Terminal(laptop, "login", "lambda", "--stdin")
    terminal.answer("lambda api key: ", f"{KEY}\n")
    assert terminal.end() == 0, terminal.screen
    assert KEY not in terminal.screen


def test_two_keys_may_be_pasted_at_once(laptop):
    terminal = Terminal(laptop, "login", "verda", "--no-check")
    terminal.answer("verda client id: ", "the-client-id\nthe-client-secret\n")
    assert terminal.end() == 0, terminal.screen
    assert stored(laptop)["verda"]["keys"] == {
        "client_id": "the-client-id", "client_secret": "the-client-secret",
    }  # fmt: skip
    assert "the-client" not in terminal.screen


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 4)])
def test_on_a_terminal_an_unchecked_key_is_asked_about(laptop, answer, code):
    settle(laptop, nobody_listens())
    terminal = Terminal(laptop, "login", "lambda")
    terminal.answer("lambda api key: ", f"{KEY}\n")
    terminal.answer("Store it unchecked?", answer)
    assert terminal.end() == code, terminal.screen
    assert bool(stored(laptop)) == (code == 0)


@pytest.mark.parametrize("key", ["ctrl-c", "ctrl-d"])
def test_ctrl_c_and_ctrl_d_leave_without_a_trace(laptop, key):
    terminal = Terminal(laptop, "login", "lambda")
    terminal.answer("lambda api key: ", "\x04" if key == "ctrl-d" else "")
    if key == "ctrl-c":  # which only reaches those whose own terminal it is
        terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.screen
    assert stored(laptop) == {}


def test_with_a_keyring_the_key_is_in_there_and_nowhere_else(laptop, cloud):
    env = {
        "PYTHON_KEYRING_BACKEND": "keyring_double.FileKeyring",
        "PYTHONPATH": f"{laptop.env['PYTHONPATH']}:{Path(__file__).parent.parent / 'keyrings'}",
        "TEST_KEYRING": str(laptop.root / "ring"),
    }
    assert "stored in the keyring\n" in piped(laptop, KEY, env=env)
    assert stored(laptop) == {"lambda": {"where": "keyring", "fields": ["api_key"]}}
    assert laptop.json("offers", env=laptop.env | env)["offers"]
    looked = laptop("doctor", "lambda", env=laptop.env | env).stdout
    assert "api key from the keyring" in looked
    in_home = [file.read_bytes() for file in laptop.home.rglob("*") if file.is_file()]
    assert not any(KEY.encode() in content for content in in_home)
    laptop("logout", "lambda", env=laptop.env | env)
    assert KEY not in (laptop.root / "ring").read_text()


# -- logout ---------------------------------------------------------------------------------------


def test_logout_removes_the_key(laptop):
    given(laptop)
    assert laptop("logout", "lambda").stdout == "removed\n"
    assert stored(laptop) == {}
    assert laptop("logout", "lambda").stdout == "no key of lambda is stored\n"
    laptop("offers", code=2)


def test_logout_says_when_the_environment_still_has_one(laptop):
    said = laptop("logout", "lambda", **exported(laptop)).stdout
    assert "LAMBDA_API_KEY in the environment is still used" in said


def test_logout_does_not_lock_out_of_what_still_bills(laptop):
    from towline.clock import RealClock
    from towline.core.instance import Offer, run_id_from, tag_for
    from towline.core.redact import Redactor
    from towline.core.run import RunRecord, RunState
    from towline.store.journal import Store

    given(laptop)
    store = Store(laptop.home / "towline.db", Redactor(), RealClock())
    run_id = run_id_from(b"12345678")
    run = RunRecord(
        id=run_id, name="left", state=RunState.ACTIVE, task={}, created_at=1.0, results_dir="",
        provider="lambda",
    )  # fmt: skip
    store.create_run(run, lambda name: name)
    journal = store.take_lease(run_id)
    journal.intend("lambda", tag_for(run_id), Offer(provider="lambda", type="gpu_1x_a10"))
    journal.release_lease()
    store.close()
    refused = laptop("logout", "lambda", code=2).stderr
    assert "an instance at lambda may still bill" in refused
    assert "`towline gc` ends it" in refused
    assert stored(laptop)
    assert laptop("logout", "lambda", "-y").stdout == "removed\n"
    (laptop.home / "towline.db").unlink()


# -- offers ---------------------------------------------------------------------------------------


def cells(text):
    """The table's rows as dictionaries."""
    lines = text.splitlines()
    table = lines[: next((n for n, line in enumerate(lines) if not line), len(lines))]
    starts = [0] + [
        n for n in range(2, len(lines[0])) if lines[0][n - 2 : n] == "  " != lines[0][n]
    ]
    starts = [n for n in starts if lines[0][n : n + 1].strip()]
    ends = [*starts[1:], None]
    split = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in table]
    return [dict(zip(split[0], row, strict=True)) for row in split[1:]]


def test_the_offers_of_an_account_are_ranked_with_the_sold_out_last(laptop):
    done = laptop("offers", **exported(laptop))
    found = cells(done.stdout)
    assert [(row["TYPE"], row["STOCK"]) for row in found] == [
        ("cpu_4x_general", "yes"), ("gpu_1x_a10", "yes"), ("gpu_1x_h100_pcie", "yes"),
        ("gpu_1x_h100_pcie", "yes"), ("gpu_8x_a100_80gb_sxm4", "no"),
    ]  # fmt: skip
    assert found[2] == {
        "PROVIDER": "lambda", "TYPE": "gpu_1x_h100_pcie", "GPU": "1 x H100", "VRAM": "80 GB",
        "REGION": "us-west-1", "PRICE/H": "$2.49", "STOCK": "yes", "BOOT": "4 min 00 s", "NETWORK": "?",
        "1 H TRAINING": "$2.66", "SAFETY": "A, gc only",
    }  # fmt: skip
    assert done.stderr == ""


def test_offers_as_json_have_every_key(laptop):
    found = laptop.json("offers", "--gpu", "H100", "--region", "us-west-1", **exported(laptop))
    assert found == {
        "offers": [
            {
                "provider": "lambda", "type": "gpu_1x_h100_pcie", "gpu": "H100", "gpus": 1, "vram_gb": 80.0,
                "region": "us-west-1", "price_usd_per_hour": 2.49, "available": True, "spot": False,
                "boot_s": 240.0, "net_mbit": None, "traffic_usd_per_gb": None, "storage_usd_per_hour": None,
                "projected_usd": 2.656,
                "safety": {
                    "host_key_grade": "A", "rented": True, "user_data": True, "tags": True,
                    "idempotency_key": False, "server_ttl": False, "ends_itself": False,
                    "powered_off_bills": None, "spot": False,
                    "console_url": "https://cloud.lambda.ai/instances",
                },
            }
        ],
        "left_out": [],
        "unreachable": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "types"),
    [
        (["--gpu", "A10"], ["gpu_1x_a10"]),
        (["--gpu", "A100:8"], ["gpu_8x_a100_80gb_sxm4"]),
        (["--max-price", "1"], ["cpu_4x_general", "gpu_1x_a10"]),
        (["--region", "us-west-1"], ["gpu_1x_h100_pcie"]),
        (["--max-price", "10", "--gpu", "A100:8"], []),
        (["--provider", "lambda", "--provider", "lambda", "--gpu", "a10", "--spot"], ["gpu_1x_a10"]),
    ],
)  # fmt: skip
def test_offers_can_be_narrowed(laptop, arguments, types):
    found = laptop.json("offers", *arguments, **exported(laptop))
    assert [one["type"] for one in found["offers"]] == types


def test_when_nothing_fits_that_is_said_and_is_no_error(laptop):
    done = laptop("offers", "--gpu", "V100", **exported(laptop))
    assert done.stdout == "no offer fits, of lambda\n"


def test_without_an_account_the_way_to_one_is_said(laptop, cloud):
    done = laptop("offers", code=2)
    assert "error: no account is known yet" in done.stderr
    assert "`towline login PROVIDER` adds one, of: canopywave, lambda," in done.stderr
    assert cloud.audit == []
    assert laptop("offers", "--json", code=2).stdout


def test_a_stored_key_is_used_without_being_named(laptop):
    given(laptop)
    assert laptop.json("offers")["offers"]


def test_an_account_that_fails_does_not_hide_the_others(laptop):
    done = laptop("offers", "--provider", "lambda", "--provider", "local")  # lambda has no key
    assert [row["PROVIDER"] for row in cells(done.stdout)] == ["local"]
    assert "lambda is not among them: there is no api key for lambda" in done.stdout
    assert "fix: `towline login lambda` stores it, or export LAMBDA_API_KEY" in done.stdout


@pytest.mark.parametrize(
    ("spoil", "code", "kind"),
    [
        (lambda cloud: None, 4, "ProviderAuthError"),
        (lambda cloud: cloud.fail("instance_types", "402"), 4, "PaymentNeeded"),
        (lambda cloud: cloud.fail("instance_types", "garbage"), 4, "ProviderReplyError"),
    ],
)
def test_when_every_account_fails_the_exit_code_says_why(laptop, cloud, spoil, code, kind):
    spoil(cloud)
    key = WRONG if kind == "ProviderAuthError" else KEY
    found = laptop.json("offers", code=code, **exported(laptop, key))
    assert found["offers"] == []
    assert [(one["provider"], one["kind"]) for one in found["unreachable"]] == [("lambda", kind)]
    assert all(one["error"] and one["hint"] for one in found["unreachable"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "many"], "--gpu: 'many' is no GPU"),
        (["--provider", "lamda"], "did you mean 'lambda'"),
        (["--max-price", "-1"], "--max-price"),
    ],
)
def test_wrong_arguments_are_2(laptop, arguments, message):
    assert message in laptop("offers", *arguments, code=2).stderr


# -- doctor ---------------------------------------------------------------------------------------


def test_doctor_of_one_account_says_what_it_found_and_the_safety(laptop):
    done = laptop("doctor", "lambda", **exported(laptop))
    assert done.stdout.splitlines() == [
        "ok   provider lambda: answers, 0 instances, api key from LAMBDA_API_KEY",
        "ok   lambda offers: 5 offers, 4 of them may be in stock",
        (
            "ok   lambda safety: host key A (known when it is made), user-data, tags,"
            " no idempotency key, no server-side time-to-live, can't end itself,"
            " billing when powered off not known, no spot"
        ),
    ]
    report = laptop.json("doctor", "lambda", **exported(laptop))
    assert report.keys() == {"ok", "checks"}
    assert all(one.keys() == {"name", "message", "fix", "ok"} for one in report["checks"])


def test_doctor_without_a_name_looks_at_the_machine_and_every_account(laptop):
    given(laptop)
    settle(laptop, nobody_listens())
    out = laptop("doctor", code=2).stdout
    assert "ok   python: " in out
    assert "ok   provider local: answers, 0 instances" in out
    assert "BAD  provider lambda: lambda does not answer" in out or "no answer within" in out


@pytest.mark.parametrize(
    ("key", "fault", "said", "fix"),
    [
        (None, None, "there is no api key for lambda", "`towline login lambda` stores it, or export LAMBDA_API_KEY"),
        (WRONG, None, "API key was invalid", "export LAMBDA_API_KEY with a valid key, or unset it"),
        (KEY, ("list_instances", "402"), "lambda answers 402", "add a payment method or credit"),
        (KEY, ("list_instances", "garbage"), "lambda answers GET /instances", "nothing is rented; try again later"),
        (KEY, ("instance_types", "402"), "lambda account: lambda answers 402", "add a payment method or credit"),
        ("todo", None, "LAMBDA_API_KEY has 4 characters", "copy it once more"),
    ],
)  # fmt: skip
def test_doctor_has_a_fix_for_what_is_wrong_with_an_account(laptop, cloud, key, fault, said, fix):
    if fault:
        cloud.fail(*fault)
    env = laptop.env if key is None else laptop.env | {"LAMBDA_API_KEY": key}
    out = laptop("doctor", "lambda", code=2, env=env).stdout
    assert said in out
    assert f"     fix: {fix}" in out
    assert out.count("BAD  ") == out.count("     fix: ") == 1


def test_a_stored_key_that_is_refused_is_to_be_replaced(laptop):
    given(laptop, WRONG)
    out = laptop("doctor", "lambda", code=2).stdout
    assert "fix: make a new key in lambda's console, then `towline login lambda`" in out


def test_what_the_driver_advises_for_its_own_refusal_is_kept(laptop, monkeypatch, capsys):
    async def refused(_driver):
        raise errors.ProviderAuthError("it may not list", hint="its policy must allow listing")

    monkeypatch.setattr(LambdaCloud, "list_tagged", refused)
    assert in_process(laptop, monkeypatch, "doctor", "lambda") == 2
    assert capsys.readouterr().out.splitlines() == [
        "BAD  provider lambda: it may not list, api key from LAMBDA_API_KEY",
        "     fix: its policy must allow listing",
    ]


def test_doctor_says_when_nothing_is_in_stock(laptop, cloud):
    cloud.sold_out |= {(name, region) for name, one in fake.TYPES.items() for region in one[3]}
    out = laptop("doctor", "lambda", code=2, **exported(laptop)).stdout
    assert "BAD  lambda offers: 4 offers, 0 of them may be in stock" in out
    assert "fix: nothing is in stock now; try again later" in out


def test_doctor_shows_each_finding_of_a_provider_with_its_fix(laptop, cloud, monkeypatch, capsys):
    findings = [
        Finding("key", "accepted"),
        Finding("project", "there is none", "make one in the console"),
        Finding("network", "project p has none", "add a network to it"),
    ]

    async def check(_driver):
        return findings

    monkeypatch.setattr(LambdaCloud, "check", check)
    assert in_process(laptop, monkeypatch, "doctor", "lambda") == 2
    assert capsys.readouterr().out.splitlines()[1:6] == [
        "ok   lambda key: accepted",
        "BAD  lambda project: there is none",
        "     fix: make one in the console",
        "BAD  lambda network: project p has none",
        "     fix: add a network to it",
    ]


def test_a_provider_that_stays_silent_is_given_up(laptop, cloud, monkeypatch, capsys):
    async def forever(_driver):
        import asyncio

        await asyncio.Event().wait()

    monkeypatch.setattr(doctor_module, "_ANSWER_S", 0.2)
    monkeypatch.setattr(LambdaCloud, "check", forever)
    began = time.monotonic()
    assert in_process(laptop, monkeypatch, "doctor", "lambda") == 2
    assert time.monotonic() - began < 10
    out = capsys.readouterr().out
    assert "BAD  lambda account: no answer within" in out
    assert "fix: check the network, then try again" in out


def test_a_file_that_others_can_read_is_a_finding(laptop):
    given(laptop)
    accounts_file(laptop).chmod(0o640)
    out = laptop("doctor", code=2).stdout
    assert "BAD  keys: others can read the keys in" in out
    assert f"fix: chmod 600 {accounts_file(laptop)}" in out
    assert "ok   provider local: answers" in out


def test_gc_sweeps_what_it_can_when_the_stored_keys_can_not_be_read(laptop):
    given(laptop)
    laptop.config.write_text("")
    accounts_file(laptop).chmod(0o640)
    found = laptop.json("gc", "--dry-run", code=4)
    assert [one["provider"] for one in found["unreachable"]] == ["accounts"]
    assert "chmod 600" in found["unreachable"][0]["hint"]


def in_process(laptop, monkeypatch, *arguments):
    from towline.cli.main import run_command

    for name in ("TOWLINE_HOME", "TOWLINE_CONFIG"):
        monkeypatch.setenv(name, laptop.env[name])
    monkeypatch.setenv("LAMBDA_API_KEY", KEY)
    monkeypatch.setattr("towline.cli.text.Out.take_logs", lambda _out: None)
    return run_command(list(arguments))


# -- safety ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "short", "words"),
    [
        ({}, "A, gc only", ["can't end itself", "billing when powered off not known", "no tags"]),
        ({"end_self_argv": ("x",)}, "A, ends itself", ["ends itself"]),
        ({"server_ttl": True}, "A, time limit", ["server-side time-to-live"]),
        ({"powered_off_bills": True, "spot": True}, "A, gc only", ["bills when powered off", "spot"]),
        ({"powered_off_bills": False}, "A, gc only", ["no bill when powered off"]),
        ({"idempotency_key": True}, "A, gc only", ["idempotency key"]),
        ({"rented": False}, "A, gc only", ["nothing is rented"]),
    ],
)  # fmt: skip
def test_the_safety_is_said_as_it_is(features, short, words):
    found = Features(host_key_grade="A", **features)
    assert safety_short(found) == short
    said = safety_words(found)
    assert said[0] == "host key A (known when it is made)"
    assert all(any(one.startswith(word) for one in said) for word in words)


def test_the_safety_as_data_leaves_nothing_out_that_is_safety():
    other = {"sole_owner", "settle_s", "containers", "password_login", "boot_s", "end_self_argv"}
    other.add("free")  # an offer's price says it
    other.add("shares_host")  # where the guard may not settle in; its grade is told at connect
    other.add("leftovers")
    other.add("host_key_late")  # when the key is there; how well it is known is the grade's to say
    fields = {field.name for field in dataclasses.fields(Features)}
    assert set(Features(host_key_grade="B").data()) - {"ends_itself"} == fields - other


@pytest.mark.parametrize("grade", ["A", "B", "C", "U"])
def test_every_grade_has_its_words(grade):
    assert safety_words(Features(host_key_grade=grade))[0].startswith(f"host key {grade} (")


def test_the_error_that_no_key_is_there_names_both_ways(laptop):
    laptop.write("name: n\ncommand: 'true'\nresources: {provider: lambda}\n")
    done = laptop("plan", code=2)
    assert "`towline login lambda` stores it, or export LAMBDA_API_KEY" in done.stderr
    assert errors.CredentialsError.exit_code == 2
