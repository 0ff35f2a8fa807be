"""How the end-to-end tests run where namespaces need help, and what a failing one shows.

- Every test below tests/e2e carries the mark `e2e`.
- Root runs them in this process. For everybody else they are left out of this process and run, after the others, by a
  second pytest under `unshare -rn`, where the kernel allows it; where it does not, each skips with that reason.
- What the machine lacks (a server, a right) skips a test. Under CI nothing end to end may skip: it fails instead.
- A test that fails shows what the processes of its bed have written.
- The files that take longest begin first.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.e2e import bed
from tests.e2e.process import MissingError, Proc

E2E = Path(__file__).parent / "e2e"
# Set in the second pytest, so that it neither starts a third nor runs what the first one ran.
WRAPPED = "STEELYARD_TESTS_WRAPPED"
# How long an example takes says more of this machine than of the code.
settings.register_profile("steelyard", deadline=None)
settings.load_profile("steelyard")

# A shell starts its background jobs with SIGINT ignored, and all that they start; what we start is to be interruptible.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Of these files each takes longest among those that run beside it: they begin first, lest one worker ends alone with one.
# xdist gives each of its four the first and the fifth, the second and the sixth, ...: the two pairs of daemons, which
# ask most of the machine, are not beside each other.
LONGEST = (
    "test_story.py",
    "test_mysql_real.py",
    "test_loader.py",
    "test_supervisor.py",
    "test_election.py",
    "test_connection.py",
    "test_hostile.py",
    "test_check.py",
    # end to end
    "test_pair.py",
    "test_vrrp_keepalived.py",
    "test_processes.py",
    "test_mail_hosting_run.py",
    "test_pair_operating.py",
    "test_vrrp_faults.py",
    "test_mail_hosting.py",
    "test_demo_pair.py",
    "test_probing.py",
    "test_tiers.py",
    "test_services.py",
    "test_bed.py",
)

LEFT_OUT = pytest.StashKey[bool]()
ENDED = pytest.StashKey[list[Proc]]()
WRAPPER = ["unshare", "--map-root-user", "--net", "--"]


def can_wrap() -> bool:
    """Whether this user, who is not root, can be root of a user namespace."""
    if os.geteuid() == 0 or WRAPPED in os.environ or shutil.which("unshare") is None:
        return False
    return subprocess.run([*WRAPPER, "true"], capture_output=True, check=False).returncode == 0


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Run what was left out under `unshare -rn`; the exit code is the worse one."""
    outcome = yield
    if not config.stash.get(LEFT_OUT, False) or config.option.collectonly:
        return outcome
    command = [*WRAPPER, sys.executable, "-m", "pytest", *config.invocation_params.args]
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture(in_=True)
    try:
        print(f"end-to-end tests, under {' '.join(WRAPPER[:-1])}:", flush=True)
        code = subprocess.run(
            command, cwd=config.invocation_params.dir, env=os.environ | {WRAPPED: "1"}, check=False
        ).returncode
    finally:
        capture.resume_global_capture()
    # The worse of both; that one of them had nothing to run is no failure.
    return code if outcome in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else outcome


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the end-to-end tests, leave to the other pytest what it runs, and begin with what takes longest."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    for item in items:
        if item.path.is_relative_to(E2E):
            item.add_marker(pytest.mark.e2e)
    end_to_end = [item for item in items if item.get_closest_marker("e2e")]
    others = [item for item in items if not item.get_closest_marker("e2e")]
    if WRAPPED in os.environ:
        config.hook.pytest_deselected(items=others)
        items[:] = end_to_end
    elif end_to_end and can_wrap():
        config.stash[LEFT_OUT] = True
        config.hook.pytest_deselected(items=end_to_end)
        items[:] = others


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Turn what the machine lacks into a skip, for fixtures; note the processes that ended before the test."""
    item.stash[ENDED] = [proc for alive in list(bed.ALIVE) for proc in alive.procs if not proc.alive]
    try:
        return (yield)
    except MissingError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Turn what the machine lacks into a skip, for tests."""
    try:
        return (yield)
    except MissingError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the bed's processes beside a failure; under CI make an end-to-end skip one."""
    report = yield
    if item.get_closest_marker("e2e"):
        if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
            report.outcome = "failed"
            report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
        if report.failed:
            gone = item.stash.get(ENDED, [])
            report.sections.extend(("processes of the bed", alive.report(without=gone)) for alive in list(bed.ALIVE))
    return report
