"""Whose processor time was used."""

import os
import time

import pytest

from bench import processor
from bench.processor import account, memory, runtime


def test_what_nobody_of_the_run_used_counts_as_others(monkeypatch):
    """Of two processors for 2 s, 1 s idle, 0.8 s the balancer's, 1.4 s the clients': 0.8 s are others', a fifth."""
    monkeypatch.setattr(processor, "PROCESSORS", 2)
    used = account(elapsed=2.0, idle=1.0, own=0.8, ours=1.4)
    assert used.own == 0.8
    assert used.all == pytest.approx(2.2)
    assert used.others == pytest.approx(0.2)


def test_others_are_never_less_than_nothing(monkeypatch):
    """The kernel's counts differ by some milliseconds, which must not make a negative share."""
    monkeypatch.setattr(processor, "PROCESSORS", 2)
    assert account(elapsed=1.0, idle=1.5, own=0.4, ours=0.2).others == 0


def test_runtime_counts_what_a_process_has_used():
    """The processor time of a process grows with what it does; one that does not exist has none."""
    before, began = runtime([os.getpid()]), time.process_time()
    while time.process_time() < began + 0.05:
        pass
    assert runtime([os.getpid()]) - before >= 0.03
    assert runtime([2**22 + 1]) == 0
    assert memory([os.getpid()]) > 2**20
