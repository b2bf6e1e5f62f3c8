"""Delays grow up to their limit and never end."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from towline.core.backoff import delays


def test_delays_double_up_to_the_limit():
    assert list(islice(delays(0.25, 3.0), 7)) == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


@given(st.floats(0.001, 10), st.floats(0.001, 100), st.floats(1, 10))
def test_delays_never_shrink_and_never_pass_the_limit(first, limit, factor):
    found = list(islice(delays(first, limit, factor), 200))
    assert found == sorted(found)
    assert found[0] == min(first, limit)
    assert max(found) <= limit


def test_a_constant_delay_is_possible():
    assert list(islice(delays(2.0, 5.0, factor=1.0), 3)) == [2.0, 2.0, 2.0]
