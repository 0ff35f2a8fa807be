"""One daemon takes the place of another on the same host: sockets, shared memory and state pass over, clients notice nothing."""
