"""What is loaded and what is shipped: the package without its extras, the command without them, the wheel."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_group

from nomad_sessions.cli.app import FILES, app
from nomad_sessions.cli.demo import examples_folder
from nomad_sessions.cli.exits import EXIT_CODES, Exit

from .conftest import COMMAND

ROOT = Path(__file__).parents[2]


def run(code: str, folder: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]  # `folder` is the first place where it looks for packages
    environment = {**os.environ, **settings}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, check=False)


def commands() -> dict[str, str]:
    group: Any = get_group(app)
    return {name: str(group.get_command(None, name).help) for name in group.list_commands(None)}


@pytest.mark.parametrize("module", ["nomad_sessions", "nomad_sessions.cli", "nomad_sessions.formats"])
def test_importing_the_package_loads_nothing_of_the_command_line(module: str) -> None:
    done = run(f"import sys, {module}; print(sorted({{'typer', 'rich', 'click', 'pygments'}} & set(sys.modules)))")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_each_command_is_in_the_file_that_is_said_to_have_it() -> None:
    for file, names in FILES.items():
        part = typer.Typer()
        importlib.import_module(f"nomad_sessions.cli.{file}").register(part)
        assert tuple(get_group(part).commands) == names


def test_a_command_loads_its_own_file_alone() -> None:
    ask = "import sys\nsys.argv[1:] = ['ls', '--help']\nfrom nomad_sessions.cli import main\ntry: main()\nfinally: "
    done = run(ask + "print(*sorted(sys.modules))")
    loaded = {name.rpartition(".")[2] for name in done.stdout.split() if name.startswith("nomad_sessions.cli.")}
    assert loaded & FILES.keys() == {"sessions"}


def test_a_command_that_is_no_command_is_told_from_what_it_may_mean() -> None:
    done = subprocess.run([*COMMAND, "serch"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'search'" in done.stderr


def test_without_the_extra_the_command_says_what_to_install() -> None:
    done = run("import sys; sys.modules['typer'] = None; from nomad_sessions.cli import main; main()")
    assert done.returncode == 2
    assert done.stderr == "nomad-sessions: the command line needs typer: pip install 'nomad-sessions[cli]'\n"


def test_every_command_has_help_and_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, text in commands().items():
        assert text.strip(), name
        assert re.search(rf"`{name}\b", readme) or re.search(rf"nomad-sessions {name}\b", readme), name


def test_every_exit_code_is_in_the_help_and_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in Exit:
        assert re.search(rf"\| {code.value} \|", readme), code
        assert code is Exit.PIPE_CLOSED or re.search(rf"\b{code.value} ", EXIT_CODES), code


@pytest.mark.slow
def test_the_wheel_has_the_examples_the_types_marker_and_the_format(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    assert {"nomad_sessions/py.typed", "nomad_sessions/storage/FORMAT.md"} <= names
    shipped = {name.removeprefix("nomad_sessions/_examples/") for name in names if "/_examples/" in name}
    assert shipped == {
        str(path.relative_to(ROOT / "examples"))
        for path in (ROOT / "examples").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    code = "from nomad_sessions.cli.demo import examples_folder; print(examples_folder())"
    done = run(code, tmp_path / "installed")
    assert done.stdout.strip() == str(tmp_path / "installed" / "nomad_sessions" / "_examples"), done.stderr


def test_the_examples_are_found_in_a_checkout() -> None:
    assert sum(path.stat().st_size for path in examples_folder().rglob("*.json")) < 400_000
