"""Times as providers' APIs write them, read back."""

import pytest

from towline.providers.times import rfc3339, utc_seconds


def test_a_time_survives_being_written_and_read():
    assert utc_seconds(rfc3339(1_790_000_000.7)) == 1_790_000_000


def test_a_written_time_names_its_zone():
    assert rfc3339(0.0) == "1970-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02T00:00:00Z", 86400.0),
        ("1970-01-02T00:00:00", 86400.0),
        ("1970-01-02T02:00:00.250+02:00", 86400.25),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_what_is_read(text, seconds):
    assert utc_seconds(text) == seconds
