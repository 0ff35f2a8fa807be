"""The copyright file: each library, its licence, its holders, its files."""

from pathlib import Path

import pytest

from shipping import licences


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Return a directory in which one library is installed."""
    record = tmp_path / "some_lib-1.0.dist-info"
    (record / "licenses").mkdir(parents=True)
    (record / "METADATA").write_text("Name: some-lib\nVersion: 1.0\nLicense-Expression: MIT\n\nIt is one.\n")
    (record / "RECORD").write_text(
        "some_lib/a.py,,\n_some.so,,\n../../../bin/some,,\nsome_lib-1.0.dist-info/RECORD,,\n"
    )
    (record / "licenses" / "LICENSE").write_text("Copyright (c) 2020 The holders\n\nPermission is granted.\n")
    return tmp_path


def test_a_library_has_its_paragraph(packages):
    """Files, holders and text of a library are those of its wheel; an empty line of a text is a dot."""
    text = licences.copyright_file(licences.libraries(packages), "short form")
    assert text.startswith("Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n")
    assert "Files: *\nCopyright: the authors of Steelyard\nLicense: Apache-2.0\n short form\n" in text
    place = "usr/lib/steelyard/lib/*"
    assert text.endswith(
        f"Files: {place}/_some.so\n {place}/some_lib-1.0.dist-info/*\n {place}/some_lib/*\n"
        "Copyright: Copyright (c) 2020 The holders\nLicense: MIT-of-some-lib\n"
        " Copyright (c) 2020 The holders\n .\n Permission is granted.\n"
    )


def test_a_text_that_debian_has_is_not_repeated(packages):
    """The whole Apache licence is named, not printed."""
    (packages / "some_lib-1.0.dist-info" / "licenses" / "LICENSE").write_text(
        "Apache License\n  Version 2.0, January 2004\n\nTERMS AND CONDITIONS FOR USE\nlong\n"
    )
    (found,) = licences.libraries(packages)
    assert found.texts == ("LICENSE: the text is in /usr/share/common-licenses/Apache-2.0.",)


def test_a_library_without_a_licence_is_an_error(packages):
    """What may not be shipped is not shipped by mistake."""
    record = packages / "some_lib-1.0.dist-info"
    (record / "METADATA").write_text("Name: some-lib\nVersion: 1.0\n\n")
    (record / "licenses" / "LICENSE").unlink()
    with pytest.raises(ValueError, match="neither a licence"):
        licences.libraries(packages)
