"""Which tiers of tests can run here. One that cannot says why; with CI=true that is a failure, not a skip."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

import pytest

__all__ = [
    "in_ci",
    "needs_linux",
    "needs_mounts",
    "needs_power",
    "needs_qt",
    "needs_strace",
    "own_mounts",
    "tool",
    "unless",
]


def in_ci() -> bool:
    """Whether every tier has to run."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def unless(obstacle: str | None) -> None:
    """Goes on when there is no obstacle; else skips the test and says why, or fails it in CI."""
    if obstacle is None:
        return
    if in_ci():
        pytest.fail(f"this tier has to run in CI: {obstacle}")
    pytest.skip(obstacle)


def tool(name: str) -> str | None:
    """The path of a program, also where it is not on an ordinary user's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin")


def needs_linux() -> None:
    """For tests that need its limits, or /proc."""
    unless(None if sys.platform.startswith("linux") else "this tier runs on Linux only")


def needs_strace() -> None:
    """For tests that watch or strike system calls."""
    unless(_no_strace())


def needs_mounts() -> None:
    """For tests that mount a small or read-only file system in a mount namespace of their own."""
    unless(_no_mounts())


def own_mounts() -> list[str]:
    """The command to run a process under whose mounts, and those of its children, end with it."""
    needs_mounts()
    return [str(tool("unshare")), "--mount", "--propagation", "private"]


def needs_power(kind: str) -> None:
    """For tests that cut the power of an `ext4` or `xfs` on a loop device."""
    unless(_no_mounts() or _no_power(kind))


def needs_qt() -> None:
    """For tests that draw windows, in memory."""
    unless(_no_qt())


@functools.cache
def _no_qt() -> str | None:
    probe = [sys.executable, "-c", "from PySide6.QtWidgets import QApplication; QApplication([])"]
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(probe, capture_output=True, text=True, check=False, env=environment)
    return None if done.returncode == 0 else f"PySide6 cannot draw here: {done.stderr.strip()[-200:]}"


@functools.cache
def _no_strace() -> str | None:
    strace = tool("strace")
    if not sys.platform.startswith("linux") or strace is None:
        return "strace is not installed (Linux only)"
    done = subprocess.run([strace, "-f", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"strace cannot trace here: {done.stderr.strip()[:200]}"


@functools.cache
def _no_mounts() -> str | None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "mounting needs root on Linux"
    unshare = tool("unshare")
    if unshare is None:
        return "unshare (util-linux) is not installed"
    probe = [unshare, "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"mounting is not allowed here: {done.stderr.strip()[:200]}"


def _no_power(kind: str) -> str | None:
    if tool(f"mkfs.{kind}") is None:
        return f"mkfs.{kind} is not installed"
    losetup = tool("losetup")
    if losetup is None:
        return "losetup (util-linux) is not installed"
    done = subprocess.run([losetup, "--find"], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"no loop device: {done.stderr.strip()[:200]}"
