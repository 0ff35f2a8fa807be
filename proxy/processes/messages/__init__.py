"""The messages between the master and its children, one file for each kind of child. Imports no other room."""
