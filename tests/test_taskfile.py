"""Promise 5 at the start: whatever is wrong in a task file is named with file, line and key."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline import errors, taskfile
from towline.core.task import Artifacts, Keep, Limits, Resources, TaskSpec
from towline.core.units import Duration


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "towline.yaml"

    def write(text):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path):
    with pytest.raises(errors.SpecError) as caught:
        taskfile.load(path)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert str(path) in message
    return message.replace(str(path), "FILE")


PROMISED = """
name: shapes                     # default: folder name
dataset: ./dataset
code: .
framework: yolo
settings: {model: yolo11n, epochs: 50, batch: 16, imgsz: 640}
command: python train.py
requirements: requirements.txt   # or a list
image: pytorch/pytorch:latest
env: {WANDB_MODE: offline}
secrets: [HF_TOKEN]
resources: {provider: [canopywave, lambda], gpu: "H100:1", region: any, max_price_per_hour: 3.5,
            spot: false, disk_gb: 100}
limits: {max_cost: 10, max_duration: 6h, ssh_timeout: 120s, boot_timeout: 10m, gather_grace: 60m,
         stall_after: 30m}
artifacts: {model: "output/**/best.pt", outputs: ["output/**"], checkpoint_every: 10m}
on_success: terminate            # or keep: 30m
on_failure: {keep: 30m}
"""


def test_the_promised_task_file_is_read(written):
    task = taskfile.load(written(PROMISED))
    assert task.name == "shapes"
    assert task.settings == {"model": "yolo11n", "epochs": 50, "batch": 16, "imgsz": 640}
    assert task.resources.provider == ["canopywave", "lambda"]
    assert task.limits.max_duration == 6 * 3600
    assert isinstance(task.limits.max_duration, Duration)
    assert task.artifacts.checkpoint_every == 600
    assert task.on_success == "terminate"
    assert task.on_failure == Keep(keep=Duration(1800))


@pytest.mark.parametrize("text", ["", "# nothing but a remark\n", "limits:\nenv:\n"])
def test_what_is_left_out_is_its_default(written, text):
    assert taskfile.load(written(text)) == TaskSpec()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("naem: x\n", "FILE:1: unknown key 'naem'; did you mean 'name'?"),
        ("name: x\n\nlimit: {}\n", "FILE:3: unknown key 'limit'; did you mean 'limits'?"),
        (
            "limits:\n  max_duration: 6h\n  max_cst: 3\n",
            "FILE:3: unknown key 'limits.max_cst'; did you mean 'max_cost'?",
        ),
        ("artifacts: {modle: a}\n", "FILE:1: unknown key 'artifacts.modle'; did you mean 'model'?"),
        ("resources:\n  gpus: A100\n", "FILE:2: unknown key 'resources.gpus'; did you mean 'gpu'?"),
        ("on_success:\n  kep: 30m\n", "FILE:2: unknown key 'on_success.kep'; did you mean 'keep'?"),
        ("naem:\n", "FILE:1: unknown key 'naem'; did you mean 'name'?"),
    ],
)
def test_an_unknown_key_names_file_line_key_and_nearest(written, text, message):
    assert message in refusal(written(text))


def test_a_key_far_from_any_lists_the_known_ones(written):
    message = refusal(written("zzzqqq: 1\n"))
    assert "known keys: " in message
    assert all(field.name in message for field in dataclasses.fields(TaskSpec))
    nested = refusal(written("limits: {zzzqqq: 1}\n"))
    assert all(field.name in nested for field in dataclasses.fields(Limits))


def test_every_mistake_is_named_at_once(written):
    message = refusal(written("naem: x\nlimits: {max_cst: 1}\nupload: fast\n"))
    assert all(f"FILE:{line}: " in message for line in (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("name: 3\n", "FILE:1: name: "),
        ("name: yes\n", "FILE:1: name: "),
        ("dataset: [a]\n", "FILE:1: dataset: "),
        ("env:\n  OK: a\n  A: 1\n", "FILE:3: env.A: "),
        ("env: text\n", "FILE:1: env: a mapping of keys"),
        ("limits: 5\n", "FILE:1: limits: a mapping of keys"),
        ("settings:\n  a: 1\n  b: [1]\n", "FILE:3: settings.b: "),
        ("secrets: HF_TOKEN\n", "FILE:1: secrets: "),
        ("secrets:\n- A\n- 2\n", "FILE:3: secrets.1: "),
        ("requirements:\n- a\n- 2\n", "FILE:3: requirements.1: "),
        ("requirements: 7\n", "FILE:1: requirements: "),
        ("resources: {provider: 3}\n", "FILE:1: resources.provider: "),
        ("resources: {spot: maybe}\n", "FILE:1: resources.spot: "),
        ("limits: {max_cost: lots}\n", "FILE:1: limits.max_cost: "),
        ("upload: fast\n", "FILE:1: upload: Input should be 'auto', 'stream', 'zip' or 'files'"),
        ("on_success: keep\n", "FILE:1: on_success: "),
        ("on_success: {}\n", "FILE:1: on_success.keep: Field required"),
        ("on_success: [keep]\n", "FILE:1: on_success: "),
        ("1: 2\n", "FILE:1: "),
    ],
)
def test_a_wrong_type_names_file_line_and_key_once(written, text, place):
    message = refusal(written(text))
    assert message.startswith(place)
    assert message.count("FILE") == 1


def test_a_wrong_keep_says_what_would_be_right(written):
    assert "'terminate', or `keep: 30m`" in refusal(written("on_failure: keep 30m\n"))


@pytest.mark.parametrize("duration", ["soon", "-1", "-1h", ".inf", ".nan", "''", "1e99", "[1]"])
@pytest.mark.parametrize("key", ["limits: {boot_timeout", "on_success: {keep"])
def test_a_wrong_duration_names_its_line(written, key, duration):
    message = refusal(written(f"name: x\n{key}: {duration}}}\n"))
    assert message.startswith("FILE:2: ")
    assert "duration" in message


@pytest.mark.parametrize(
    ("written_as", "seconds"), [("90", 90), ("90s", 90), ("1h30m", 5400), ("2d", 172_800)]
)
def test_durations_are_read(written, written_as, seconds):
    task = taskfile.load(written(f"limits: {{max_duration: {written_as}}}\n"))
    assert task.limits.max_duration == seconds


@pytest.mark.parametrize("number", ["-1", ".nan", ".inf", "-.inf"])
@pytest.mark.parametrize("key", ["limits: {max_cost", "resources: {max_price_per_hour"])
def test_money_is_a_finite_amount(written, key, number):
    assert refusal(written(f"{key}: {number}}}\n")).startswith("FILE:1: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\nname: b\n", 2),
        ("limits:\n  max_cost: 1\n  max_cost: 2\n", 3),
        ("env: {A: x, B: y, A: z}\n", 1),
        ("name: a\n'name': b\n", 2),
    ],
)
def test_a_doubled_key_is_refused(written, text, line):
    message = refusal(written(text))
    assert message.startswith(f"FILE:{line}: ")
    assert "stands twice" in message


@pytest.mark.parametrize(
    "text",
    [
        "name: &a x\nframework: *a\n",
        "env: &e {A: x}\nsettings: *e\n",
        "env:\n  <<: &e {A: x}\nsettings: {<<: *e}\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    ],
)
def test_aliases_are_refused(written, text):
    assert "aliases" in refusal(written(text))


@pytest.mark.parametrize(
    "text",
    [
        "name: [\n",
        "a: b: c\n",
        "\tname: x\n",
        "name: x\n---\nname: y\n",
        'name: "a\x00b"\n',
        "- a\n",
        "hello\n",
        "? [a, b]\n: 1\n",
        "? {a: 1}\n: 1\n",
        "{" * 50_000,
        "[" * 50_000,
        "env: " + "{a: " * 5_000 + "1" + "}" * 5_000,
        "name: 2024-99-99\n",
        "name: !!bool maybe\n",
        "name: !!int abc\n",
        "name: !!float abc\n",
        "name: !!timestamp x\n",
        "name: !!binary ä\n",
        "settings: {a: " + "1" * 5000 + "}\n",
        "name: !!python/object/apply:os.getcwd []\n",
        "name: !include other.yaml\n",
        b"\xff\xfen\x00a\x00",
        b"name: \xe9t\xe9\n",
    ],
)
def test_what_is_no_task_file_is_refused_in_one_line_of_plain_words(written, text):
    message = refusal(written(text))
    assert "Traceback" not in message
    assert len(message) < 2000


def test_broken_yaml_names_its_line(written):
    assert refusal(written("name: x\ncode: [a\nframework: y\n")).startswith(
        "FILE:3: not valid YAML"
    )


@settings(max_examples=150, deadline=None)
@given(st.text("ab:-[]{}&*!?|>'\"#% \n\t,01.~<=", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_task_or_a_spec_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, "utf-8", errors="surrogatepass")
    try:
        assert isinstance(taskfile.load(path), TaskSpec)
    except errors.SpecError as error:
        assert str(path) in str(error)


def test_a_file_too_large_is_not_even_parsed(written):
    assert "1 MB" in refusal(written("name: x\n" + "# filler\n" * 250_000))


def test_what_cannot_be_read_says_why(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.yaml")
    assert refusal(tmp_path)  # a folder


def test_a_byte_order_mark_does_no_harm(written):
    assert taskfile.load(written(b"\xef\xbb\xbfname: x\r\ncode: .\r\n")).name == "x"


def test_validate_names_the_place_it_was_told():
    with pytest.raises(errors.SpecError, match="^--set: unknown key 'naem'"):
        taskfile.validate({"naem": 1}, where="--set")


durations = st.integers(0, 10**6).map(Duration)
words = st.text(min_size=1, max_size=8)
keeps = st.just("terminate") | st.builds(Keep, keep=durations)
money = st.none() | st.floats(0, 1e6)
tasks = st.builds(
    TaskSpec,
    name=st.none() | words,
    dataset=st.none() | words,
    code=st.none() | words,
    command=st.none() | words,
    settings=st.dictionaries(words, words | st.integers() | st.booleans() | st.none(), max_size=3),
    requirements=st.none() | words | st.lists(words, max_size=3),
    env=st.dictionaries(words, words, max_size=3),
    secrets=st.lists(words, max_size=3),
    resources=st.builds(
        Resources, provider=st.none() | words | st.lists(words), max_price_per_hour=money
    ),
    limits=st.builds(
        Limits, max_cost=money, max_duration=st.none() | durations, ssh_timeout=durations
    ),
    artifacts=st.builds(Artifacts, model=st.none() | words, outputs=st.lists(words, max_size=3)),
    on_success=keeps,
    on_failure=keeps,
    upload=st.sampled_from(["auto", "stream", "zip", "files"]),
)


@settings(max_examples=100, deadline=None)
@given(tasks)
def test_a_stored_task_reads_back_the_same(task):
    stored = json.loads(json.dumps(taskfile.as_data(task)))
    again = taskfile.validate(stored)
    assert again == task
    assert isinstance(again.limits.ssh_timeout, Duration)
    assert type(again.on_success) is type(task.on_success)


@settings(max_examples=50, deadline=None)
@given(tasks)
def test_a_task_of_this_version_is_read_whole_from_the_journal(task):
    stored = json.loads(json.dumps(taskfile.as_data(task)))
    assert taskfile.as_stored(stored, "it") == (task, [])


@pytest.mark.parametrize(
    ("stored", "left"),
    [
        ({"priority": 3}, ["priority"]),
        ({"resources": {"gpu": "H100", "tenancy": "shared"}}, ["resources.tenancy"]),
        ({"limits": {"max_cost": -1, "max_duration": 60}}, ["limits.max_cost"]),
        ({"limits": {"stall_after": "soon", "max_cost": 5}}, ["limits.stall_after"]),
        ({"limits": "none"}, ["limits"]),
        ({"on_success": {"hold": "30m"}}, ["on_success"]),
        ({"on_success": "snapshot"}, ["on_success"]),
        ({"secrets": ["A", 5, "B", {}]}, ["secrets.3", "secrets.1"]),
        ({"upload": "quic", "env": {"A": {"from": "vault"}, "B": "b"}}, ["upload", "env.A"]),
        (
            {"a": 1, "b": {"c": [1]}, "limits": {"x": {}, "y": []}},
            ["limits.y", "limits.x", "b", "a"],
        ),
    ],
)
def test_what_another_version_stored_is_read_as_far_as_it_goes(stored, left):
    task, said = taskfile.as_stored(stored | {"name": "job"}, "the stored task")
    assert task.name == "job"
    assert len(said) >= len(left)
    for key in left:
        assert any(f" {key!r};" in one or f" {key}" in one for one in said), (key, said)


def test_of_a_section_only_what_is_not_understood_is_left_out():
    stored = {"limits": {"max_cost": -1, "max_duration": 60, "new": 1}, "secrets": ["A", 5, "B"]}
    task, _left = taskfile.as_stored(stored, "it")
    assert task.limits == Limits(max_duration=Duration(60))
    assert task.secrets == ["A", "B"]


def described(schema, name):
    ref = schema["properties"][name]
    ref = ref.get("$ref") or ref.get("allOf", [{}])[0].get("$ref")
    return schema["$defs"][ref.rpartition("/")[2]]


def test_the_schema_covers_every_key_and_no_other():
    schema = taskfile.json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/draft/2020-12")
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(TaskSpec)}
    assert schema["additionalProperties"] is False
    for name, kind in (("resources", Resources), ("limits", Limits), ("artifacts", Artifacts)):
        section = described(schema, name)
        assert set(section["properties"]) == {field.name for field in dataclasses.fields(kind)}
        assert section["additionalProperties"] is False
    assert json.loads(json.dumps(schema)) == schema


def test_every_reference_of_the_schema_leads_somewhere():
    schema = taskfile.json_schema()
    kinds = {"object", "array", "string", "number", "integer", "boolean", "null"}

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
            said = node.get("type", [])
            if isinstance(said, str | list) and "properties" not in said:
                assert set([said] if isinstance(said, str) else said) <= kinds
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(schema)


def test_the_schema_knows_what_a_duration_may_be():
    limits = described(taskfile.json_schema(), "limits")["properties"]
    text = json.dumps(limits["boot_timeout"])
    assert "number" in text
    assert "string" in text
