"""One workspace: its state, and how it is opened, changed, folded, merged and checked."""
