"""Files: the system call seam, the lock, journal, snapshot and attachments. Nothing here knows what a session is."""
