"""Conversations of other tools: read without loss, imported once however often.

`import_file(manager, workspace_id, path)` takes a NomadArch `sessions.json` or an OpenCode export, told apart by their
content; `import_history(manager, importer, path)` what a tool keeps on disk, `importer` being one of `IMPORTERS`.
`original_of(manager, workspace_id, session_id)` gives back what a session was imported from.
"""

from __future__ import annotations

from nomad_sessions.formats.histories import Survey, import_history, survey_history
from nomad_sessions.formats.importing import Progress, import_bytes, import_file
from nomad_sessions.formats.originals import original_of
from nomad_sessions.formats.registry import FORMATS, IMPORTERS, Format, importer_of, recognise
from nomad_sessions.formats.report import ImportReport, ParsedSession, Tally
from nomad_sessions.formats.source import Computer, Found, Importer

__all__ = [
    "FORMATS",
    "IMPORTERS",
    "Computer",
    "Format",
    "Found",
    "ImportReport",
    "Importer",
    "ParsedSession",
    "Progress",
    "Survey",
    "Tally",
    "import_bytes",
    "import_file",
    "import_history",
    "importer_of",
    "original_of",
    "recognise",
    "survey_history",
]
