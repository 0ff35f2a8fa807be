"""proxy.dashboard.acts: the question before an act, and the command that is sent."""

from dataclasses import replace

import pytest

from proxy.dashboard.acts import KEYS, outcome, question
from proxy.dashboard.detail import find


@pytest.mark.parametrize("command", [one for one in KEYS.values() if one != "add"])
def test_an_act_names_its_target(scene, command):
    """Each act says on which host and backend it acts, and sends exactly that."""
    asked = question(command, find(scene.status, "ldap", "10.0.0.21"), "lb1")
    assert asked.title == f"{command} ldap/10.0.0.21 on lb1"
    assert asked.says
    wanted = {"service": "ldap", "backend": "10.0.0.21"} | ({"weight": 7} if command == "weight" else {})
    assert replace(asked, text="7").arguments() == wanted
    assert replace(asked, text="7", save=True, force=True).arguments() == wanted | {"save": True, "force": True}


def test_it_says_what_is_left(scene):
    """Before a backend is taken out the question says what is open there, and how many still serve."""
    says = " ".join(question("drain", find(scene.status, "ldap", "10.0.0.21"), "lb1").says)
    assert "What is open there (212) may finish" in says
    assert "Then 0 of 2 backends of ldap get new clients." in says
    says = " ".join(question("maint", find(scene.status, "ldap", "10.0.0.22"), "lb1").says)
    assert "(87) is cut" in says
    assert "Then 1 of 2 backends" in says  # it did not serve before


def test_a_service_has_no_weight(scene):
    """Acts on backends ask nothing for a service; one is added to a service, or to that of a backend."""
    service, backend = find(scene.status, "ldap", None), find(scene.status, "ldap", "10.0.0.21")
    assert question("drain", service, "lb1") is None
    for row in (service, backend):
        asked = replace(question("add", row, "lb1"), text=" 10.0.0.23 ")
        assert asked.title == "add ldap on lb1"
        assert asked.arguments() == {"service": "ldap", "address": "10.0.0.23"}


@pytest.mark.parametrize("text", ["", "-1", "1.5", "x", "1234567", "\u0663"])
def test_what_is_no_weight(scene, text):
    """A text that is no weight is said to be none, and never sent."""
    asked = question("weight", find(scene.status, "ldap", "10.0.0.21"), "lb1")
    assert replace(asked, text=text).wrong() == "a weight is a whole number"
    assert replace(asked, text="0").wrong() == ""


def test_an_address_is_needed(scene):
    """An empty address is not sent."""
    assert question("add", find(scene.status, "ldap", None), "lb1").wrong() == "an address is needed"


def test_the_outcome(scene):
    """It says whether anything has changed."""
    asked = question("ready", find(scene.status, "ldap", "10.0.0.22"), "lb1")
    assert outcome(asked, {"changed": True}) == "ready ldap/10.0.0.22 on lb1: changed"
    assert outcome(asked, {"changed": False}).endswith("nothing changed")
