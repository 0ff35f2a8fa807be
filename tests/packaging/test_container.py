"""The Containerfile: what it copies is there, what it runs is what make runs; with TREE its steps are run in that tree."""

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from shipping import ROOT, elsewhere, sources, tree
from tests.e2e import sandbox

FILE = ROOT / "packaging" / "Containerfile"
KNOWN = {"FROM", "RUN", "COPY", "WORKDIR", "USER", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
PIP = ("PIP_", "SSL_", "http", "HTTP")


class Step(NamedTuple):
    """One instruction."""

    word: str
    rest: str


def stages() -> list[list[Step]]:
    """Return the instructions of each stage."""
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    steps = [Step(*line.split(" ", 1)) for line in lines]
    assert {step.word for step in steps} <= KNOWN
    starts = [at for at, step in enumerate(steps) if step.word == "FROM"]
    return [steps[start:end] for start, end in zip(starts, [*starts[1:], len(steps)], strict=True)]


def test_it_builds_the_wheel_as_make_does():
    """The wheel is built by the command of `make wheel`, with the tools that pyproject.toml asks for, and the lock file's hashes."""
    build, _ = stages()
    runs = [step.rest for step in build if step.word == "RUN"]
    assert any("PYTHONPATH=packaging" in run and "-m shipping wheel" in run for run in runs)
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert any(set(tools) <= set(shlex.split(run)) for run in runs)
    assert any("--require-hashes" in run and "packaging/requirements.lock" in run for run in runs)


def test_what_it_ignores_is_what_was_made():
    """Every source is copied into the build, and nothing that was built in the checkout."""
    ignored = set((ROOT / ".containerignore").read_text().split())
    assert {".git", ".venv", "build", "**/*.so"} <= ignored
    needed = {path.parts[0] for path in (*sources.sources(), *map(Path, sources.FILES))} | {"packaging"}
    assert needed & ignored == set()


def test_it_ends_as_a_user_without_rights():
    """The last stage runs the program as its own user, and its comments name the capabilities of the unit, all of them."""
    _, last = stages()
    assert [step.rest for step in last if step.word == "USER"] == ["steelyard"]
    assert [step.rest for step in last if step.word in {"ENTRYPOINT", "CMD"}] == [
        '["/usr/local/bin/steelyard"]',
        '["run"]',
    ]
    text = FILE.read_text()
    named = {one for line in re.findall(r"--cap-add ([A-Z_,]+)", text) for one in line.split(",")}
    unit = {one.removeprefix("CAP_") for value in sandbox.settings()["CapabilityBoundingSet"] for one in value.split()}
    assert named == unit


def script(steps: list[Step], where: str) -> str:
    """Return a stage as a shell script: what it copies from outside lies below `where`."""
    lines = ["set -ex", "cd /"]
    for step in steps:
        if step.word == "RUN":
            lines.append(step.rest)
        elif step.word == "WORKDIR":
            lines.append(f"cd {step.rest}")
        elif step.word == "COPY":
            source, target = step.rest.removeprefix("--from=build ").split()
            lines.append(f"mkdir -p {target} && cp -a {where}{source if source != '.' else '/src'}/. {target}/")
    return "\n".join(lines)


@pytest.mark.skipif("TREE" not in os.environ, reason="wants a Debian root: make container-test TREE=/srv/trixie")
@pytest.mark.timeout(1800)
def test_its_steps_run(tmp_path):
    """Each step of both stages runs in a Debian root, and the result runs as the user that the file names."""
    lower = Path(os.environ["TREE"])
    outside = tmp_path / "outside"
    ignore = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.so", "__pycache__")
    shutil.copytree(ROOT, outside / "src", ignore=ignore)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(PIP)}
    build, last = stages()
    first = script(build, str(outside)) + f"\ncp -a --parents /opt/steelyard {outside}"
    second = (
        script(last, str(outside)) + "\nsetpriv --reuid steelyard --regid steelyard --clear-groups steelyard --version"
    )
    for text in (first, second):
        command = tree.command(lower, [outside, *elsewhere.binds()], "sh", "-c", text)
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1].startswith("steelyard ")
