"""Promise 5: durations, sizes and money mean what people read and write."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.core.units import Duration, count_text, seconds_text, size_text, usd_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        (90, 90),
        (0, 0),
        (0.25, 0.25),
        ("120s", 120),
        ("10m", 600),
        ("6h", 21_600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172_800),
        ("0.5h", 1800),
        (" 15 m ", 900),
    ],
)
def test_a_duration_is_read_in_every_form(text, seconds):
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "h", "1x", "1h x", "-1", "-1h", "1.2.3h", "nan", "inf", "1e400", "9" * 400, "1h-"]
    + ["9" * 400 + "h", True, None, -1, -0.5, math.nan, math.inf, 10**400, [], {}],
)
def test_what_is_no_duration_is_refused_with_a_value_error(text):
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(text)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_parts_add_up(days, hours, minutes, seconds):
    text = f"{days}d{hours}h{minutes}m{seconds}s"
    assert Duration.parse(text) == days * 86_400 + hours * 3600 + minutes * 60 + seconds


@given(st.floats(0, 1e12))
def test_a_duration_survives_its_own_number(seconds):
    once = Duration.parse(seconds)
    assert Duration.parse(once) == once == Duration.parse(float(once))
    assert Duration.parse(f"{seconds:.6f}s") == pytest.approx(seconds, abs=1e-6)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.text("0123456789.smhd -+e"), st.integers(), st.floats()))
def test_any_input_is_a_finite_duration_or_a_value_error(value):
    try:
        seconds = Duration.parse(value)
    except ValueError:
        return
    assert 0 <= seconds < math.inf


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.42, "0.4 s"),
        (12, "12 s"),
        (59, "59 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7620, "2 h 07 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_seconds_are_said_as_people_say_them(seconds, text):
    assert seconds_text(seconds) == text


@given(st.floats(0, 1e9))
def test_a_duration_said_is_close_to_the_duration(seconds):
    text = seconds_text(seconds)
    said = Duration.parse(text.replace("min", "m"))
    assert abs(said - seconds) <= (60 if "h" in text else 1)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (512, "512 B"), (999, "999 B"), (1000, "1.0 kB"), (1_400_000, "1.4 MB")]
    + [(2_500_000_000, "2.5 GB"), (7.1e12, "7.1 TB"), (5e15, "5000.0 TB")],
)
def test_sizes_are_decimal(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0, "$0.00"), (0.004, "$0.004"), (0.099, "$0.099"), (0.1, "$0.10"), (12.345, "$12.35")],
)
def test_small_money_keeps_a_third_digit(usd, text):
    assert usd_text(usd) == text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ((1, "file"), "1 file"),
        ((2, "file"), "2 files"),
        ((0, "file"), "0 files"),
        ((1797, "file"), "1,797 files"),
        ((3, "entry", "entries"), "3 entries"),
    ],
)
def test_counts_agree_with_their_noun(call, text):
    assert count_text(*call) == text
