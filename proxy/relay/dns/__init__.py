"""DNS over UDP, query by query. Imports the other rooms of the relay, but neither tcp nor udp."""
