"""The list of behaviours and the search for those without a test."""

from tests import behaviours


def test_list_is_whole():
    """The list has every behaviour of every area once, in order."""
    areas = {"T": 25, "U": 20, "H": 15, "V": 25, "R": 15, "S": 10, "P": 7}
    assert list(behaviours.BEHAVIOURS) == [f"{area}{n}" for area, count in areas.items() for n in range(1, count + 1)]


def test_only_docstrings_of_tests_name():
    """IDs count in docstrings of tests and test classes, and neither in comments, names nor other functions."""
    source = '''
"""Module: U1."""
class TestOne:
    """T1, T2: true."""
    async def test_two(self):
        """R10 holds."""
def helper():
    """S1."""
def test_three():
    # H1
    assert "H2"
'''
    assert sorted(behaviours.names(source)) == ["R10", "T1", "T2"]
