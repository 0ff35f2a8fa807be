from collections.abc import Callable

class Random:
    source: Callable[[int], bytes]
