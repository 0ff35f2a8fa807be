"""`steelyard reload`: what it prints, and how it ends."""

import json

import pytest

from proxy.config.changes import Change, Step
from proxy.control.wire import BAD_CONFIG, ControlError

PROBES = (Change("probe.interval", 2.0, 3.0),)
STEPS = [
    Step("change", "node", "node", changes=(Change("workers", 2, 4),), reexec=True),
    Step("change", "service", "dns", "dns", (Change("dns.give-up", 4.5, 2.0),)),
    *(Step("change", "backend", f"dns/192.0.2.{number}", "dns", PROBES) for number in (1, 2, 3)),
    Step("change", "backend", "web/192.0.2.1", "web", PROBES),
]


@pytest.fixture
def answered(daemon, steelyard):
    """Return what runs the command against a daemon that answers with these lines, or fails."""

    def run(*options, lines=(), error=None):
        asked = []

        async def reload(request):
            asked.append(request.arguments)
            for line in lines:
                yield {"more": True, **line}
            if error is not None:
                raise error

        daemon.server.register("reload", reload, mutates=True)
        done = steelyard("-s", daemon.path, "reload", *options)
        return done, asked

    return run


OUTCOME = {"changed": True, "generation": 2, "faults": [], "seconds": 0.25, "more": False}
ROWS = {"steps": [step.row() for step in STEPS]}


def test_each_step_is_a_line(answered):
    """Each step is a line, and backends of one service that change alike are one; what needs a new process is named."""
    done, asked = answered(lines=[{"turn": "now", "text": "reloading"}, ROWS, OUTCOME])
    assert (done.returncode, asked) == (0, [{"command": "reload", "dry": False, "strict": False}])
    assert done.stdout.splitlines() == [
        "[node]: workers 2 -> 4 (needs reexec)",
        'service dns: dns.give-up "4500ms" -> "2s"',
        '3 backends of dns: probe.interval "2s" -> "3s"',
        'backend web/192.0.2.1: probe.interval "2s" -> "3s"',
        "reloaded: 5 steps in 0.25 s; 1 step needs `steelyard reexec`",
    ]


def test_a_dry_run_says_so(answered):
    """A dry run says that nothing is changed."""
    done, asked = answered("--dry-run", "--strict", lines=[ROWS, {"changed": False, "more": False}])
    assert asked == [{"command": "reload", "dry": True, "strict": True}]
    assert done.stdout.splitlines()[-1] == "6 steps: nothing is changed; 1 step needs `steelyard reexec`"


def test_nothing_to_do(answered):
    """A file that differs in nothing is told as that."""
    done, _ = answered(lines=[{"turn": "now", "text": "reloading"}, {**OUTCOME, "changed": False}])
    assert done.stdout == "nothing differs from the configuration in force\n"


def test_its_turn_is_told(answered):
    """R5: a reload that waits, or joins another, says so."""
    done, _ = answered(lines=[{"turn": "joined", "text": "another reload runs and one waits"}, OUTCOME])
    assert done.stdout.splitlines()[0] == "another reload runs and one waits"


def test_json(answered):
    """`--json` prints one object with all steps."""
    done, _ = answered("--json", lines=[{"turn": "now", "text": "reloading"}, ROWS, OUTCOME])
    document = json.loads(done.stdout)
    assert document["steps"] == json.loads(json.dumps(ROWS["steps"]))
    assert (document["changed"], document["generation"], document["dry_run"]) == (True, 2, False)


def test_what_did_not_follow_is_a_failure(answered):
    """A reload that is in force but not followed everywhere ends with 1, and says what has not followed."""
    done, _ = answered(lines=[{**OUTCOME, "faults": ["a worker has not followed"]}])
    assert (done.returncode, done.stderr) == (1, "steelyard: a worker has not followed\n")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ControlError("f.toml:3:4: error: unknown key\n    x = 1", BAD_CONFIG), 2, "f.toml:3:4: error: unknown key\n    x = 1\n"),
        (ControlError("service.a: 127.0.0.1:80/tcp: already in use"), 1, "steelyard: service.a: 127.0.0.1:80/tcp: already in use\n"),
    ],
)  # fmt: skip
def test_refusals(answered, error, status, text):
    """R1: a wrong file ends with 2 and is shown as `check` shows it; what only trying shows ends with 1."""
    done, _ = answered(error=error)
    assert (done.returncode, done.stderr) == (status, text)
