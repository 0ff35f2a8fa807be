"""What a run of pytest says of a change to the code."""

import pytest

from tests.breakages.__main__ import judged


@pytest.mark.parametrize(
    ("code", "said", "verdict"),
    [
        (0, "....\n4 passed in 0.12s\n", "passed"),
        (0, "....\n4 passed in 61.20s (0:01:01)\n", "passed"),
        (1, "F\nFAILED test_x.py::test_y\n1 failed, 2 passed in 0.12s\n", "failed"),
        (1, "FE\n1 failed, 1 error in 0.12s\n  + Exception Group Traceback\n", "failed"),
        (1, "E\nERROR test_x.py::test_y - 1 failed to start\n1 error in 0.12s\n", "error"),
        (1, ".E\n1 passed, 1 error in 0.12s\n", "error"),
        (2, "ERROR test_x.py - SyntaxError\n1 error in 0.12s\n", "error"),
        (4, "ERROR: not found: test_x.py::test_y\nno tests ran in 0.12s\n", "error"),
        (0, "s\n1 skipped in 0.12s\n", "error"),
        (0, ".s\n1 passed, 1 skipped in 0.12s\n", "error"),
        (-9, "", "error"),
    ],
)
def test_only_a_test_that_failed_counts(code: int, said: str, verdict: str):
    """A change is seen by a test that failed; what could not be collected, set up or run proves nothing."""
    assert judged(code, said) == verdict
