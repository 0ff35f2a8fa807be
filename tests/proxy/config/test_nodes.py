"""One file, several hosts."""

import pytest

from proxy.config import ConfigError, diagnose

TWO = 'nodes = ["lb1", "lb2"]\n'
SERVICE = '[service.a]\nlisten = ["10.0.0.10:1/tcp"]\nbackends = ["10.0.0.11"]\n'


def test_each_host_takes_its_own_value(loaded):
    """A table keyed by node is that node's value: scalars, lists and whole tables, at any depth."""
    text = TWO + (
        "[node.lb1]\nworkers = 1\n[node.lb2]\nworkers = 2\n"
        '[service.a]\nlisten = { lb1 = ["10.0.0.1:80/tcp"], lb2 = ["10.0.0.2:80/tcp"] }\n'
        'backends = ["10.0.0.11", { address = "10.0.0.12", weight = { lb1 = 5, lb2 = 6 } }]\n'
        'tcp = { connect-timeout = { lb1 = "1s", lb2 = "2s" } }\n'
    )
    for name, number in (("lb1", 1), ("lb2", 2)):
        config = loaded(text, name)
        service = config.services[0]
        assert (config.node.name, config.node.workers) == (name, number)
        assert service.listeners[0].text == f"10.0.0.{number}:80/tcp"
        assert service.tcp.connect_timeout == number
        assert service.backends[1].weight == number + 4


def test_a_mistake_in_the_other_hosts_value_is_found(said):
    """The values of every node are checked, whichever host this is; with a given node, only the values of that node."""
    text = TWO + "[node]\nworkers = { lb1 = 1, lb2 = 0 }\n" + SERVICE
    assert said(text) == ["3:28 error: workers = 0 is too small: at least 1"]
    assert said(text, "lb2") == ["3:28 error: workers = 0 is too small: at least 1"]
    assert said(text, "lb1") == []


def test_a_table_keyed_by_node_names_each_node_and_nothing_else(said):
    """A missing node and a name that is no node are errors, the latter with a suggestion."""
    assert said(TWO + "[node]\nworkers = { lb1 = 1, lb3 = 2 }\n" + SERVICE) == [
        "3:11 error: no value for node lb2: give every node a value",
        '3:22 error: "lb3" is not in nodes: every key of such a table is the name of a node | did you mean "lb2"?',
    ]


def test_services_may_be_called_as_nodes_are(loaded):
    """A service, probe or router may have a node's name: its table is not taken for a node-keyed one."""
    config = loaded(TWO + SERVICE.replace("service.a", "service.lb1"), "lb2")
    assert [service.name for service in config.services] == ["lb1"]


def test_a_node_keyed_value_without_nodes_is_explained(said):
    """A table where a value belongs hints at the missing `nodes`."""
    found = said("[node]\nworkers = { lb1 = 1, lb2 = 2 }\n" + SERVICE)
    assert found == [
        '2:11 error: workers must be a whole number, not a table | a value for each node needs nodes = ["…", "…"] at the top of the file'
    ]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ('"lb1"', "must be a list of names"),
        ("[5]", "a node's name is a string"),
        ('["a b"]', "a node's name is a string"),
        ('["lb1", "lb1"]', "twice"),
        ('["tcp", "lb1"]', "is a key of this file"),
    ],
)
def test_wrong_node_names_are_told(said, nodes, words):
    """`nodes` is a list of names, none twice, none of them a key of the file."""
    assert any(words in line for line in said(f"nodes = {nodes}\n" + SERVICE))


def test_who_this_node_is(loaded, monkeypatch):
    """`--node` goes before STEELYARD_NODE, that before [node] name, that before the host's name, full then short."""
    named = TWO + '[node]\nname = "lb1"\n' + SERVICE
    monkeypatch.setattr("socket.gethostname", lambda: "lb2.example.net")
    assert loaded(TWO + SERVICE).node.name == "lb2"
    assert loaded('nodes = ["lb2", "lb2.example.net"]\n' + SERVICE).node.name == "lb2.example.net"
    assert loaded(SERVICE).node.name == "lb2.example.net"
    assert loaded(named).node.name == "lb1"
    monkeypatch.setenv("STEELYARD_NODE", "lb2")
    assert loaded(named).node.name == "lb2"
    assert loaded(named, "lb1").node.name == "lb1"


def test_a_host_that_is_no_node_is_told_to_say_which_one(loaded, write, monkeypatch):
    """A host that is not in `nodes` cannot run the file, and the error says how to name the node; the host may check the file."""
    monkeypatch.setattr("socket.gethostname", lambda: "admin.example.net")
    with pytest.raises(ConfigError, match=r'this host is called "admin\.example\.net", which is not in nodes') as error:
        loaded(TWO + SERVICE)
    assert "--node, STEELYARD_NODE" in error.value.diagnostics[0].hint
    assert diagnose(write(TWO + SERVICE))[0] is not None


@pytest.mark.parametrize("node", ["lb3", "a b"])
def test_a_told_node_must_exist(loaded, node):
    """`--node` with a name that is not in `nodes` is an error."""
    with pytest.raises(ConfigError, match=f'--node says "{node}"'):
        loaded(TWO + SERVICE, node)


def test_a_written_name_must_exist(loaded):
    """[node] name with a name that is not in `nodes` is an error with a suggestion."""
    with pytest.raises(ConfigError, match='"lb22" is not in nodes') as error:
        loaded(TWO + '[node]\nname = "lb22"\n' + SERVICE)
    assert error.value.diagnostics[0].hint == 'did you mean "lb2"?'
