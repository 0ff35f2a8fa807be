"""The relay's rules and records for a client: access, rate, open connections, persistence. Imports loop."""
