"""`steelyard import`."""

import pytest

from tests.command import steelyard

SERVICE = "virtual_server 10.0.0.10 80 {\n  lb_kind DR\n  real_server 10.0.0.1 80 {\n    TCP_CHECK {\n    }\n  }\n}\n"


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file."""

    def write_text(text, name="keepalived.conf"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_text


def test_the_file_on_one_stream_and_the_rest_on_the_other(write, tmp_path):
    """Standard output is a file that `steelyard check` accepts; standard error tells what differs, with file and line."""
    path = write(SERVICE)
    done = steelyard("import", "keepalived", path)
    assert done.returncode == 0
    assert f"{path}:2: lb_kind DR: " in done.stderr
    assert (
        done.stderr.endswith(f"{path}: 5 statements, 4 carried over, 1 with a difference, 0 not\n")
        or "statements" in done.stderr
    )
    printed = tmp_path / "steelyard.toml"
    printed.write_text(done.stdout)
    checked = steelyard("check", printed)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(
    ("program", "name", "text"),
    [
        ("haproxy", "haproxy.cfg", "listen l\n bind :80\n server s 10.0.0.1:80 check\n"),
        ("dnsdist", "dnsdist.conf", "newServer('10.0.0.1')\n"),
        ("dnsdist", "dnsdist.yml", "backends:\n  - address: 10.0.0.1\n    protocol: Do53\n"),
    ],
)
def test_each_program(program, name, text, write):
    """Each program's file is read by its own reader."""
    done = steelyard("import", program, write(text, name))
    assert done.returncode == 0
    assert "[service." in done.stdout


def test_a_byte_order_mark_and_old_encodings(write):
    """A byte order mark is no part of the first word, and octets of another encoding in a comment do no harm."""
    done = steelyard("import", "keepalived", write(b"\xef\xbb\xbf" + SERVICE.encode() + b"# caf\xe9\n"))
    assert done.returncode == 0
    assert " 0 not\n" in done.stderr


def test_includes_are_read(write):
    """Files that an include names with a glob are read from beside the file, in order."""
    write("virtual_server 10.0.0.11 80 {\nreal_server 10.0.0.1 80 {\n}\n}\n", "d/b.conf")
    write("bad_word\n", "d/a.conf")
    done = steelyard("import", "keepalived", write("include d/*.conf\n" + SERVICE))
    assert '"10.0.0.11:80/tcp"' in done.stdout
    assert "d/a.conf:1: bad_word: not carried over: unknown word" in done.stderr


def test_two_hosts(write):
    """Two files of keepalived are two hosts of one file."""
    text = "vrrp_instance V {\ninterface eth0\nvirtual_router_id 1\npriority %d\nvirtual_ipaddress {\n10.0.0.10\n}\n}\n"
    done = steelyard("import", "keepalived", write(text % 150, "a.conf"), write(text % 100, "b.conf"))
    assert "priority = { lb1 = 150, lb2 = 100 }" in done.stdout


def test_a_file_that_is_not_there(write, tmp_path):
    """A missing file ends with 6, and nothing is printed."""
    done = steelyard("import", "keepalived", write(SERVICE), tmp_path / "nosuch.conf")
    assert (done.returncode, done.stdout) == (6, "")
    assert "nosuch.conf: no such file" in done.stderr


def test_a_file_of_another_kind(write):
    """A file that is not of the program ends with 2, and its place is shown with a caret."""
    done = steelyard("import", "keepalived", write("global_defs {\n  router_id x\n"))
    assert (done.returncode, done.stdout) == (2, "")
    assert 'keepalived.conf:1:13: error: this "{" is never closed' in done.stderr
    assert "global_defs {\n" in done.stderr


def test_a_file_with_nothing_to_run(write):
    """A file in which nothing has a form here ends with 1, and says so."""
    done = steelyard("import", "haproxy", write("global\n daemon\n", "haproxy.cfg"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing here that could run" in done.stderr


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"a" * (9 << 20)])
def test_any_file(content, write):
    """Binary, empty and huge files end in words, not in a traceback."""
    done = steelyard("import", "keepalived", write(content))
    assert done.returncode in {1, 2, 6}
    assert "Traceback" not in done.stderr


def test_wrong_usage():
    """An unknown program and a missing file are wrong usage."""
    assert steelyard("import", "nginx", "/dev/null").returncode == 64
    assert steelyard("import", "keepalived").returncode == 64
