"""What is written down: the timeline, the log, the state directory, files that rotate. Imports stats."""
