"""The process that the demo kills: adds messages as fast as it can, and acknowledges each on stdout once it is stored.

`python -m nomad_sessions.cli.demo_writer DATA_DIR WORKSPACE SESSION`
"""

from __future__ import annotations

import sys

from nomad_sessions.manager import NativeSessionManager

__all__ = ["text_of"]

_MOST = 1_000_000  # it is killed long before; this ends it should its parent die first


def text_of(number: int) -> str:
    """What message `number` says: about 1 KB, so that an append has some length to be killed in."""
    return f"message {number} " + "." * 1000


def main(data_dir: str, workspace_id: str, session_id: str) -> None:
    """Add and acknowledge until killed, or until nobody reads the acknowledgements."""
    with NativeSessionManager(data_dir) as manager:
        for number in range(_MOST):
            manager.add_message(workspace_id, session_id, role="user", content=text_of(number))
            try:
                print(number, flush=True)
            except BrokenPipeError:
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
