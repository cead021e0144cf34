"""The embedder that needs nothing: deterministic, of words, and it says so."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import pytest

from nomad_sessions.embedders import HashingEmbedder, Vector
from nomad_sessions.errors import InvalidInputError

TEXTS = ["Reset my password", "réset MY pässword", "", "?!", "reset my my my password now", "ein ganz anderer Satz"]
CODE = """
import hashlib, sys
from nomad_sessions.embedders import HashingEmbedder
vectors = HashingEmbedder(64).embed(sys.argv[1:])
print(hashlib.sha256(repr(vectors).encode()).hexdigest())
"""


def near(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_the_same_text_gives_the_same_vector_everywhere_and_for_ever() -> None:
    vectors = HashingEmbedder(64).embed(TEXTS)
    digest = hashlib.sha256(repr(vectors).encode()).hexdigest()
    run = subprocess.run([sys.executable, "-c", CODE, *TEXTS], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == digest
    assert digest == "0fb096c7b90c98f45bcf86d36610d60ce66cd935c8cf7e189e89e80d8f6d705c"


def test_its_vectors_are_of_length_one_also_where_there_is_no_word() -> None:
    for vector in HashingEmbedder().embed(TEXTS):
        assert len(vector) == 384
        assert math.isclose(near(vector, vector), 1.0)


def test_words_count_and_case_and_accents_do_not() -> None:
    plain, accented, nothing, _, more, other = HashingEmbedder().embed(TEXTS)
    assert math.isclose(near(plain, accented), 1.0)
    assert near(plain, more) > 0.5 > near(plain, other)
    assert abs(near(plain, nothing)) < 0.2
    one, two = HashingEmbedder().embed(["testing", "tests"])
    assert near(one, two) == pytest.approx(0, abs=0.2)
    one, two = HashingEmbedder().embed(["slugifying", "slugified"])
    assert near(one, two) > 0.15


def test_it_says_that_it_knows_no_meaning() -> None:
    embedder = HashingEmbedder(64)
    assert not embedder.is_semantic
    assert (embedder.model, embedder.dimension) == ("hashing/64", 64)
    question, answer, cat = embedder.embed(["reset my password", "forgot login credentials", "my cat sleeps"])
    assert near(question, cat) > near(question, answer)


@pytest.mark.parametrize("dimension", [0, -1, 7, 4097])
def test_a_dimension_that_is_none_is_refused(dimension: int) -> None:
    with pytest.raises(InvalidInputError, match="dimension"):
        HashingEmbedder(dimension)
