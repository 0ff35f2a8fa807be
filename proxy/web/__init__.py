"""What strangers may read over HTTP: status, events, metrics and the page, from snapshots. Imports config and status."""
