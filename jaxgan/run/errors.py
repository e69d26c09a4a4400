"""The errors of a run; each message is one line that says what is wrong and what would be right."""


class RunError(ValueError):
    """A run that cannot start, or cannot go on as it was asked to."""


class Stopped(Exception):
    """A run that was asked to stop, and has saved its state."""


class ProcessError(ValueError):
    """Processes that cannot go on together; the message says why."""
