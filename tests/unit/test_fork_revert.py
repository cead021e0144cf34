"""Forks are whole whatever happens to the other side; reverts hide until the next message makes them final."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nomad_sessions import InvalidInputError, MessageNotFoundError, NativeSessionManager

WS = "ws"


@pytest.fixture
def m(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s", title="talk", metadata={"k": [1]})
    m.add_messages(WS, "s", [{"id": f"m{n}", "role": "user", "content": f"text {n}"} for n in range(4)])
    return m


def shown(m: NativeSessionManager, session_id: str, *, hidden: bool = False) -> list[str]:
    """The contents, as this handle and one of its own see them."""
    other = NativeSessionManager(m.data_dir)
    pages = [each.get_session_messages(WS, session_id, include_reverted=hidden) for each in (m, other)]
    session = other.get_session(WS, session_id)
    other.close()
    assert pages[0] == pages[1]
    assert session == m.get_session(WS, session_id)
    if not hidden and session is not None:
        assert session.message_ids == [each.id for each in pages[0]]
    return [each.content for each in pages[0]]


def texts(*numbers: int) -> list[str]:
    return [f"text {number}" for number in numbers]


def test_a_fork_copies_the_visible_messages_under_new_ids(m: NativeSessionManager) -> None:
    fork = m.fork_session(WS, "s")
    assert (fork.title, fork.parent_id, fork.metadata) == ("talk (fork)", "s", {"k": [1]})
    assert fork.forked_from is not None
    assert (fork.forked_from.session_id, fork.forked_from.message_id) == ("s", "m3")
    page = m.get_session_messages(WS, fork.id)
    assert shown(m, fork.id) == texts(0, 1, 2, 3)
    assert [each.origin_id for each in page] == ["m0", "m1", "m2", "m3"]
    assert {each.session_id for each in page} == {fork.id}
    assert not {each.id for each in page} & {"m0", "m1", "m2", "m3"}
    originals = m.get_session_messages(WS, "s")
    assert [each.created_at for each in page] == [each.created_at for each in originals]


def test_a_fork_at_a_message_copies_up_to_and_including_it(m: NativeSessionManager) -> None:
    fork = m.fork_session(WS, "s", message_id="m1", title="mine")
    assert (fork.title, shown(m, fork.id)) == ("mine", texts(0, 1))
    nested = m.fork_session(WS, fork.id)
    assert (nested.title, nested.parent_id) == ("mine (fork)", "s")
    assert nested.forked_from is not None
    assert nested.forked_from.session_id == fork.id
    empty = m.fork_session(WS, m.create_session(WS).id)
    assert (empty.message_ids, empty.title) == ([], "New Session (fork)")
    assert empty.forked_from is not None
    assert empty.forked_from.message_id is None


def test_a_fork_of_a_reverted_session_has_what_is_visible(m: NativeSessionManager) -> None:
    m.revert(WS, "s", "m1")
    fork = m.fork_session(WS, "s")
    assert fork.revert is None
    assert shown(m, fork.id) == texts(0, 1)
    with pytest.raises(MessageNotFoundError):
        m.fork_session(WS, "s", message_id="m3")
    m.unrevert(WS, "s")
    assert shown(m, fork.id, hidden=True) == texts(0, 1)


def on_each(m: NativeSessionManager, session_id: str, call: Callable[[str, str], None]) -> None:
    for message in m.get_session_messages(WS, session_id):
        call(WS, message.id)


HARM: list[Callable[[NativeSessionManager, str], object]] = [
    lambda m, each: m.delete_session(WS, each),
    lambda m, each: m.revert(WS, each, m.get_session_messages(WS, each)[0].id),
    lambda m, each: on_each(m, each, m.delete_message),
    lambda m, each: [m.update_message(WS, one.id, content="gone") for one in m.get_session_messages(WS, each)],
    lambda m, each: on_each(m, each, lambda ws, one: m.append_to_message(ws, one, "more")),
    lambda m, each: m.move_session(WS, each, to_workspace="other"),
]


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("harmed", ["original", "fork"])
def test_neither_side_can_change_the_other(
    m: NativeSessionManager, harm: Callable[[NativeSessionManager, str], object], fold: bool, harmed: str
) -> None:
    m.append_to_message(WS, "m2", "!")
    m.update_message(WS, "m3", agent="a")
    fork = m.fork_session(WS, "s").id
    if fold:
        m.checkpoint(WS)
    sides = {"original": "s", "fork": fork}
    other = sides["fork" if harmed == "original" else "original"]
    before = m.get_session_messages(WS, other)
    harm(m, sides[harmed])
    for _ in range(2):
        assert shown(m, other) == ["text 0", "text 1", "text 2!", "text 3"]
        assert m.get_session_messages(WS, other) == before
        m.checkpoint(WS)
    m.add_message(WS, other, role="user", content="goes on")
    assert shown(m, other)[-1] == "goes on"
    assert m.check(WS).ok


def test_revert_keeps_the_message_and_hides_what_follows(m: NativeSessionManager) -> None:
    session = m.revert(WS, "s", "m1", reason="wrong way")
    assert session.revert is not None
    assert (session.revert.message_id, session.revert.reason) == ("m1", "wrong way")
    assert shown(m, "s") == texts(0, 1)
    assert shown(m, "s", hidden=True) == texts(0, 1, 2, 3)
    assert m.get_message(WS, "m3") is not None
    assert m.stats(WS).reverted_messages == 2


def test_revert_without_a_message_hides_the_last_one(m: NativeSessionManager) -> None:
    for left in (3, 2, 1, 0, 0):
        session = m.revert(WS, "s")
        assert shown(m, "s") == texts(*range(left))
    assert session.revert is not None
    assert session.revert.message_id == ""
    assert m.unrevert(WS, "s").revert is None
    assert shown(m, "s") == texts(0, 1, 2, 3)


def test_unrevert_brings_everything_back_until_the_next_message(m: NativeSessionManager) -> None:
    m.revert(WS, "s", "m2")
    m.revert(WS, "s", "m0")
    m.checkpoint(WS)
    m.unrevert(WS, "s")
    assert shown(m, "s") == texts(0, 1, 2, 3)
    m.revert(WS, "s", "m1")
    m.add_message(WS, "s", role="user", content="instead")
    assert shown(m, "s", hidden=True) == [*texts(0, 1), "instead"]
    assert m.unrevert(WS, "s").revert is None
    assert shown(m, "s") == [*texts(0, 1), "instead"]
    assert m.get_message(WS, "m2") is None
    m.checkpoint(WS)
    assert shown(m, "s", hidden=True) == [*texts(0, 1), "instead"]


def test_a_hidden_message_that_is_added_again_is_a_new_one(m: NativeSessionManager) -> None:
    m.revert(WS, "s", "m1")
    m.add_message(WS, "s", role="user", content="again", id="m3")
    for _ in range(2):
        assert shown(m, "s", hidden=True) == [*texts(0, 1), "again"]
        m.checkpoint(WS)
    assert m.check(WS).ok


def test_what_a_revert_hides_can_be_changed_and_deleted(m: NativeSessionManager) -> None:
    m.revert(WS, "s", "m1")
    m.update_message(WS, "m2", content="changed")
    m.delete_message(WS, "m3")
    assert shown(m, "s", hidden=True) == [*texts(0, 1), "changed"]
    m.delete_message(WS, "m2")
    assert m.unrevert(WS, "s").revert is None
    assert shown(m, "s", hidden=True) == texts(0, 1)


def test_the_message_of_a_revert_must_be_visible_in_the_session(m: NativeSessionManager) -> None:
    other = m.create_session(WS).id
    for session_id, message_id in ((other, "m1"), ("s", "nobody"), ("s", "")):
        with pytest.raises(MessageNotFoundError):
            m.revert(WS, session_id, message_id)
    assert m.revert(WS, "s", "m3").revert is None
    with pytest.raises(InvalidInputError):
        m.revert(WS, "s", "m1", reason=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        m.fork_session(WS, "s", title=5)  # type: ignore[arg-type]
    assert shown(m, "s") == texts(0, 1, 2, 3)


def test_several_hidden_messages_that_are_added_again_are_new_ones(m: NativeSessionManager) -> None:
    m.revert(WS, "s", "m0")
    again = [{"id": each, "role": "user", "content": f"new {each}"} for each in ("m3", "m1", "m3")]
    assert [each.id for each in m.add_messages(WS, "s", again)] == ["m3", "m1", "m3"]
    for _ in range(2):
        assert shown(m, "s", hidden=True) == ["text 0", "new m3", "new m1"]
        m.checkpoint(WS)


def test_a_long_chain_of_forks_is_read(m: NativeSessionManager) -> None:
    current = "s"
    for _ in range(60):
        current = m.fork_session(WS, current, title="f").id
    m.delete_session(WS, "s")
    assert shown(m, current) == texts(0, 1, 2, 3)
