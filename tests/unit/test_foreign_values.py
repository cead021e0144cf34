"""What other programs write as a time, as milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.formats.values import milliseconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=-9, minutes=-30))])


@given(st.datetimes(datetime(1950, 1, 1), datetime(9000, 1, 1)), ZONES)
def test_a_time_is_rounded_to_the_nearest_millisecond_half_of_one_to_an_even_number(
    moment: datetime, zone: timezone | None
) -> None:
    since = moment.replace(tzinfo=zone or UTC) - EPOCH
    exact = round(Fraction(since // timedelta(microseconds=1), 1000))
    assert milliseconds(moment.replace(tzinfo=zone).isoformat()) == max(0, exact)


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("2026-01-08T09:03:04.123Z", 1_767_862_984_123),
        ("2026-01-08T09:03:04Z", 1_767_862_984_000),
        ("1970-01-01T00:00:00.000500Z", 0),
        ("1970-01-01T00:00:00.001500Z", 2),
        ("1969-12-31T23:59:59.999Z", 0),
        (1_767_862_984, 1_767_862_984_000),
        (1_767_862_984_123, 1_767_862_984_123),
        (1_767_862_984.1236, 1_767_862_984_124),
        ("yesterday", None),
        ("", None),
        (True, None),
        (-1, None),
        (float("inf"), None),
        (None, None),
        ([], None),
    ],
)
def test_what_is_a_time_and_what_is_none(value: Any, ms: int | None) -> None:
    assert milliseconds(value) == ms
