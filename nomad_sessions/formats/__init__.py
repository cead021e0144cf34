"""Conversations of other tools: read without loss, imported once however often.

`import_file(manager, workspace_id, path)` takes a NomadArch `sessions.json` or an OpenCode export, told apart by their
content. `opencode.to_export` gives an OpenCode export back.
"""

from __future__ import annotations

from nomad_sessions.formats.importing import Progress, import_bytes, import_file
from nomad_sessions.formats.registry import FORMATS, Format, recognise
from nomad_sessions.formats.report import ImportReport, ParsedSession, Tally

__all__ = [
    "FORMATS",
    "Format",
    "ImportReport",
    "ParsedSession",
    "Progress",
    "Tally",
    "import_bytes",
    "import_file",
    "recognise",
]
