"""A MongoDB server as a target needs it: its collections by kind, records written so that the highest rev stays.

Invariant: a record is written by one operation on the server, which itself compares the revs; nothing is read first,
so that two processes that write the same record end with the higher rev, whoever was first. What is confirmed is on
the disk of the majority of the servers. Verified by `tests/contract/test_sync_targets.py` and
`tests/processes/test_mongo_sync.py`.

A new document is inserted, three times as fast as an upsert; where there is one of its `_id`, the server replaces that
by a pipeline which looks at its rev. Documents are never removed, so that one that was there still is. This module
needs pymongo; it is loaded when a target is made.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import bson
import pymongo
from pymongo.collection import Collection as MongoCollection
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    InvalidName,
    InvalidURI,
    OperationFailure,
    ProtocolError,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.write_concern import WriteConcern

from nomad_sessions.errors import InvalidInputError, TargetUnavailableError
from nomad_sessions.sync.mongo_documents import NAMES, NO_URI, Document
from nomad_sessions.sync.target import Kind

__all__ = ["ALIASES", "INDEXES", "Documents", "MongoServer"]

Documents = MongoCollection[Document]
ALIASES = "collection_aliases"
SHARED = "shared"
ENDED = "endedRev"

_OF_SESSION = (("sessionId", 1), ("workspaceId", 1), ("timestamp", 1))
INDEXES: dict[Kind, tuple[tuple[tuple[str, int], ...], ...]] = {
    "workspace": (),
    "session": ((("id", 1),), (("timestamp", -1),), (("workspaceId", 1), ("updatedAt", -1))),
    "message": ((("id", 1),), (("timestamp", -1),), _OF_SESSION),
    "task": ((("id", 1),), (("timestamp", -1),), _OF_SESSION),
    "mail": ((("id", 1),), (("metadata.recipient", 1), ("workspaceId", 1), ("timestamp", 1))),
    "event": ((("id", 1),), (("timestamp", -1),), _OF_SESSION, (("metadata.eventType", 1), ("timestamp", -1))),
}
"""Beside that of `_id`, which keeps records unique and gives them in order."""

_LARGEST = 16 * 1024 * 1024 - 16 * 1024
_PERHAPS_LARGE = 3 * 1024 * 1024
_DUPLICATE = 11000
_SAME = ("rev", "stamps", "record")
_OTHERS_INDEX = (85, 86)
# Not reached, not allowed, too slow, not the primary any more, going down, no room on its disk. Any other trouble with
# a document is the document's.
_OF_THE_SERVER = {
    *(6, 7, 13, 18, 24, 46, 50, 64, 89, 91, 112, 133, 134, 175, 189, 202, 262, 317, 358, 384, 462, 9001),
    *(10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031),
}


class MongoServer:
    """One database of one server or replica set. Asks it when it is asked."""

    def __init__(self, name: str, uri: str, database: str, agent: str, connect_timeout: float, timeout: float) -> None:
        """The two times, in seconds, are for what the `uri` says no time for.

        Raises `InvalidInputError` for a `uri` or a `database` that can be none; its message has nothing of the `uri`,
        where a password may stand.
        """
        self.name = name
        self._agent = agent
        self._collections: dict[Kind, Documents] | None = None
        try:
            self._client: pymongo.MongoClient[Document] = pymongo.MongoClient(
                uri,
                connect=False,
                **_unless_said(
                    uri,
                    serverSelectionTimeoutMS=round(connect_timeout * 1000),
                    connectTimeoutMS=round(connect_timeout * 1000),
                    # Not `timeoutMS`: with that the driver looks for a server as long as a call may take.
                    socketTimeoutMS=round(timeout * 1000),
                ),
                retryWrites=True,
                appname="nomad-sessions",
            )
        except (InvalidURI, ConfigurationError, ValueError, TypeError):
            raise InvalidInputError(field="uri", value="…", reason=NO_URI) from None
        try:
            self._database = self._client.get_database(
                database,
                write_concern=WriteConcern(w="majority", j=True, wtimeout=round(timeout * 1000)),
                read_concern=ReadConcern("majority"),
                read_preference=ReadPreference.PRIMARY,
            )
        except InvalidName as error:
            self._client.close()
            raise InvalidInputError(field="database", value=database, reason=str(error)) from None

    @contextmanager
    def asked(self) -> Iterator[None]:
        """What goes wrong with the server inside is a `TargetUnavailableError`."""
        try:
            yield
        except (ConnectionFailure, OperationFailure, ConfigurationError, ProtocolError) as error:
            # The last of them is what a connection says that a Ctrl-C had left in the middle of an answer.
            raise TargetUnavailableError(target=self.name, reason=_reason(error)) from None

    def ping(self) -> None:
        """Asks whether it is there, and whether it lets us in."""
        self._database.command("ping")

    def close(self) -> None:
        """Gives its connections back."""
        self._client.close()

    # Collections

    def collection(self, kind: Kind) -> Documents:
        """The collection of a kind. The first time, aliases are looked up and indexes made."""
        if self._collections is None:
            found = self._named()
            for each, collection in found.items():
                _make_indexes(collection, INDEXES[each])
            self._collections = found
        return self._collections[kind]

    def shared(self) -> Documents:
        """The collection that says which workspaces several machines have in common."""
        return self._database[f"{self._agent}_{SHARED}"]

    def index_changes(self) -> None:
        """Gives what was written when an index. Before a workspace is shared: afterwards nobody asks for it again."""
        for kind in INDEXES:
            _make_indexes(self.collection(kind), [(("changed", 1),)], sparse=True)

    def is_shared(self, workspace_id: str) -> bool:
        """Whether several machines have a workspace in common there."""
        return self.shared().find_one({"_id": workspace_id}, {"_id": 1}) is not None

    def _named(self) -> dict[Kind, Documents]:
        names = {kind: f"{self._agent}_{name}" for kind, name in NAMES.items()}
        wanted = {"_id": {"$in": list(names.values())}, "collection": {"$exists": True}}
        aliases = {each["_id"]: each["collection"] for each in self._database[ALIASES].find(wanted)}
        found: dict[Kind, Documents] = {}
        for kind, name in names.items():
            other = aliases.get(name, name)
            try:
                found[kind] = self._database[other]
            except (InvalidName, TypeError) as error:
                where = f"{ALIASES}.{name}.collection"
                raise InvalidInputError(field=where, value=other, reason=str(error)) from None
        if len({each.name for each in found.values()}) < len(found):
            reason = "gives two kinds of records the same collection"
            raise InvalidInputError(field=ALIASES, value=sorted(aliases.values()), reason=reason)
        return found

    # Writing

    def write(self, kind: Kind, documents: Sequence[Document], *, force: bool) -> dict[str, str]:
        """Writes those whose rev is above that of what is there, with `force` all. Returns the `_id`s of those that
        were refused, with the reasons."""
        refused = {each["_id"]: reason for each in documents if (reason := _too_large(each))}
        todo = [each for each in documents if each["_id"] not in refused]
        if not todo:
            return refused
        collection = self.collection(kind)
        there, said = self._insert(collection, todo)
        refused |= said
        return refused | self._replace(kind, [each for each in todo if each["_id"] in there], force=force)

    def _insert(self, collection: Documents, documents: Sequence[Document]) -> tuple[set[str], dict[str, str]]:
        """Inserts those that are not there. Returns the `_id`s of those that are, and of those that were refused, with
        the reasons."""
        there: set[str] = set()
        refused: dict[str, str] = {}
        try:
            collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            for number, code, text, pattern in _write_errors(error):
                if code == _DUPLICATE and pattern == {"_id": 1}:
                    there.add(documents[number]["_id"])
                else:
                    refused[documents[number]["_id"]] = text
        return there, refused

    def swap(self, kind: Kind, documents: Sequence[Document]) -> tuple[set[str], dict[str, str]]:
        """Writes each of these where what is there has the `rev` before its own, and nothing is there for one with 1.
        Returns the `_id`s of those for which that is not so, and of those that were refused, with the reasons."""
        refused = {each["_id"]: reason for each in documents if (reason := _too_large(each))}
        todo = [each for each in documents if each["_id"] not in refused]
        collection = self.collection(kind)
        late: set[str] = set()
        if fresh := [each for each in todo if each["rev"] == 1]:
            taken, said = self._insert(collection, fresh)
            late |= taken
            refused |= said
        if later := [each for each in todo if each["rev"] > 1]:
            operations = [pymongo.ReplaceOne({"_id": each["_id"], "rev": each["rev"] - 1}, each) for each in later]
            try:
                matched = collection.bulk_write(operations, ordered=False).matched_count
            except BulkWriteError as error:
                refused |= {later[number]["_id"]: text for number, _, text, _ in _write_errors(error)}
                matched = -1
            if matched != len(later):
                late |= self._others(collection, [each for each in later if each["_id"] not in refused])
        return late, refused

    def _others(self, collection: Documents, documents: Sequence[Document]) -> set[str]:
        """Those of these in whose place another is: one of the same number and stamps may say otherwise, where two
        machines joined the same changes with what only one of them had."""
        ids = [each["_id"] for each in documents]
        there = {each["_id"]: each for each in collection.find({"_id": {"$in": ids}}, dict.fromkeys(_SAME, 1))}
        return {
            each["_id"]
            for each in documents
            if any(there.get(each["_id"], {}).get(name) != each.get(name) for name in _SAME)
        }

    def _replace(self, kind: Kind, documents: Sequence[Document], *, force: bool) -> dict[str, str]:
        if not documents:
            return {}
        collection = self.collection(kind)
        try:
            ends = kind == "session"
            collection.bulk_write([_replacement(each, ends=ends, force=force) for each in documents], ordered=False)
        except BulkWriteError as error:
            return {documents[number]["_id"]: text for number, _, text, _ in _write_errors(error)}
        return {}

    def ended(self, keys: Collection[str]) -> dict[str, int]:
        """The revs at which those of these sessions ended last that ever did, as far as that was written here."""
        ours = {"_id": {"$in": list(keys)}, "rev": {"$type": "number"}}
        ended = {**ours, "$or": [{"deleted": True}, {ENDED: {"$type": "number"}}]}
        found = self.collection("session").find(ended, {"rev": 1, "deleted": 1, ENDED: 1})
        return {each["_id"]: int(each["rev"] if each.get("deleted") else each[ENDED]) for each in found}

    def drop_messages(self, workspace_id: str, sessions: Iterable[tuple[str, int]]) -> None:
        """The messages of these sessions, up to a rev each, are gone."""
        todo = [
            pymongo.UpdateMany(
                {"workspaceId": workspace_id, "sessionId": session, "rev": {"$lt": rev}},
                [{"$replaceWith": {"_id": "$_id", "rev": {"$literal": rev}, "deleted": True}}],
            )
            for session, rev in sessions
        ]
        if todo:
            self.collection("message").bulk_write(todo, ordered=False)


def _replacement(document: Document, *, ends: bool, force: bool) -> Any:
    """`ends` says that these are records which, when they end, take others along: the rev at which one ended last stays
    in its document when it comes again, and is written into it when the end comes late."""
    if force:
        return pymongo.ReplaceOne({"_id": document["_id"]}, document)
    fresh: Any = {"$literal": document}
    kept: Any = "$$ROOT"
    if ends and "deleted" in document:
        later = {"$mergeObjects": ["$$ROOT", {ENDED: {"$max": [f"${ENDED}", document["rev"]]}}]}
        kept = {"$cond": ["$deleted", "$$ROOT", later]}
    elif ends:
        fresh = {"$mergeObjects": [fresh, {ENDED: {"$cond": ["$deleted", "$rev", f"${ENDED}"]}}]}
    older = {"$lt": [{"$ifNull": ["$rev", -1]}, document["rev"]]}
    return pymongo.UpdateOne({"_id": document["_id"]}, [{"$replaceWith": {"$cond": [older, fresh, kept]}}])


def _too_large(document: Document) -> str:
    if len(document.get("record", "")) < _PERHAPS_LARGE:
        return ""
    size = len(bson.encode(document))
    return f"its document would have {size:,} bytes, and MongoDB takes {_LARGEST:,}" if size > _LARGEST else ""


def _unless_said(uri: str, **options: int) -> dict[str, Any]:
    """Those of the driver's times that a URI does not give; given to the driver beside it, they would go before."""
    parts = (part.partition("=") for part in re.split("[&;]", uri.partition("?")[2]))
    said = {name.lower(): unquote(value) for name, _, value in parts}
    return {name: value for name, value in options.items() if not _is_time(said.get(name.lower(), ""))}


def _is_time(text: str) -> bool:
    try:
        return float(text) >= 0
    except ValueError:
        return False


def _make_indexes(collection: Documents, keys: Sequence[Sequence[tuple[str, int]]], *, sparse: bool = False) -> None:
    """Cost: a round trip; one for each where somebody has one of the same fields, under another name."""
    models = [pymongo.IndexModel(list(each), sparse=sparse) for each in keys]
    if not models:
        return
    try:
        collection.create_indexes(models)
    except OperationFailure as error:
        if error.code not in _OTHERS_INDEX:
            raise
        if len(keys) > 1:
            for each in keys:
                _make_indexes(collection, [each], sparse=sparse)


def _write_errors(error: BulkWriteError) -> Iterator[tuple[int, int, str, Mapping[str, int]]]:
    """The number of an operation, the code, what is said of it, the key of which there are two. Raises the error itself
    where it is not of what was written, but of the server."""
    details = error.details or {}
    found = details.get("writeErrors", [])
    if details.get("writeConcernErrors") or any(each["code"] in _OF_THE_SERVER for each in found):
        raise error
    for each in found:
        yield each["index"], each["code"], str(each.get("errmsg", ""))[:300], dict(each.get("keyPattern", {}))


def _reason(error: PyMongoError) -> str:
    """What went wrong, without the long list of all servers, and without what was to be written."""
    details = error.details if isinstance(error, OperationFailure) else None
    if not details:
        return re.split(", (?:Timeout|full error):", str(error))[0]
    troubles = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    said = details if "errmsg" in details else next(iter(troubles), {})
    return f"{said.get('errmsg', 'the server refused')} ({said.get('codeName', said.get('code', 'no code'))})"
