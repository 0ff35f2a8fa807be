"""README's section on performance: made from committed results, and nothing else."""

import pytest

from bench import readme
from bench.pages import beside
from bench.pages import page as every_figure
from bench.results import Result
from tests.bench.samples import compared, run, scaled

PAGE = "before\n<!-- performance: old.json -->\nold\n<!-- end of performance -->\nafter\n"
AGAIN = "`python -m bench report FILE` changes nothing"


def rows(text):
    """Return the cells of every row of every table."""
    return [[cell.strip() for cell in one.split("|")[1:-1]] for one in text.splitlines() if one.startswith("| ")]


def test_the_section_is_what_the_committed_results_give():
    """README has no figure of performance that its result does not have, and neither has the page beside the result."""
    page = (readme.ROOT / "README.md").read_text()
    files = readme.files_of(page)
    assert readme.replaced(page, files) == page, AGAIN
    for file in files:
        assert beside(file).read_text() == every_figure(Result.read(file)), AGAIN


def test_only_the_section_changes(tmp_path, monkeypatch):
    """What stands before and after the markers stays; the markers name the new files."""
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    compared().write(tmp_path / "new.json")
    page = readme.replaced(PAGE, [tmp_path / "new.json"])
    assert page.startswith("before\n<!-- performance: new.json -->\n")
    assert page.endswith("\n<!-- end of performance -->\nafter\n")
    assert "old" not in page
    assert readme.replaced(page, [tmp_path / "new.json"]) == page


def test_figures_are_of_quiet_pairs():
    """A cell has the median of the quiet pairs and their range, and a dash if there is no figure."""
    heads = [one for one in rows(readme.section(compared(), "new.json")) if one[0] != "dns"]
    assert [one[1:] for one in heads] == [["dnsdist", "none"], ["dnsdist"], ["dnsdist", "none"]]
    rate, own, latency = [one for one in rows(readme.section(compared(), "new.json")) if one[0] == "dns"]
    assert rate == ["dns", "0.65 (0.50-0.80)", "0.25 (0.25-0.25)"]
    assert own == ["dns", "1.00 (1.00-1.00)"]
    assert latency == ["dns", "0.50 (0.50-0.50)", "10.00 (10.00-10.00)"]
    assert "an idle connection takes: steelyard 2.0, dnsdist 1.9 4.0." in readme.section(compared(), "new.json")


def test_the_hardest_to_beat_counts():
    """Of several versions of a peer, that with the best rate and that with the least processor time are shown."""
    result = compared()
    for one in result.works[0].rounds:
        one["dnsdist 1.7"] = run(400, own=20e-6)
    found = [one for one in rows(readme.section(result, "new.json")) if one[0] == "dns"]
    assert found[0][1] == "0.11 (0.10-0.12)"  # of dnsdist 1.7, which is faster
    assert found[1][1] == "1.00 (1.00-1.00)"  # of dnsdist 1.9, which uses less


def test_the_page_has_every_system():
    """The page beside a result has every peer with the number of its quiet pairs, and each system's own figures."""
    found = rows(every_figure(compared()))
    assert ["dnsdist 1.9", "0.65 (0.50-0.80)", "1.00 (1.00-1.00)", "1.00 (1.00-1.00)", "0.50 (0.50-0.50)", "2"] in found
    assert ["steelyard", "40.000", "10.00", "1.00 / 2.00 / 3.00", "3", "0", "2.0"] in found
    assert ["none", "160.0", "-", "0.10 / 0.20 / 0.30", "0", "0", "-"] in found
    assert ["1000 backends", "2.00 (2.00-2.00)", "1"] in rows(every_figure(scaled()))


def test_scale_has_a_row_for_each_configuration():
    """The section of `scale` has the ratio to the plain configuration, of quiet pairs, in a column for each work."""
    assert rows(readme.section(scaled(), "scale.json")) == [
        ["configuration", "dns"],
        ["1000 backends", "2.00 (2.00-2.00)"],
    ]


def test_noise_gives_no_figure():
    """Without a quiet pair the section says so, and has no table."""
    result = compared()
    result.works[0].rounds = [result.works[0].rounds[1]]
    result.works[0].latencies = []
    text = readme.section(result, "new.json")
    assert "No pair of runs was quiet" in text
    assert rows(text) == []


def test_a_note_is_never_lost():
    """The note of a result, such as that it is preliminary, stands in bold above its figures."""
    result = compared()
    result.facts["note"] = "Preliminary."
    assert readme.section(result, "new.json").startswith("**Preliminary.**\n")
    assert "\n**Preliminary.**\n" in every_figure(result)


def test_a_page_without_markers_is_refused():
    """A page without the markers raises an error."""
    with pytest.raises(readme.NoSectionError):
        readme.replaced("nothing", [])
