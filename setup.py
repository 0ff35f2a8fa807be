"""Builds what is compiled: the native modules, and the Python modules that have a `.pxd` beside them.

Everything else about the package is in pyproject.toml.  `python setup.py build_ext --inplace` builds in a checkout.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).parent
# Flags of the compiler and of the linker; `make sanitize` has its own.  There are forty modules in each worker: without
# tables for C++'s exceptions, symbols, and pages between segments they take 2 MB less of its memory.
COMPILED = "-O2 -g0 -Wall -fvisibility=hidden -fno-asynchronous-unwind-tables -fno-unwind-tables"
FLAGS = os.environ.get("NATIVE_CFLAGS", COMPILED).split()
LINKED = os.environ.get("NATIVE_LDFLAGS", "-s -Wl,-z,noseparate-code").split()


def modules() -> list[Extension]:
    """Return an extension for each `.pyx`, and for each `.py` with a `.pxd` of the same name."""
    found = [*ROOT.glob("proxy/**/*.pyx"), *(path.with_suffix(".py") for path in ROOT.glob("proxy/**/*.pxd"))]
    sources = sorted(path.relative_to(ROOT) for path in found if path.exists())
    return [
        Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=FLAGS, extra_link_args=LINKED)
        for path in sources
    ]


def forget_others(found: list[Extension]) -> None:
    """Remove what was built of modules that are compiled no more: it would hide their Python source."""
    names = {one.name for one in found}
    for built in ROOT.glob("proxy/**/*.so"):
        path = built.relative_to(ROOT)
        if ".".join([*path.parent.parts, path.name.split(".")[0]]) not in names:
            built.unlink()


def extensions() -> list[Extension]:
    """Return what is to be compiled; nothing if `make` installs the package, which compiles it afterwards, and once."""
    if "NATIVE_LATER" in os.environ:
        return []
    found = modules()
    forget_others(found)
    return cythonize(
        found,
        nthreads=os.cpu_count(),
        build_dir="build/cython",
        compiler_directives={
            "language_level": "3",
            "binding": False,  # functions of C, as in CPython's own modules: a quarter less code
            "annotation_typing": False,  # annotations are for mypy: `memoryview[int]` would become a buffer of C ints
        },
    )


setup(
    ext_modules=extensions(),
    options={"build_ext": {"parallel": os.cpu_count()}},  # pip has no option for it
)
