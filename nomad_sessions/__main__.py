"""`python -m nomad_sessions`, for where the console script is not on the path."""

from __future__ import annotations

from nomad_sessions.cli import main

main()
