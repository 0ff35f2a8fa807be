"""What the benchmark of moves prints."""

from bench.moves import GAP, GONE, TAKEN, Row, kept, ratio, shown, table

SIGTERM, KILLED, STANDBY = Row("SIGTERM", TAKEN), Row("all killed", GONE), Row("standby", TAKEN)
ROUNDS = [
    {"steelyard": {SIGTERM: 0.05, KILLED: 2.1, STANDBY: 0.1}, "keepalived": {SIGTERM: 0.10, KILLED: None}},
    {"steelyard": {SIGTERM: 0.25, KILLED: 2.2, STANDBY: 0.1}, "keepalived": {SIGTERM: 0.10, KILLED: None}},
    {"steelyard": {SIGTERM: 0.06, KILLED: 2.0, STANDBY: 0.1}, "keepalived": {SIGTERM: 0.30, KILLED: None}},
]


def test_median_and_worst():
    """A cell has the median and the worst; what never happened is longer than was waited for; nothing is a dash."""
    assert shown([0.05, 0.25, 0.06]) == "0.060 (0.250)"
    assert shown([2.0, None, None]) == "> 10 (> 10)"
    assert shown([]) == "-"


def test_ratios_are_taken_within_a_round():
    """A ratio compares two systems in the same round, and there is none with what never happened or was not tried."""
    assert ratio(ROUNDS, SIGTERM, "steelyard", "keepalived") == "0.50"
    assert ratio(ROUNDS, KILLED, "steelyard", "keepalived") == "-"
    assert ratio(ROUNDS, STANDBY, "steelyard", "keepalived") == "-"


def test_bounds_are_for_the_worst():
    """A bound is missed if one round misses it, or never came to its end."""
    assert kept(ROUNDS, SIGTERM, "steelyard") == "0.200 MISSED in 1"
    assert kept(ROUNDS, KILLED, "steelyard") == "2.500 kept"
    assert kept(ROUNDS, KILLED, "keepalived") == "2.500 MISSED in 3"
    assert kept(ROUNDS, Row("SIGTERM", GAP), "steelyard") == "-"


def test_the_table_is_markdown():
    """The table has a line for each fault and figure, and is Markdown."""
    head, rule, *lines = table(ROUNDS, "steelyard").splitlines()
    assert [one.strip() for one in head.split("|")[1:-1]] == [
        "fault",
        "seconds until",
        "steelyard",
        "keepalived",
        "steelyard/keepalived",
        "bound of steelyard",
    ]
    assert set(rule) <= set("|-: ")
    assert [one.split("|")[1].strip() for one in lines] == ["SIGTERM", "all killed", "standby"]
    assert [one.strip() for one in lines[2].split("|")[3:-1]] == ["0.100 (0.100)", "-", "-", "0.200 kept"]
