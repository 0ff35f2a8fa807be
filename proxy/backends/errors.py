"""Why an operator's act on a backend is not done, and whose fault that is."""


class RefusedError(Exception):
    """The operator asked for what makes no sense here; the text says why."""


class FailedError(Exception):
    """The act makes sense, and this host could not do all of it; the text says what and why."""
