"""The one view of the running system: the snapshot and its schema. Imports stats and config."""
