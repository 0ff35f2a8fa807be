"""What this host allows: open files, privileges, addresses, ports that are taken. Imports config."""
