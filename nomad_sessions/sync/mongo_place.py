"""A MongoDB as the place that several machines have in common: the same collections and documents as a copy has
(`mongo_documents.py`), each with its version's number as `rev`, its stamps, and when it was written.

Invariant: as any place's (`two_way/place.py`): a document is replaced only by the one with the next number, by one
operation on the server. Verified by `tests/contract/test_places.py`.

`{agent}_shared` has a document for each workspace that is shared: `place` is its id, `announced` how often something
was written. Who waits is woken by a change stream of that collection, where the server has them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pymongo
from bson.timestamp import Timestamp
from pymongo.change_stream import CollectionChangeStream
from pymongo.errors import OperationFailure

from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.sync.mongo_documents import (
    OURS,
    Document,
    change_of,
    document_of,
    escaped,
    first_key,
    key_of,
    last_key,
    unescaped,
)
from nomad_sessions.sync.mongo_server import MongoServer
from nomad_sessions.sync.target import Change, Key, Kind, Rejected
from nomad_sessions.sync.two_way.place import Numbered, Settled
from nomad_sessions.sync.two_way.shadow import stamps_from_json, stamps_to_json
from nomad_sessions.sync.two_way.versions import Stamp, Stamps, Version, moment_of

__all__ = ["MongoPlace"]

_LATE = 60
"""Seconds: what a server has written with an older time than what it had shown by then is found all the same."""
_NO_STREAMS = (40573, 136, 115)
"""What a server says that stands alone, or that has no change streams."""


class MongoPlace:
    """The place in one database; see `Place`."""

    def __init__(self, server: MongoServer) -> None:
        """Asks nobody yet."""
        self._server = server
        self._stream: CollectionChangeStream[Document] | None = None
        self._streams = True

    def share(self, workspace_id: str) -> str:
        """See `Place`. Cost: a round trip; for one that is new, one a kind of record, and some."""
        with self._server.asked():
            shared, one = self._server.shared(), {"_id": workspace_id}
            found = shared.find_one(one, {"place": 1})
            if found is None:
                self._server.index_changes()
                made = {"place": uuid.uuid4().hex, "announced": 0}
                found = shared.find_one_and_update(
                    one, {"$setOnInsert": made}, upsert=True, return_document=pymongo.ReturnDocument.AFTER
                )
        assert found is not None, "it is made where it is not there"
        return str(found["place"])

    def shared(self) -> list[str]:
        """See `Place`."""
        with self._server.asked():
            return sorted(str(each["_id"]) for each in self._server.shared().find({}, {"_id": 1}))

    def read(self, workspace_id: str, kind: Kind, ids: Collection[str]) -> dict[str, Version]:
        """See `Place`."""
        wanted = {"_id": {"$in": [key_of(workspace_id, each) for each in ids]}, "rev": {"$type": "number"}}
        with self._server.asked():
            rows = list(self._server.collection(kind).find(wanted))
        versions = (_version(kind, workspace_id, each) for each in rows if "record" in each or "deleted" in each)
        return {each.key.id: each for each in versions}

    def messages_of(self, workspace_id: str, session_id: str) -> list[str]:
        """See `Place`."""
        wanted = {"workspaceId": workspace_id, "sessionId": escaped(session_id), **OURS}
        with self._server.asked():
            rows = list(self._server.collection("message").find(wanted, {"_id": 1}).sort("_id", 1))
        return [unescaped(each["_id"][len(first_key(workspace_id)) :]) for each in rows]

    def write(self, workspace_id: str, versions: Sequence[Version]) -> Settled:
        """See `Place`. Cost: a round trip a kind for what is new, one for what was there, one more where somebody else
        was faster."""
        overtaken: set[Key] = set()
        rejected: list[Rejected] = []
        with self._server.asked():
            for kind in sorted({each.key.kind for each in versions}):
                mine = {key_of(workspace_id, each.key.id): each for each in versions if each.key.kind == kind}
                documents = [_document(workspace_id, each) for each in mine.values()]
                late, refused = self._server.swap(kind, documents)
                overtaken.update(mine[each].key for each in late)
                rejected += (Rejected(mine[each].key, mine[each].number, why) for each, why in refused.items())
        return Settled(overtaken, tuple(rejected))

    def numbers(self, workspace_id: str, kind: Kind, since: int | None) -> tuple[list[Numbered], int]:
        """See `Place`. A moment is a second of the server's clock."""
        wanted: dict[str, Any] = {
            "_id": {"$gt": first_key(workspace_id), "$lt": last_key(workspace_id)},
            "rev": {"$type": "number"},
        }
        if since is not None:
            wanted["changed"] = {"$gte": Timestamp(max(0, since - _LATE), 0)}
        numbers: list[Numbered] = []
        moment, skip = since or 0, len(first_key(workspace_id))
        with self._server.asked():
            found = self._server.collection(kind).find(wanted, {"rev": 1, "deleted": 1, "changed": 1}).sort("_id", 1)
            for each in found:
                numbers.append(Numbered(unescaped(each["_id"][skip:]), int(each["rev"]), "deleted" in each))
                if "changed" in each:
                    moment = max(moment, each["changed"].time)
        return numbers, moment

    def announce(self, workspace_id: str) -> None:
        """See `Place`."""
        with self._server.asked():
            self._server.shared().update_one({"_id": workspace_id}, {"$inc": {"announced": 1}})

    def announced(self, workspace_ids: Iterable[str]) -> dict[str, int]:
        """See `Place`. Cost: one round trip."""
        with self._server.asked():
            rows = self._server.shared().find({"_id": {"$in": list(workspace_ids)}}, {"announced": 1})
            return {str(each["_id"]): int(each["announced"]) for each in rows}

    def wait(self, seconds: float) -> bool:
        """See `Place`."""
        if not self._streams:
            time.sleep(seconds)
            return False
        try:
            with self._server.asked():
                return self._heard(seconds)
        except BaseException:
            self.stop_waiting()
            raise

    def _heard(self, seconds: float) -> bool:
        try:
            if self._stream is None:
                self._stream = self._server.shared().watch(
                    [{"$project": {"_id": 1}}], max_await_time_ms=round(seconds * 1000)
                )
            return self._stream.try_next() is not None
        except OperationFailure as error:
            if error.code not in _NO_STREAMS:
                raise
            self._streams = False
            return False

    def stop_waiting(self) -> None:
        """See `Place`."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _document(workspace_id: str, version: Version) -> Document:
    body: Mapping[str, Any] | None = version.body
    if body is not None and version.key.kind == "workspace":
        body = {"settings": {}, "fields": body}
    document = document_of(Change(workspace_id, version.key, version.number, body, version.session_id))
    document["stamps"] = encode(stamps_to_json(version.stamps)).decode("utf-8")
    document["changed"] = Timestamp(0, 0)  # The server puts its time there.
    return document


def _version(kind: Kind, workspace_id: str, document: Mapping[str, Any]) -> Version:
    """What a document says; one of a copy that became common says less of when."""
    if "record" not in document:
        key = Key(kind, unescaped(document["_id"][len(first_key(workspace_id)) :]))
        change = Change(workspace_id, key, int(document["rev"]), None)
        body = None
    else:
        change = change_of(kind, workspace_id, document)
        body = dict(change.body or {})
        if kind == "workspace":
            body = body["fields"]
        else:
            body.pop("seq" if kind == "event" else "rev", None)
    stamps = _stamps_of(document, body or {})
    return Version(change.key, change.rev, body, change.session_id, stamps)


def _stamps_of(document: Mapping[str, Any], body: Mapping[str, Any]) -> Stamps:
    if "stamps" in document:
        return stamps_from_json(decode(document["stamps"].encode("utf-8")))
    stamp = Stamp(moment_of(body), "", int(document["rev"]))
    return Stamps(stamp, {}, stamp)
