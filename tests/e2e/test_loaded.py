"""What is counted smaller, or held more, is noticed; files of other settings differ."""

import dataclasses

from tests.e2e.loaded import Held, Settings, grown, shrunk


def test_a_counter_that_shrinks():
    """A counter that is smaller than before is told with both values; a new one and one that is gone are not."""
    before = {"dns queries": 10, "web accepted": 5, "old": 9}
    assert shrunk(before, {"dns queries": 10, "web accepted": 6, "new": 0}) == []
    assert shrunk(before, {"dns queries": 9, "web accepted": 5}) == ["dns queries: 10, then 9"]


def test_what_a_process_holds_more():
    """A further descriptor, memory beyond the tolerance, and another process are told."""
    worker = Held("proxy.worker", 20, 30_000)
    before = {7: worker}
    assert grown(before, {7: dataclasses.replace(worker, files=19, memory=30_900)}) == []
    assert grown(before, {7: dataclasses.replace(worker, files=21)}) == ["proxy.worker 7 has 21 descriptors, 20 before"]
    assert grown(before, {7: dataclasses.replace(worker, memory=33_000)}) == [
        "proxy.worker 7 has 33000 KiB, 30000 before"
    ]
    assert grown(before, {8: worker}) == ["proxy.worker 7 is gone", "proxy.worker 8 is new"]


def test_each_setting_changes_the_file():
    """Each of the settings makes another file."""
    texts = {Settings().text()}
    for field in dataclasses.fields(Settings):
        texts.add(dataclasses.replace(Settings(), **{field.name: True}).text())
    assert len(texts) == 1 + len(dataclasses.fields(Settings))
