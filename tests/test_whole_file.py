"""A file that is replaced as a whole is never half a file."""

import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import whole_file


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    whole_file.replace(link, "new", 0o600)
    assert link.is_symlink()
    assert file.read_text() == "new"


def test_a_new_file_has_the_mode_that_is_given(tmp_path: Path) -> None:
    whole_file.replace(tmp_path / "file", "new", 0o640)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_what_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    # As /dev/null is none, which every program of the machine needs.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=f"is no plain file: '{pipe}'"):
        whole_file.replace(pipe, "new", 0o600)
    assert pipe.is_fifo()


def test_line_ends_stay(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one\r\ntwo\r\n")
    whole_file.replace(file, "one\nthree\n", 0o600)
    assert file.read_bytes() == b"one\r\nthree\r\n"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        whole_file.replace(tmp_path / "none" / "file", "new", 0o600)
    assert error.value.filename == str(tmp_path / "none")


@pytest.fixture
def no_room() -> Iterator[None]:
    """Let no file of this process have more than 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("no_room")
def test_without_room_for_the_new_text_the_old_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(OSError, match="File too large"):
        whole_file.replace(file, "x" * 8192, 0o600)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
