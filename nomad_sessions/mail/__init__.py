"""Messages between sessions: which comes next (`queue.py`), when (`timing.py`), to whom (`routing.py`), and the
operations that write it down (`operations.py`)."""
