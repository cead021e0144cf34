"""MongoDB as a target: one document a record, in the collections and with the fields that other programs know.

Invariant: as any target's (`target.py`); documents that another program wrote are never listed, changed or removed by
a synchronisation, whatever they are. Verified by `tests/contract/test_sync_targets.py` and
`tests/contract/test_mongo_target.py`; `docs/sync-mongo.md` has the collections, the fields and what may be relied on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nomad_sessions.errors import CorruptionError, InvalidInputError, TargetUnavailableError
from nomad_sessions.sync.mongo_documents import (
    NAMES,
    NO_URI,
    OURS,
    change_of,
    document_of,
    escaped,
    first_key,
    key_of,
    last_key,
    unescaped,
)
from nomad_sessions.sync.target import KINDS, Applied, Change, Kind, Rejected, Stored, TargetInfo

if TYPE_CHECKING:
    from nomad_sessions.sync.mongo_server import MongoServer
    from nomad_sessions.sync.two_way.place import Place

__all__ = ["MongoTarget"]

# An @, / or ? in a password that is not escaped would make a piece of it look like the host.
_URI = re.compile(r"(mongodb(?:\+srv)?://)(?:[^@/?]*@)?([^@/?]+)(?:/[^@?]*)?(?:\?[^@]*)?")
_AGENT = re.compile(r"[A-Za-z0-9_-]{1,64}")


class MongoTarget:
    """A copy in a MongoDB database. What it confirms is on the disk of the majority of the servers.

    Collections are `{agent}_sessions`, `{agent}_session_messages`, `{agent}_agent_tasks`, `{agent}_opencode_events`,
    `{agent}_mailbox` and `{agent}_workspaces`; a document of `collection_aliases` may name others.
    """

    kinds: Collection[Kind] = KINDS

    def __init__(
        self,
        uri: str,
        *,
        database: str = "database",
        agent: str = "duck",
        name: str = "mongo",
        two_way: bool = False,
        connect_timeout: float = 5.0,
        timeout: float = 20.0,
    ) -> None:
        """`uri` says where (`mongodb://…`, with user, password and options), `connect_timeout` how many seconds to look
        for a server, `timeout` how many each call waits for its answer. With `two_way` workspaces are common to all
        machines that have one of the name, and what they do comes to all of them. Asks nobody yet.

        Raises `InvalidInputError` for what none of them can be, and where pymongo is not installed. `uri` is kept by
        the driver alone: it is in no message, log or repr.
        """
        _check(agent, connect_timeout, timeout)
        self.name = name
        self._agent = agent
        self._place = f"{_place(uri)}/{database}"
        self._server = _server(name, uri, database, agent, connect_timeout, timeout)
        self.place: Place | None = _place_of(self._server) if two_way else None

    def __repr__(self) -> str:
        return f"MongoTarget({self._place!r}, agent={self._agent!r}, name={self.name!r})"

    def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
        """See `SyncTarget`. Cost: a round trip a kind, two where some of the records are there already, and one for
        messages, unless forced: whether their sessions have ended."""
        refused: dict[tuple[Kind, str], str] = {}
        with self._server.asked():
            for workspace_id in {each.workspace_id for each in changes}:
                if self._server.is_shared(workspace_id):
                    reason = f"several machines have {workspace_id} in common there: take part in it (two_way)"
                    raise TargetUnavailableError(target=self.name, reason=reason)
            # Sessions last: when what a session's end asks for is cut short, the session is still to be told of it.
            for kind in sorted({each.key.kind for each in changes}, key=lambda each: each == "session"):
                mine = [each for each in changes if each.key.kind == kind]
                if kind == "session":
                    self._drop_messages([each for each in mine if each.body is None], force=force)
                found = self._server.write(kind, [document_of(each) for each in mine], force=force)
                refused.update(((kind, key), reason) for key, reason in found.items())
                if kind == "message" and not force:
                    self._drop_late([each for each in mine if each.body is not None])
        rejected = [
            Rejected(each.key, each.rev, refused[place])
            for each in changes
            if (place := (each.key.kind, key_of(each.workspace_id, each.key.id))) in refused
        ]
        return Applied(len(changes) - len(rejected), tuple(rejected))

    def _drop_messages(self, ended: Sequence[Change], *, force: bool) -> None:
        """The messages of sessions that are gone, where that is news."""
        if not ended:
            return
        workspace_id = ended[0].workspace_id
        known = {} if force else self._ended(workspace_id, {each.key.id for each in ended})
        fresh = {each.key.id: each.rev for each in ended if known.get(each.key.id, -1) < each.rev}
        self._server.drop_messages(workspace_id, ((escaped(name), rev) for name, rev in fresh.items()))

    def _drop_late(self, messages: Sequence[Change]) -> None:
        """Those of these that are older than an end of their session. Written first and then looked at: what ends a
        session meanwhile finds them."""
        sessions = {each.session_id for each in messages if each.session_id is not None}
        if not sessions:
            return
        workspace_id = messages[0].workspace_id
        ended = self._ended(workspace_id, sessions)
        late = {each.session_id for each in messages if each.rev < ended.get(each.session_id or "", -1)}
        self._server.drop_messages(workspace_id, ((escaped(name), ended[name]) for name in late if name is not None))

    def _ended(self, workspace_id: str, sessions: Collection[str]) -> dict[str, int]:
        """The revs at which these of a workspace have ended last, as far as it knows of that."""
        names = {key_of(workspace_id, each): each for each in sessions}
        return {names[key]: rev for key, rev in self._server.ended(names).items()}

    def scan(self, workspace_id: str, kind: Kind, *, after: str = "", limit: int = 1000) -> list[Stored]:
        """See `SyncTarget`."""
        begin = key_of(workspace_id, after) if after else first_key(workspace_id)
        with self._server.asked():
            found = self._server.collection(kind).find(_ours(begin, workspace_id), {"rev": 1}).sort("_id", 1)
            rows = list(found.limit(limit))
        skip = len(first_key(workspace_id))
        return [Stored(unescaped(each["_id"][skip:]), int(each["rev"])) for each in rows]

    def fetch(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Change]:
        """See `SyncTarget`. Raises `CorruptionError` for a document whose record somebody has spoilt."""
        wanted = {"_id": {"$in": [key_of(workspace_id, each) for each in ids]}, **OURS}
        with self._server.asked():
            rows = list(self._server.collection(kind).find(wanted))
        found = (self._change(kind, workspace_id, each) for each in rows)
        return {each.key.id: each for each in found}

    def _change(self, kind: Kind, workspace_id: str, document: Mapping[str, Any]) -> Change:
        try:
            return change_of(kind, workspace_id, document)
        except ValueError as error:
            path = f"{self._place}/{self._server.collection(kind).name}/{document['_id']}"
            hint = "sync verify does not look into records; delete the document, and it finds that one is missing"
            raise CorruptionError(path=path, reason="its `record` is no JSON any more", hint=hint) from error

    def workspaces(self) -> list[str]:
        """See `SyncTarget`. Cost: a query for each workspace and kind."""
        with self._server.asked():
            return sorted({each for kind in self.kinds for each in self._workspaces(kind)})

    def _workspaces(self, kind: Kind) -> Iterator[str]:
        collection, at = self._server.collection(kind), ""
        while found := collection.find_one(_ours(at), {"_id": 1}, sort=[("_id", 1)]):
            name = found["_id"].partition("/")[0]
            yield name
            at = last_key(name)

    def foreign(self, kind: Kind) -> Iterator[dict[str, Any]]:
        """The documents that another program wrote into the collection of a kind, as they are, in the order in which
        they were written, as far as their `_id`s tell. They are no part of what `scan` and `fetch` know: they have no
        rev, and belong to no workspace. `formats.dualstore` reads them. Raises `TargetUnavailableError`.
        """
        others = [{"_id": {"$not": {"$type": "string"}}}, {"rev": {"$not": {"$type": "number"}}}]
        with self._server.asked():
            yield from self._server.collection(kind).find({"$or": others}).sort("_id", 1)

    def ping(self) -> None:
        """See `SyncTarget`."""
        with self._server.asked():
            self._server.ping()

    def describe(self) -> TargetInfo:
        """See `SyncTarget`."""
        names = {kind: f"{self._agent}_{name}" for kind, name in NAMES.items()}
        details = {"agent": self._agent, "collections": names, "twoWay": self.place is not None}
        return TargetInfo("mongo", self._place, details)

    def close(self) -> None:
        """See `SyncTarget`."""
        self._server.close()


def _check(agent: object, connect_timeout: object, timeout: object) -> None:
    if not isinstance(agent, str) or not _AGENT.fullmatch(agent):
        raise InvalidInputError(field="agent", value=agent, reason="is 1 to 64 of a-z, A-Z, 0-9, _ and -")
    for field, value in (("connect_timeout", connect_timeout), ("timeout", timeout)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
            raise InvalidInputError(field=field, value=value, reason="is a number of seconds above 0")


def _server(name: str, uri: str, database: str, agent: str, connect_timeout: float, timeout: float) -> MongoServer:
    try:
        from nomad_sessions.sync.mongo_server import MongoServer
    except ModuleNotFoundError as error:
        if error.name not in ("pymongo", "bson"):
            raise
        reason = 'needs pymongo: pip install "nomad-sessions[mongo]"'
        raise InvalidInputError(field="target", value="mongo", reason=reason) from None
    return MongoServer(name, uri, database, agent, connect_timeout, timeout)


def _place_of(server: MongoServer) -> Place:
    from nomad_sessions.sync.mongo_place import MongoPlace

    return MongoPlace(server)


def _ours(begin: str, workspace_id: str | None = None) -> dict[str, Any]:
    """The records that are there, from an `_id` on."""
    until = {} if workspace_id is None else {"$lt": last_key(workspace_id)}
    return {"_id": {"$gt": begin, **until}, **OURS}


def _place(uri: object) -> str:
    """Where a connection string leads: without user, password and options."""
    found = _URI.fullmatch(uri) if isinstance(uri, str) else None
    if found is None:
        raise InvalidInputError(field="uri", value="…", reason=NO_URI)
    return f"{found[1]}{found[2]}"
