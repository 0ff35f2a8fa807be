"""Reading files: TOML's errors, includes, what root refuses."""

import os
from pathlib import Path

import pytest

from proxy.config import ConfigError, diagnose, load
from proxy.config.diagnostics import Report
from proxy.config.files import Files

SERVICE = '[service.{0}]\nlisten = ["10.0.0.10:{1}/tcp"]\nbackends = ["10.0.0.11"]\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 10.0.0.1", '1:5 error: 10.0.0.1 is not a TOML value | write it in quotes: "10.0.0.1"'),
        ("a = 5s", '1:5 error: 5s is not a TOML value | write it in quotes: "5s"'),
        ("a = yes", "1:5 error: yes is not a TOML value | write true or false"),
        ('a = "x', "1:7 error: a string is not closed"),
        ('a = "C:\\path"', "1:10 error: a backslash in a string must be doubled | or use single quotes: 'a\\b'"),
        ("[a]\nb = 1\n\n[a]\nc = 2", "4:1 error: [a] is already defined at line 1"),
        ("a = 1\n  a = 2", "2:3 error: this key is already set above"),
        ("listen: x", '1:7 error: "=" is missing after the key'),
        ("[service.x", '1:11 error: "]" is missing after the name of the table'),
        ("a = [1, 2\n\n\n", "1:10 error: a [ is not closed, or a comma is missing"),
        ("a = {b = 1,}", "1:12 error: a key is expected here | TOML forbids a trailing comma inside { }"),
        (
            "p = { a = 1,\n b = 2 }",
            "1:13 error: a key is expected here | TOML forbids line breaks and a trailing comma inside { }: use a separate [table]",
        ),
        ("\ufeffa = 1", "1:1 error: the file begins with a byte order mark: save it as UTF-8 without one"),
        (
            "# old\r[a]\rb = 1\r",
            "1:6 error: a lone carriage return does not end a line in TOML | save the file with Unix line ends (LF)",
        ),
        (
            "a = 1\r\nb = 2\rc = 3",
            "2:6 error: a lone carriage return does not end a line in TOML | save the file with Unix line ends (LF)",
        ),
        ('a = "x\0y"', "1:7 error: U+0000 (a control character) is not allowed in a file | delete it"),
        (
            "a = \u201c10.0.0.1\u201d",
            '1:5 error: \u201c is a typographic quote | write strings in plain quotes: "10.0.0.1"',
        ),
        (
            "[service.b\u00fcro]",
            "1:11 error: \u00fc (U+00FC) is not allowed here | a name or key without quotes consists of ASCII letters, digits, hyphens and underscores",
        ),
        (
            "a\u00a0= 1",
            "1:2 error: U+00A0 (no-break space) is not allowed here | a name or key without quotes consists of ASCII letters, digits, hyphens and underscores",
        ),
        ("a = " + "[" * 3000, "1:1 error: lists or tables are nested too deeply"),
        ("a" + ".a" * 100 + " = 1", None),
        ("a = " + "1" * 5000, None),
    ],
)
def test_errors_of_toml_are_told_in_plain_words(said, text, expected):
    """R1: a file that is not TOML is one error with line, column, the mistake and a suggestion."""
    found = said(text)
    assert len(found) == 1
    assert expected is None or found == [expected]


def test_bytes_that_are_not_utf8_have_a_place(tmp_path):
    """R1: a byte that is not UTF-8 is an error at its line and column."""
    path = tmp_path / "a.toml"
    path.write_bytes(b"# ok\r\n# caf\xe9\n")
    _, found = diagnose(path)
    assert [(item.line, item.col) for item in found] == [(2, 6)]
    assert "0xe9 is not UTF-8" in found[0].message


def test_a_huge_file_is_no_configuration(tmp_path):
    """A file of more than 8 MiB is refused unread."""
    path = tmp_path / "a.toml"
    path.write_bytes(b"#" * (8 * 1024 * 1024 + 1))
    _, found = diagnose(path)
    assert "larger than 8 MiB" in found[0].message


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    """A main file that cannot be opened raises the system's own error, for the exit code."""
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.toml")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


def test_windows_line_ends_count_as_one(said):
    """A file with CRLF line ends is read, and its errors have the right places."""
    assert said("a = 1\r\nb = 2\r\n")[1].startswith('2:1 error: unknown key "b"')


def test_includes_are_merged_in_the_order_of_their_names(write):
    """Every file that a glob of `include` matches is read; tables of one section may come from several files."""
    write(SERVICE.format("b", 2), "20.toml")
    write(SERVICE.format("a", 1), "10.toml")
    path = write(
        f'include = ["{write("", "x").parent}/[0-9]*.toml"]\n[node]\nworkers = 3\n' + SERVICE.format("main", 3)
    )
    config = load(path)
    assert [service.name for service in config.services] == ["main", "a", "b"]
    assert [Path(name).name for name in config.sources] == ["steelyard.toml", "10.toml", "20.toml"]


def test_the_digest_covers_every_file(write):
    """Two configurations have one sha256 exactly when all their files are the same."""
    part = write(SERVICE.format("a", 1), "part.toml")
    path = write(f'include = ["{part}"]\n')
    first = load(path).sha256
    assert load(path).sha256 == first
    write(SERVICE.format("a", 2), "part.toml")
    assert load(path).sha256 != first


def test_the_same_table_twice_is_an_error_with_both_places(write):
    """A table in two files is an error that names the other place; the sections that hold them are not."""
    part = write(SERVICE.format("a", 1), "part.toml")
    path = write(f'include = ["{part}"]\n' + SERVICE.format("a", 2))
    _, found = diagnose(path)
    assert [(item.file, item.line, item.message) for item in found] == [
        (str(part), 1, f"[service.a] is already defined at {path}:2")
    ]


def test_the_same_key_twice_is_an_error(write):
    """A top-level key in two files is an error."""
    part = write('nodes = ["a"]\n', "part.toml")
    _, found = diagnose(write(f'nodes = ["a"]\ninclude = ["{part}"]\n'))
    assert '"nodes" is already defined' in found[0].message


def test_implied_tables_of_two_files_are_one(write):
    """[defaults.tcp] in one file and [defaults] in another are different tables, as in one file."""
    part = write('[defaults]\nscheduler = "rr"\n', "part.toml")
    path = write(f'include = ["{part}"]\n[defaults.tcp]\nbacklog = 7\n' + SERVICE.format("a", 1))
    service = load(path).services[0]
    assert (service.scheduler, service.tcp.backlog) == ("round-robin", 7)


def test_a_file_is_read_once(write):
    """A file that several globs match, or that includes itself, is read once."""
    part = write("", "part.toml")
    part.write_text(f'include = ["{part}"]\n' + SERVICE.format("a", 1))
    config = load(write(f'include = ["{part}", "{part.parent}/p*.toml"]\n'))
    assert len(config.services) == 1


@pytest.mark.parametrize(
    ("include", "words"),
    [
        ('"conf.d/*.toml"', "include must be a list"),
        ('["conf.d/*.toml"]', "is a relative path"),
        ("[5]", "paths in quotes"),
        ('["/nonexistent/a.toml"]', "cannot read /nonexistent/a.toml: No such file"),
        ('["/a\\u0000b"]', "NUL"),
        ('["/"]', "cannot read /: Is a directory"),
    ],
)
def test_wrong_includes_are_told_at_their_place(said, include, words):
    """An include that is relative, missing or no path is an error at its place."""
    found = said(f"include = {include}\n")
    assert len(found) == 1
    assert words in found[0]
    assert found[0].startswith("1:1")


def test_a_glob_may_match_nothing(write):
    """An empty conf.d is no error."""
    path = write(f'include = ["{write("", "x").parent}/conf.d/*.toml"]\n' + SERVICE.format("a", 1))
    assert len(load(path).services) == 1


def test_errors_of_every_file_are_told_at_once(write):
    """Two included files with an error each give two errors, each with its file."""
    one, two = write("a = ", "1.toml"), write("b = ", "2.toml")
    _, found = diagnose(write(f'include = ["{one}", "{two}"]\n'))
    assert [item.file for item in found] == [str(one), str(two)]


def test_a_table_told_twice_hides_no_other_mistake(write):
    """A table that two files define, and a file that anybody may write, are reported together with the other mistakes."""
    part = write(SERVICE.format("a", 1), "part.toml")
    path = write(f'include = ["{part}"]\n' + SERVICE.format("a", 2) + "fall = 3\n")
    path.chmod(0o666)
    report = Report()
    tree = Files(report, running=True).load(str(path))
    first, second = report.sorted()
    assert "is writable by everybody" in first.message
    assert second.message.startswith("[service.a] is already de")
    assert tree is not None
    assert tree["service"]["a"]["fall"] == 3
    path.chmod(0o644)
    _, found = diagnose(path)
    assert [item.message for item in found if "unknown key" in item.message] == ['unknown key "fall"']


def test_root_refuses_what_anybody_could_have_written(write):
    """S7: a world-writable file, included file or folder is not obeyed, with a suggestion, at the place that names it."""
    path = write(SERVICE.format("a", 1))

    def refused():
        report = Report()
        Files(report, running=True).load(str(path))
        return [(item.line, item.col, item.message.partition(", ")[0], item.hint) for item in report.sorted()]

    assert refused() == []
    path.chmod(0o666)
    assert refused() == [(1, 1, f"{path} is writable by everybody", f"chmod o-w {path}")]
    path.chmod(0o644)
    path.parent.chmod(0o777)
    assert refused() == [(1, 1, f"{path.parent} is writable by everybody", f"chmod o-w {path.parent}")]
    path.parent.chmod(0o1777)
    assert refused() == []
    part = write(SERVICE.format("b", 2), "part.toml")
    part.chmod(0o646)
    path.write_text(f'\ninclude = ["{part}"]\n')
    assert refused() == [(2, 12, f"{part} is writable by everybody", f"chmod o-w {part}")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["file", "folder", "link", "include"])
def test_root_obeys_no_file_of_another_user(write, tmp_path, what):
    """S7: as root, a configuration is refused that another user owns, or a folder, a link or an included file on its way."""
    path = write(SERVICE.format("a", 1), "real.toml")
    link = tmp_path / "steelyard.toml"
    link.symlink_to(path)
    part = write(SERVICE.format("b", 2), "part.toml")
    path.write_text(f'include = ["{part}"]\n' + path.read_text())
    assert diagnose(link)[1] == []
    given = {"file": path, "folder": tmp_path, "link": link, "include": part}[what]
    os.lchown(given, 65534, 0)
    config, found = diagnose(link)
    assert config is None
    words = f"{given} belongs to another user (uid 65534), who could change it: root must not obey it"
    assert {(item.severity, item.message, item.hint) for item in found} == {("error", words, f"chown 0 {given}")}
    if what == "include":
        assert [(item.file, item.line, item.col) for item in found] == [(str(link), 1, 12)]


def test_a_pipe_in_the_place_of_a_file_holds_nothing_up(tmp_path):
    """A pipe without a writer is no file and is not waited for; what the caller has opened himself is read."""
    os.mkfifo(tmp_path / "steelyard.toml")
    with pytest.raises(OSError, match="it is not a file"):
        diagnose(tmp_path / "steelyard.toml")
    reader, writer = os.pipe()
    os.write(writer, SERVICE.format("a", 1).encode())
    os.close(writer)
    config, found = diagnose(f"/dev/fd/{reader}")
    os.close(reader)
    assert (config is not None, found) == (True, [])


def test_another_user_may_check_it(write, monkeypatch):
    """S7: a user other than root may check a world-writable file, but not run it."""
    path = write(SERVICE.format("a", 1))
    path.chmod(0o666)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert diagnose(path)[0] is not None
    with pytest.raises(ConfigError):
        load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_load_as_root_refuses_a_world_writable_file(write):
    """S7: `load` itself refuses it when the process is root."""
    path = write(SERVICE.format("a", 1))
    path.chmod(0o666)
    with pytest.raises(
        ConfigError, match="is writable by everybody, so anybody could change it: root must not obey it"
    ):
        load(path)
