"""proxy.stats.meanings: the words for counters."""

import re
from pathlib import Path

from proxy.stats.layout import BACKEND_CELLS, SERVICE_CELLS
from proxy.stats.meanings import BACKEND, SERVICE, VRRP


def test_every_counter_has_a_meaning() -> None:
    """Each counter and gauge of a service and of a backend is explained, in their order, and nothing else is."""
    assert list(SERVICE) == [name for name, _ in SERVICE_CELLS]
    assert list(BACKEND) == [name for name, _ in BACKEND_CELLS if not name.startswith("spare")]
    assert all(SERVICE.values())
    assert all(BACKEND.values())


def test_every_counter_of_a_router_has_a_meaning() -> None:
    """Each name that the vrrp process counts under is explained, and nothing else is."""
    sources = Path(__file__).parents[3] / "vrrp"
    files = {path.stem: path.read_text() for path in sources.glob("*.py")}
    counted = r'ounters\[(?:key\]\[)?(?:why or )?"(\w+)"(?: if [^\]]*? else "(\w+)")?'
    own, others = set(), set()
    for name, text in files.items():
        prefix = {"sockets": "socket_", "ports": "socket_", "kernel": "kernel_", "notify": None}.get(name, "")
        if prefix is None:
            continue
        found = {one for pair in re.findall(counted, text) for one in pair if one}
        found |= set(re.findall(r'counters\["(\w+)"\]', text))
        (own if not prefix else others).update(f"{prefix}{one}" for one in found)
        own.update(re.findall(r'(?:Count|Drop)\("(\w+)"', text))
    reasons = re.search(r"reasons = \{(.*?)\}", files["listening"], re.DOTALL)
    assert reasons is not None
    own.update(re.findall(r'"(\w+)":', reasons[1]))
    own |= {"send_failed", "send_no_room"}  # what the announcer's sends return
    assert set(VRRP) == own | others
    assert all(VRRP.values())
