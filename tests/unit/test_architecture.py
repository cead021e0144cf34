"""How the code is laid out: imports go downward, one module touches the disk, what is public is documented."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nomad_sessions
from nomad_sessions import errors

ROOT = Path(nomad_sessions.__file__).parent
TESTS = Path(__file__).parents[1]
OPTIONAL = {"typer", "rich", "watchdog", "chromadb", "pymongo", "openai", "fastapi", "cryptography", "httpx"}

# The layers of the design, and inside the third the order in which its modules build on each other.
LAYERS: list[set[str]] = [
    {"errors"},
    {"clock", "config", "finishing", "forking", "models"},
    {"ids"},
    {"storage"},
    {"workspace"},
    {"operations"},
    {"reports", "usage", "workspaces", "sessions_api", "task_api"},
    {"doctor"},
    {"events", "mail"},
    {"metrics"},
    {"search", "embedders"},
    {"connections", "sync"},
    {"workspaces_api", "events_api", "connections_api", "mail_api", "sync_api"},
    {"transaction"},
    {"streaming"},
    {"session_info", "task_monitor"},
    {"overview_api"},
    {"manager"},
    {"shared"},
    {"aio_calls", "aio_events", "aio_tasks", "aio_connections", "aio_mail"},
    {"aio"},
    {"pruning"},
    {"formats"},
    {"dualstore", "sources"},
    {"cli"},
    {"__main__"},
]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def layer_of(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


def imports(name: str, tree: ast.Module) -> Iterator[str]:
    """The package's own modules that this one imports when it runs, absolute, from the top."""
    here = ["nomad_sessions", *name.removesuffix(".py").split("/")]
    for node in running(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*here[: -node.level], *([node.module] if node.module else [])]) if node.level else node.module
            )
            yield from (f"{base}.{each.name}" for each in node.names)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, except what only type checkers look at."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from running(child)


def test_imports_go_downward_only() -> None:
    wrong = []
    for name, tree in modules():
        part = name.split("/")[0].removesuffix(".py")
        if part == "__init__":
            continue
        for imported in imports(name, tree):
            pieces = imported.split(".")
            if pieces[0] != "nomad_sessions" or len(pieces) < 2 or pieces[1] in (part, "__version__"):
                continue
            if layer_of(pieces[1]) >= layer_of(part):
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_every_module_has_a_layer_and_every_layer_a_module() -> None:
    parts = {name.split("/")[0].removesuffix(".py") for name, _ in modules()} - {"__init__"}
    assert parts == set().union(*LAYERS)


def test_nothing_in_storage_knows_what_a_session_is() -> None:
    for name, tree in modules():
        if name.startswith("storage/"):
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert not {each for each in names if "session" in each.lower()} - {"NomadSessionsError"}, name


# Reading a file that a person named on the command line, or one of the package's own, is not touching the store; nor
# is printing to nowhere.
# Importers read other tools' files, settings are the user's. The index is SQLite's own: only looked up and removed. Who
# a store is, among several machines, is told by files' facts that the seam does not give: only looked at.
READERS = {
    *("cli/__init__.py", "cli/files.py", "cli/export.py", "cli/demo.py", "cli/demo_writer.py", "cli/demo_measure.py"),
    *("cli/mail.py", "search/index.py", "sync/settings.py", "sync/two_way/identity.py"),
}
DISK = re.compile(
    "(fd)?open|p?(write|read)v?|replace|rename|f(data)?sync|(sym|un)?link|remove|rm(dir|tree)|mkdir|makedirs|"
    "f?truncate|stat|(list|scan)dir|copy(file)?|move"
)
PATHS = {"read_text", "read_bytes", "write_text", "write_bytes", "touch", "rglob", "iterdir"}


def test_only_the_operating_system_seam_touches_files() -> None:
    wrong = []
    for name, tree in modules():
        if name.startswith(("storage/_os", "formats/")) or name in READERS:
            continue
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        wrong += [f"{name}:{node.lineno} {ast.unparse(node.func)}" for node in calls if touches_files(node.func)]
    assert wrong == []


def touches_files(call: ast.expr) -> bool:
    if isinstance(call, ast.Name):
        return call.id == "open"
    if not isinstance(call, ast.Attribute):
        return False
    if isinstance(call.value, ast.Name) and call.value.id in ("os", "shutil"):
        return bool(DISK.fullmatch(call.attr))
    return call.attr in PATHS


def test_importing_the_package_loads_no_optional_dependency() -> None:
    code = "import sys, nomad_sessions; print(*{each.split('.')[0] for each in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT.parent)
    assert not OPTIONAL & set(result.stdout.split())


def test_all_is_sorted_and_names_what_is_public() -> None:
    listed = nomad_sessions.__all__
    assert listed == sorted(listed)
    assert [name for name in listed if not hasattr(nomad_sessions, name)] == []
    ours = {
        name
        for name, each in vars(nomad_sessions).items()
        if not name.startswith("_") and str(getattr(each, "__module__", "")).startswith("nomad_sessions")
    }
    assert ours <= set(listed)
    for name, tree in modules():
        found = [node for node in tree.body if isinstance(node, ast.Assign) and _is_all(node)]
        for node in found:
            names = ast.literal_eval(node.value)
            constants = sorted(each for each in names if each.isupper())
            rest = sorted(each for each in names if not each.isupper())
            assert names in (sorted(names), [*constants, *rest]), f"{name}: __all__ is not sorted"


def _is_all(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)


def documented(thing: Any) -> bool:
    return bool((thing.__doc__ or "").strip())


def test_every_public_class_function_and_method_has_a_docstring() -> None:
    missing = []
    for name in nomad_sessions.__all__:
        each = getattr(nomad_sessions, name)
        if not documented(each):
            missing.append(name)
        if not inspect.isclass(each):
            continue
        for attribute, value in vars(each).items():
            function = value.fget if isinstance(value, property) else value
            if not attribute.startswith("_") and inspect.isfunction(function) and not documented(function):
                missing.append(f"{name}.{attribute}")
    assert missing == []


def test_every_module_says_what_it_is_and_is_short() -> None:
    for name, tree in modules():
        assert ast.get_docstring(tree), name
        lines = (ROOT / name).read_text().count("\n")
        assert lines < 400, f"{name} has {lines} lines"


def test_every_module_takes_annotations_as_text() -> None:
    for name, tree in modules():
        if len(tree.body) > 1:
            assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body), name


# What cannot be provoked from a test is drawn in the errors' own tests.
BASES = {"NomadSessionsError", "NotFoundError", "StorageError"}


@pytest.mark.parametrize("name", sorted(each for each in vars(errors) if each.endswith("Error") and each[0] != "_"))
def test_every_error_is_raised_in_a_test_and_raised_by_the_code(name: str) -> None:
    if name in BASES:
        assert documented(getattr(errors, name))
        return
    raised = [str(path) for path in ROOT.rglob("*.py") if f"raise {name}(" in path.read_text()]
    made = [str(path) for path in ROOT.rglob("*.py") if f"{name}(" in path.read_text() and path.parent.name != "errors"]
    assert raised or made, f"nothing raises {name}"
    tested = [
        path.name
        for path in TESTS.rglob("test_*.py")
        if path.name not in ("test_errors.py", Path(__file__).name) and name in path.read_text()
    ]
    assert tested, f"no test expects {name}"
