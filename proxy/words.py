"""Words for numbers, in messages that people read [pure].  Imports nothing."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return "1 service" or "2 services"; `many` is the plural where it is not `one` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
