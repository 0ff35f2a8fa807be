"""The control socket: one JSON line a request, one or more JSON lines an answer."""
