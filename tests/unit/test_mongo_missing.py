"""Without pymongo the package works, and one line says what to install."""

from __future__ import annotations

import subprocess
import sys


def test_without_the_extra_a_target_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pymongo'] = sys.modules['bson'] = None\n"
        "from nomad_sessions.sync import MongoTarget\n"
        "try: MongoTarget('mongodb://nomad:hunter2@host')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "target: needs pymongo: pip install \"nomad-sessions[mongo]\" (got 'mongo')\n"
