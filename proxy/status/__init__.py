"""The snapshot of the running system, which every reader shares, and its schema. Imports stats and config."""
