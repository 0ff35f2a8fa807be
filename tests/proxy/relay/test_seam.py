"""proxy.relay.seam: what a worker asks of its data plane."""

import inspect

from proxy.relay.engine import PythonEngine
from proxy.relay.seam import Engine


def test_the_python_engine_fits():
    """What the seam has, the engine in Python has with the same arguments, and nothing in public beside it."""
    asked = {name: one for name, one in vars(Engine).items() if not name.startswith("_")}
    assert asked.keys() == {name for name in vars(PythonEngine) if not name.startswith("_")}
    for name, one in asked.items():
        if inspect.isfunction(one):
            assert inspect.signature(one) == inspect.signature(getattr(PythonEngine, name)), name
