"""Machinery that tests share: the model file system and its faults."""
