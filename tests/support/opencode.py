"""The genuine OpenCode program, from its package in the npm registry, run offline in a home of its own."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import io
import os
import platform
import re
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from tests.support.tiers import tool, unless

__all__ = ["OpenCode", "Server", "free_port", "needs_opencode"]

VERSION = "1.18.34"
_URL = f"https://registry.npmjs.org/opencode-linux-x64/-/opencode-linux-x64-{VERSION}.tgz"
_SHA512 = "RTAMjCve4euxP2QKLuvRmdoW5J5DQK1DiZqt+7slfixyjAEi79QC2Df2oYKogibaAI4IEU8uzenoJeEl3k+UEw=="


class OpenCode:
    """The program with an empty home below `folder`, no network, and a project folder that it is run in."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.project = folder / "project"
        self.home.mkdir()
        self.project.mkdir()

    def run(self, *arguments: str) -> str:
        """Its output. Raises `CalledProcessError` when it fails."""
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        alone = [str(tool("unshare")), "--net"] if os.geteuid() == 0 and tool("unshare") else []
        out = self.home / "output"  # Through a pipe the program cuts off what is long.
        with out.open("wb") as file:
            subprocess.run(
                [*alone, str(_program()), *arguments],
                cwd=self.project,
                env=env,
                stdout=file,
                stderr=subprocess.PIPE,
                timeout=120,
                check=True,
            )
        return out.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def serve(self, port: int, **env: str) -> Iterator[Server]:
        """It as a server on this port of 127.0.0.1, until the end or `kill`."""
        nowhere = "http://127.0.0.1:9"  # It asks for models and updates, and is to find none.
        away = {"HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "NO_PROXY": "127.0.0.1"}
        process = subprocess.Popen(
            [str(_program()), "serve", "--hostname", "127.0.0.1", "--port", str(port)],
            cwd=self.project,
            env={"HOME": str(self.home), "PATH": os.environ["PATH"], **away, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        server = Server(process, f"http://127.0.0.1:{port}")
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if re.search(r"opencode server listening on http://", line):
                    break
            else:
                raise AssertionError("".join(said))
            server.wait()
            yield server
        finally:
            server.kill()
            assert process.stdout is not None
            process.stdout.close()

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.home / ".local" / "share" / "opencode"


class Server:
    """The program while it serves."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url

    def wait(self) -> None:
        """Until it answers: requests that come as its port opens are left hanging. (One with a password says no.)"""
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/path", timeout=2):
                    return
            except urllib.error.HTTPError as error:
                error.close()
                return
            except OSError:
                if time.monotonic() > end:
                    raise

    def kill(self) -> None:
        """Kills it as `kill -9` does. May be called twice."""
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def needs_opencode() -> None:
    """For tests that run the program."""
    unless(_obstacle())


@functools.cache
def _obstacle() -> str | None:
    if not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "AMD64"):
        return f"OpenCode {VERSION} is fetched for Linux on x64 only"
    try:
        _program()
    except (urllib.error.URLError, OSError) as error:
        return f"OpenCode {VERSION} cannot be fetched: {error}"
    return None


@functools.cache
def _program() -> Path:
    """The program's file, fetched once and kept in the user's cache."""
    place = platformdirs.user_cache_path("nomad-sessions-tests") / f"opencode-{VERSION}"
    if not place.exists():
        with urllib.request.urlopen(_URL, timeout=300) as answer:
            data = answer.read()
        if base64.b64encode(hashlib.sha512(data).digest()).decode() != _SHA512:
            raise OSError("what the registry gave is not the package that is expected")
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            program = archive.extractfile("package/bin/opencode")
            assert program is not None
            place.parent.mkdir(parents=True, exist_ok=True)
            made = place.with_name(f"{place.name}.{os.getpid()}")  # Several test processes may fetch it at once.
            made.write_bytes(program.read())
        made.chmod(0o755)
        made.replace(place)
    return place
