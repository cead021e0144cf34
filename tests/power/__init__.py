"""Tier P: the power of a real file system is cut while a process writes (Linux, root)."""
