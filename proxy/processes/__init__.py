"""Child processes: how one is started, watched and talked to. Imports host, records and stats."""
