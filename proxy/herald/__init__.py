"""The herald process as the master sees it: its listeners, its snapshots and events. Imports config, processes, records, workers."""
