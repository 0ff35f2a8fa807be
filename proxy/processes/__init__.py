"""Child processes: how one is started, watched and talked to. Imports no other room."""
