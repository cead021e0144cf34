"""The filters and orders of the dual store: what each operator says, and what is refused by name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nomad_sessions import InvalidInputError
from nomad_sessions.dualstore.filters import checked, checked_sort, matches, ordered

ENTRY = {
    "id": "a",
    "text": "Hello World",
    "timestamp": 5,
    "metadata": {"role": "user", "n": 3, "tags": ["x"], "no": None},
}


@pytest.mark.parametrize(
    ("wanted", "holds"),
    [
        ({}, True),
        ({"id": "a"}, True),
        ({"id": "b"}, False),
        ({"metadata.role": "user", "metadata.n": 3}, True),
        ({"metadata.n": True}, False),
        ({"metadata.tags": "x"}, True),
        ({"metadata.none": None}, True),
        ({"metadata.no": None}, True),
        ({"metadata.n": {"$gt": 2, "$lte": 3}}, True),
        ({"metadata.n": {"$lt": 3}}, False),
        ({"metadata.role": {"$gt": 2}}, False),
        ({"metadata.none": {"$lt": 2}}, False),
        ({"createdAt": {"$gte": 5}}, True),
        ({"metadata.role": {"$in": ["user", "tool"]}}, True),
        ({"metadata.role": {"$nin": ["user"]}}, False),
        ({"metadata.none": {"$ne": 1}}, True),
        ({"metadata.none": {"$nin": [1]}}, True),
        ({"metadata.no": {"$exists": True}}, True),
        ({"metadata.none": {"$exists": False}}, True),
        ({"text": {"$regex": "^hello", "$options": "i"}}, True),
        ({"text": {"$regex": "^hello"}}, False),
        ({"text": re.compile("World$")}, True),
        ({"text": {"$nin": [None, ""], "$not": re.compile(r"^\s*$")}}, True),
        ({"text": {"$not": {"$regex": "World"}}}, False),
        ({"$or": [{"id": "b"}, {"metadata.n": {"$eq": 3}}]}, True),
        ({"$and": [{"id": "a"}, {"id": "b"}]}, False),
    ],
)
def test_an_operator_says_what_it_says_in_mongodb(wanted: dict[str, Any], holds: bool) -> None:
    assert matches(ENTRY, checked(wanted)) is holds


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ([], "filter"),
        ({"$where": "1"}, r"filter\.\$where"),
        ({"id": {"$near": 1}}, r"filter\.id\.\$near"),
        ({"id": {"$not": {"$size": 1}}}, r"filter\.id\.\$not\.\$size"),
        ({"$or": []}, r"filter\.\$or"),
        ({"$or": [{"$nor": []}]}, r"filter\.\$or\.\$nor"),
        ({"id": {"$in": "a"}}, r"filter\.id\.\$in"),
        ({"id": {"$regex": "("}}, r"filter\.id\.\$regex"),
        ({"id": {"$regex": 3}}, r"filter\.id\.\$regex"),
        ({"id": {"$regex": "a", "$options": "x"}}, r"filter\.id\.\$options"),
        ({"id": {"$not": 3}}, r"filter\.id\.\$not"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(wanted: Any, named: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{named}: "):
        checked(wanted)


def test_orders_are_stable_and_mixed_values_have_one() -> None:
    rows = [
        {"id": str(n), "timestamp": n % 3, "metadata": {"v": v}} for n, v in enumerate([3, "x", None, True, [1], 1.5])
    ]
    assert [each["id"] for each in ordered(rows, checked_sort(None))] == ["2", "5", "1", "4", "0", "3"]
    assert [each["id"] for each in ordered(rows, checked_sort({"timestamp": 1, "id": -1}))] == [
        "3",
        "0",
        "4",
        "1",
        "5",
        "2",
    ]
    assert [each["id"] for each in ordered(rows, checked_sort([("metadata.v", 1)]))] == ["2", "5", "0", "1", "3", "4"]
    for wrong in ({"timestamp": 0}, {"timestamp": True}, ["timestamp"], [("timestamp", 1, 2)]):
        with pytest.raises(InvalidInputError, match="sort"):
            checked_sort(wrong)  # type: ignore[arg-type]
