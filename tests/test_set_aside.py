"""What is set aside is whole, is nobody else's to read, and is never written over."""

from pathlib import Path

from bridge import set_aside
from bridge.segments import Record


def test_another_message_of_the_same_number_gets_a_file_of_its_own(tmp_path: Path) -> None:
    """As after a journal was lost, whose numbers begin anew."""
    payloads = [b"first", b"second", b"first", b"third"]
    files = [set_aside.keep(tmp_path, Record(7, payload)) for payload in payloads]
    assert [file.read_bytes() for file in files] == payloads
    assert files[0] == files[2]
    assert set_aside.kept(tmp_path) == sorted(set(files))
    assert {set_aside.read(file).number for file in files} == {7}
    assert all(set_aside.is_one(file) for file in files)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    file = set_aside.keep(tmp_path, Record(7, b"secret"))
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_what_a_crash_left_unfinished_is_none(tmp_path: Path) -> None:
    file = set_aside.keep(tmp_path, Record(7, b"whole"))
    (file.parent / f".{8:020}").write_bytes(b"ha")
    assert set_aside.kept(tmp_path) == [file]
    assert set_aside.read(set_aside.keep(tmp_path, Record(8, b"half"))).payload == b"half"
    assert len(set_aside.kept(tmp_path)) == 2
