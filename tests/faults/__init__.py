"""Tiers S and T: real system calls killed or failed, limits, small and read-only file systems (Linux)."""
