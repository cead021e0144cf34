"""What becomes of a record when a machine says what it did to it: field by field the later change wins. Pure.

Invariant: writes to a record that nobody deletes may be joined in any order and any number of times, and end with the
same fields and stamps; what a field had and no longer has is named in a `Loss`, unless whoever wrote it over had seen
it. A deletion wins over what is older than itself, and over nothing that is newer. Verified by
`tests/properties/test_joining.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nomad_sessions.sync.target import Kind
from nomad_sessions.sync.two_way.arrangement import arrangement_of, combined
from nomad_sessions.sync.two_way.versions import ARRANGEMENT, LISTS, Stamp, Stamps, Version, Write
from nomad_sessions.workspace.comparing import same
from nomad_sessions.workspace.state import Body

__all__ = ["WHOLE", "Joined", "Loss", "by_unit", "first_version", "joined"]

WHOLE = ""
"""In place of a field's name: the record."""
_TIME = "updatedAt"
_APART = frozenset({*LISTS, _TIME})
_TOGETHER: dict[Kind, dict[str, tuple[str, ...]]] = {
    "message": {"content": ("content", "parts", "toolCalls", "toolCallId")},
    "session": {ARRANGEMENT: ("revert",)},
}
"""Fields that say one thing together, by the name under which they have one stamp: who writes one writes them all."""


class Loss(NamedTuple):
    """Two machines changed the same, neither knowing of the other: which field (`WHOLE` where one of them deleted it),
    the fields that stay and those that do not (None where that is gone), and the other machine's stamp."""

    field: str
    kept: Mapping[str, Any] | None
    lost: Mapping[str, Any] | None
    other: Stamp


class Joined(NamedTuple):
    """`version` is what is there from now on, None where that changes nothing; `fits` says that our store has the same,
    and `revived` that it was gone."""

    version: Version | None
    losses: list[Loss]
    fits: bool
    revived: bool = False


def joined(there: Version | None, write: Write, seen: Stamps | None, gone: Collection[str] = frozenset()) -> Joined:
    """What is there, after this write. `seen` are the stamps of what this machine had last seen there, if anything;
    `gone` are messages, of a session, that are known to be deleted."""
    if there is None:
        return Joined(first_version(write), [], fits=True)
    if write.body is None:
        return _deleting(there, write.gone or write.alive, seen)
    if there.body is None:
        return _reviving(there, write)
    return _changing(there, write, seen, gone)


def first_version(write: Write) -> Version | None:
    """A record that was not there; None where it is gone here as well."""
    if write.body is None:
        return None  # Made and deleted here, and nobody knew.
    base = write.whole or write.alive
    fields = {name: stamp for name, stamp in write.fields.items() if stamp != base}
    return Version(write.key, 1, dict(write.body), write.session_id, Stamps(base, fields, write.alive))


def _deleting(there: Version, at: Stamp, seen: Stamps | None) -> Joined:
    if there.body is None:
        if at <= there.stamps.alive:
            return Joined(None, [], fits=True)
    elif at < there.stamps.alive:
        return Joined(None, [Loss(WHOLE, there.body, None, there.stamps.alive)], fits=False)
    others = [] if there.body is None else list(_unseen(there.stamps, seen, at.machine))
    losses = [Loss(WHOLE, None, there.body, max(others))] if others else []
    return Joined(there._replace(number=there.number + 1, body=None, stamps=Stamps(at, {}, at)), losses, fits=True)


def _unseen(there: Stamps, seen: Stamps | None, machine: str) -> Iterator[Stamp]:
    """What others did to a record that this machine had not seen."""
    stamps = {there.base, there.alive, *there.fields.values()}
    before = set() if seen is None else {seen.base, seen.alive, *seen.fields.values()}
    yield from (each for each in stamps - before if each.machine != machine)


def _reviving(there: Version, write: Write) -> Joined:
    gone = there.stamps.alive
    if write.alive < gone:
        return Joined(None, [Loss(WHOLE, None, write.body, gone)], fits=False)
    made = first_version(write)
    assert made is not None, "only what has a body revives"
    return Joined(
        made._replace(number=there.number + 1), [Loss(WHOLE, write.body, None, gone)], fits=True, revived=True
    )


def _changing(there: Version, write: Write, seen: Stamps | None, gone: Collection[str]) -> Joined:
    assert there.body is not None
    assert write.body is not None
    body, stamps, owner = dict(there.body), dict(there.stamps.fields), there.session_id
    losses = []
    for name, ours in _written(there, write):
        theirs = there.stamps.of(name)
        if ours == theirs:
            continue
        members = _TOGETHER.get(there.key.kind, {}).get(name, (name,))
        mine, other = _of(write.body, members), _of(body, members)
        differs = not same(mine, other)
        unknown = seen is None or seen.of(name) != theirs
        if unknown and not write.certain and not mine:
            continue  # It may be new there: what is not here has hardly been taken away.
        unseen = unknown and theirs.machine != ours.machine
        if ours < theirs:
            if differs:
                losses.append(Loss(name, other, mine, theirs))
        elif differs or write.certain:
            stamps[name] = ours
            for member in members:
                body.pop(member, None)
            body |= mine
            owner = write.session_id if name == "sessionId" else owner
            if differs and unseen:
                losses.append(Loss(name, mine, other, theirs))
    if there.key.kind != "workspace":
        _last(body, write.body)
    if there.key.kind == "session":
        leads = stamps.get(ARRANGEMENT, there.stamps.base) != there.stamps.of(ARRANGEMENT)
        theirs_ids, ours_ids = arrangement_of(there.body), arrangement_of(write.body)
        both = combined(ours_ids, theirs_ids) if leads else combined(theirs_ids, ours_ids)
        both.only(set(both.ids()).difference(gone)).put_into(body)
    after = Stamps(there.stamps.base, stamps, max(there.stamps.alive, write.alive))
    fits = same(body, dict(write.body))
    if after == there.stamps and same(body, there.body):
        return Joined(None, losses, fits)
    return Joined(there._replace(number=there.number + 1, body=body, session_id=owner, stamps=after), losses, fits)


def _written(there: Version, write: Write) -> Iterator[tuple[str, Stamp]]:
    """The fields that the write is about, each with its stamp."""
    yield from write.fields.items()
    if write.whole is None:
        return
    assert there.body is not None
    assert write.body is not None
    names = by_unit(there.key.kind, dict.fromkeys((*there.body, *write.body, *there.stamps.fields), write.whole))
    yield from ((name, stamp) for name, stamp in names.items() if name not in write.fields)


def by_unit(kind: Kind, stamps: Mapping[str, Stamp]) -> dict[str, Stamp]:
    """Stamps by the names under which they are kept: without those of what has none of its own, and one for fields that
    say one thing together."""
    names = {member: one for one, members in _TOGETHER.get(kind, {}).items() for member in members}
    found: dict[str, Stamp] = {}
    for name, stamp in stamps.items():
        one = names.get(name, name)
        if one == ARRANGEMENT or one not in _APART or kind == "workspace":
            found[one] = max(stamp, found.get(one, stamp))
    return found


def _of(body: Mapping[str, Any], names: Iterable[str]) -> Body:
    """Of a record, these fields, as far as they are there."""
    return {name: body[name] for name in names if name in body}


def _last(body: Body, ours: Any) -> None:
    """A record was last changed when either side last changed it."""
    times = [each for each in (body.get(_TIME), ours.get(_TIME)) if type(each) is int]
    if times:
        body[_TIME] = max(times)
