"""The pool of a service's backends, and the schedulers that pick one of them: pure, no I/O and no clock."""
