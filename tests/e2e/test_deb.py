"""The Debian package: installed, started by hand, upgraded under load, removed and purged, in a root to throw away.

Over this host's own root, with a package that takes the modules that the tests run.  `make deb-test` tests what `make deb`
makes: DEB is that package, and TREE=/srv/trixie the root of another release, if it is one.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cli import EXIT_UNREACHABLE
from shipping import ROOT, deb
from tests.e2e.bed import SERVICE, Bed, backend_address, site
from tests.e2e.load import Load, assert_lossless
from tests.e2e.process import Proc, until
from tests.e2e.servers import Nginx, Nsd
from tests.e2e.tree import Tree

pytestmark = [pytest.mark.load, pytest.mark.timeout(600)]

PYTHON = Path("/usr/bin/python3")
PACKAGES = "/usr/lib/steelyard/lib/python3.*/site-packages"
NEXT = "9.9.9"
KEEPALIVED = f"""
vrrp_instance inside {{
    interface eth1
    virtual_router_id 51
    priority 150
    advert_int 1
    virtual_ipaddress {{
        10.0.0.100/24
    }}
}}
virtual_server {SERVICE} 53 {{
    protocol UDP
    lb_algo wlc
    lb_kind NAT
    delay_loop 1
    real_server {backend_address(1)} 53 {{ DNS_CHECK {{ type SOA
 name example.net }} }}
    real_server {backend_address(2)} 53 {{ DNS_CHECK {{ type SOA
 name example.net }} }}
}}
virtual_server {SERVICE} 80 {{
    protocol TCP
    lb_algo rr
    lb_kind NAT
    delay_loop 1
    real_server {backend_address(1)} 80 {{ TCP_CHECK {{ connect_timeout 1 }} }}
    real_server {backend_address(2)} 80 {{ TCP_CHECK {{ connect_timeout 1 }} }}
}}
"""
# What dpkg writes about itself, and the caches of other packages' triggers.
DPKG = re.compile(
    r"/var/(lib/dpkg|log|cache|lib/systemd|lib/man-db)/|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$"
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the package and one of the next version."""
    directory = tmp_path_factory.mktemp("deb")
    path = Path(os.environ["DEB"]) if "DEB" in os.environ else _built(directory)
    return path, _next(path, directory)


def _built(directory: Path) -> Path:
    if not PYTHON.exists() or Path("/etc/debian_version").exists() is False:
        pytest.skip("not a Debian host")
    tag = subprocess.run(
        [PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=True
    )
    # The modules that the tests run are those of this interpreter; if Debian's is another one, they are built for it.
    same = tag.stdout.split() == [str(one) for one in sys.version_info[:2]]
    built = ROOT / "build" if same else None
    return deb.build(directory, python=str(PYTHON), built=built, wheels=ROOT / "build" / "wheels", fast=True)


def _next(path: Path, directory: Path) -> Path:
    """Return the package as if the sources had another version, one file more and one less."""
    tree = directory / "next"
    subprocess.run(["dpkg-deb", "-R", path, tree], check=True)
    (record,) = tree.glob(f"{PACKAGES.lstrip('/')}/steelyard-*.dist-info")
    metadata = record / "METADATA"
    metadata.write_text(re.sub(r"^Version: .*$", f"Version: {NEXT}", metadata.read_text(), count=1, flags=re.MULTILINE))
    record.rename(record.with_name(f"steelyard-{NEXT}.dist-info"))
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: [^-]*", f"Version: {NEXT}", control.read_text(), flags=re.MULTILINE))
    to = directory / "next.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, to], check=True, stdout=subprocess.DEVNULL
    )
    return to


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    """Return a bed with two servers, each for DNS and HTTP, behind a host that has nothing installed yet."""
    with site(2) as bed:
        for number in (1, 2):
            Nsd(bed, f"b{number}", [backend_address(number)])
            Nginx(bed, f"b{number}", [backend_address(number)])
        yield bed


@pytest.fixture(scope="module")
def tree(bed: Bed) -> Tree:
    """Return the root of the host.  Its network reaches the bed, and nothing else."""
    return Tree(bed, "balancer", Path(os.environ.get("TREE", "/")))


def version_of(path: Path) -> str:
    """Return the version that a package's program has."""
    done = subprocess.run(["dpkg-deb", "-f", path, "Version"], capture_output=True, text=True, check=True)
    return done.stdout.partition("-")[0].replace("~", "")


def install(tree: Tree, path: Path) -> str:
    """Install a package and return what dpkg says."""
    tree.put(path, "/tmp/steelyard.deb")
    done = tree.run("dpkg", "--force-unsafe-io", "--install", "/tmp/steelyard.deb")
    return done.stdout + done.stderr


def status(tree: Tree) -> dict:
    return json.loads(tree.run("steelyard", "status", "--json", check=False).stdout)


def test_it_is_installed_without_a_network(tree, packages):
    """The package installs where nothing can be fetched and no systemd runs, and leaves what it installs as it is in the package."""
    install(tree, packages[0])
    assert tree.run("steelyard", "--version").stdout == f"steelyard {version_of(packages[0])}\n"
    assert tree.run("dpkg", "--verify", "steelyard").stdout == ""
    assert re.fullmatch(r"steelyard:x:\d{1,3}:.*:/usr/sbin/nologin\n", tree.run("getent", "passwd", "steelyard").stdout)
    # All lines of the example are comments: nothing that could run by mistake.
    assert "there is nothing to run" in tree.run("steelyard", "check", check=False).stderr
    modes = tree.run("stat", "-c", "%a %U %n", "/run/steelyard", "/var/lib/steelyard", "/var/log/steelyard").stdout
    assert modes == "755 root /run/steelyard\n750 root /var/lib/steelyard\n750 root /var/log/steelyard\n"


def test_all_that_is_in_it_works(tree):
    """Every module of the package, those that are compiled among them, is imported by the interpreter of the release."""
    code = """
import importlib, pkgutil, sys
import health, proxy, vrrp
names = [one.name for part in (health, proxy, vrrp) for one in pkgutil.walk_packages(part.__path__, part.__name__ + ".")]
mains = {"proxy.__main__"}
found = [importlib.import_module(name).__file__ for name in names if name not in mains]
assert sum(file.endswith(".so") for file in found) > 30, found
assert all(file.startswith("/usr/lib/steelyard/") for file in found), found
import aiohttp, asyncpg, prometheus_client, redis, textual, yaml
assert not [name for name in sys.modules if name.startswith("pip")]
"""
    tree.run("/usr/lib/steelyard/bin/python3", "-P", "-W", "ignore", "-c", code)


def test_bytecode_is_that_of_the_package(tree):
    """Every module has its bytecode in the package, which names its final place; nothing compiles at a start."""
    code = """
import pathlib, marshal, sys
missing = []
for path in pathlib.Path(sys.argv[1]).rglob("*.py"):
    cached = path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
    if not cached.exists():
        missing.append(str(path))
        continue
    content = cached.read_bytes()
    assert content[4] == 1, (path, content[:16], cached.stat())  # by hash, unchecked: PEP 552
    assert marshal.loads(content[16:]).co_filename == str(path), path
print("\\n".join(missing))
"""
    done = tree.run("/usr/lib/steelyard/bin/python3", "-c", code, "/usr/lib/steelyard")
    assert done.stdout.split() == []


def test_the_newcomers_path(tree):
    """A file of keepalived becomes one that `check` accepts and that serves, and status shows that all is up."""
    tree.write("/root/keepalived.conf", KEEPALIVED.encode())
    imported = tree.run("steelyard", "import", "keepalived", "/root/keepalived.conf")
    tree.write("/etc/steelyard/steelyard.toml", imported.stdout.encode())
    tree.run("steelyard", "check")
    if tree.run("steelyard", "status", check=False).returncode == EXIT_UNREACHABLE:
        start(tree)
    shown = until(lambda: _shown(tree), 60, "all to be up")
    assert all(backend_address(number) in shown for number in (1, 2))
    if "top" in tree.run("steelyard", "--help").stdout.split():
        assert backend_address(1) in tree.run("steelyard", "top", "--once").stdout


def start(tree: Tree) -> Proc:
    """Start the daemon by hand, with the command of the unit."""
    unit = tree.run("sh", "-c", "cat /usr/lib/systemd/system/steelyard.service").stdout
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return tree.spawn(command.split())


def _shown(tree: Tree) -> str:
    done = tree.run("steelyard", "status", check=False)
    return done.stdout if done.returncode == 0 else ""


def test_an_upgrade_under_load(bed, tree, packages):
    """R6: the next version is installed over a daemon under load; it takes over, and no client notices."""
    before = status(tree)
    path, version = (packages[1], NEXT) if before["version"] != NEXT else (packages[0], version_of(packages[0]))
    load = Load(bed, "client", SERVICE)
    output = install(tree, path)
    assert "the former version goes on" not in output
    after = until(lambda: _serving(tree, version), 60, "the other version")
    former = {one["pid"] for one in before["workers"]}
    assert not former & {one["pid"] for one in after["workers"] if not one["draining"]}
    assert_lossless(load.stop())
    assert tree.run("steelyard", "--version").stdout == f"steelyard {version}\n"
    assert SERVICE in tree.read("/etc/steelyard/steelyard.toml")  # the administrator's file stays


def _serving(tree: Tree, version: str) -> dict | None:
    found = status(tree)
    return found if found["version"] == version else None


def test_it_is_removed_and_purged(tree):
    """Removed, it leaves configuration and state; purged, it leaves nothing, and no user."""
    tree.run("dpkg", "--remove", "steelyard")
    assert SERVICE in tree.read("/etc/steelyard/steelyard.toml")
    assert tree.run("ls", "/usr/lib/steelyard", check=False).returncode
    tree.run("sh", "-c", "for pid in $(pgrep -f '[s]teelyard/bin/python3'); do kill -INT $pid; done")
    until(lambda: tree.run("pgrep", "-f", "[s]teelyard/bin/python3", check=False).returncode, 40, "the daemon to end")
    tree.run("dpkg", "--purge", "steelyard")
    left = {path for path in tree.changed() if not DPKG.search(path)} - {"/root/keepalived.conf"}
    assert left == set()
    for path in ("/run/steelyard", "/var/lib/steelyard", "/var/log/steelyard", "/etc/steelyard", "/usr/lib/steelyard"):
        assert not tree.root.joinpath(path.lstrip("/")).exists()
    assert tree.run("getent", "passwd", "steelyard", check=False).returncode == 2
