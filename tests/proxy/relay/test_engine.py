"""proxy.relay.engine: the interface between a worker and its data plane."""

import inspect

from proxy.relay.engine import Engine
from proxy.relay.python_engine import PythonEngine


def test_the_python_engine_fits():
    """The engine in Python has the methods of the interface, with the same arguments, and no other public ones."""
    asked = {name: one for name, one in vars(Engine).items() if not name.startswith("_")}
    assert asked.keys() == {name for name in vars(PythonEngine) if not name.startswith("_")}
    for name, one in asked.items():
        if inspect.isfunction(one):
            assert inspect.signature(one) == inspect.signature(getattr(PythonEngine, name)), name
