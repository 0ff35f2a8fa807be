"""`make wheel`: its files are those of the sources, whatever lies in `build/`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from shipping import ROOT, sources, wheel

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel whose native modules were compiled before, beside leftovers of modules that are gone."""
    directory = tmp_path_factory.mktemp("wheel")
    leftovers = directory / "build"
    shutil.copytree(ROOT / "build", leftovers, ignore=shutil.ignore_patterns("temp.*", "wheels", "deb*", "site"))
    (library,) = leftovers.glob("lib.*")
    (library / "proxy" / f"gone{SUFFIX}").write_bytes(b"old")
    (library / "proxy" / "gone.py").write_text("old")
    (leftovers / "cython" / "proxy" / "gone.c").write_text("old")
    return wheel.build(directory / "dist", built=leftovers)


def test_its_files_are_the_sources(built):
    """The wheel has each file of the import packages with its content, each native module, and nothing of deleted ones."""
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert all(archive.read(str(path)) == (ROOT / path).read_bytes() for path in sources.sources())
        compiled = {str(path.with_suffix(SUFFIX)) for path in sources.native()}
        assert len(compiled) > 30
        assert names == {str(path) for path in sources.sources()} | compiled
        assert b"\nName: steelyard\n" in archive.read("steelyard-0.1.0.dist-info/METADATA")


def test_its_sources_are_what_git_has():
    """Every file that git has below the import packages is in the wheel, and no file that git ignores."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        *sources.PACKAGES,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout of git")
    known = {Path(name) for name in done.stdout.split("\0") if name}
    assert {path for path in known if (ROOT / path).exists()} == set(sources.sources())


def test_it_is_installed_and_runs(built, tmp_path):
    """The wheel runs where it is installed, with its own modules: here beside the dependencies of this environment."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", f"--target={tmp_path}"]
    subprocess.run([*install, str(built)], check=True)
    code = (
        "import proxy.relay.native.poller as poller, proxy.cli; print(poller.__file__); proxy.cli.main(['--version'])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    file, version = done.stdout.splitlines()
    assert file == str(tmp_path / "proxy" / "relay" / "native" / f"poller{SUFFIX}")
    assert version.startswith("steelyard ")


def test_what_was_compiled_of_older_sources_is_compiled_again(tmp_path):
    """A native module of `build/` is brought with its time, so that setuptools sees whether its source is newer."""
    copy, leftovers = tmp_path / "copy", tmp_path / "build"
    source = sources.native()[0]
    module = leftovers / "lib.x" / source.with_suffix(SUFFIX)
    module.parent.mkdir(parents=True)
    module.write_bytes(b"old")
    os.utime(module, (1000, 1000))
    sources.copy(copy)
    wheel._seed(copy, leftovers)
    assert (copy / "build" / module.relative_to(leftovers)).stat().st_mtime == 1000
    assert (copy / source).stat().st_mtime > 1000
