"""Who serves: the configuration in force, verdicts, and what operators want. Imports config, balance and records."""
