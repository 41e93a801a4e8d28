"""Small files and what is asked of them while others replace them."""

from __future__ import annotations

from explorer.files import mark_of, modified_ns, write_atomic


def test_a_file_that_is_not_there_is_no_error(tmp_path):
    there, gone = write_atomic(tmp_path / "there", b"abc"), tmp_path / "gone"
    assert modified_ns(there) == there.stat().st_mtime_ns
    assert modified_ns(gone) == modified_ns(tmp_path / "there" / "below") == 0
    assert mark_of([there, gone]) == mark_of([there]) == f"3-{there.stat().st_mtime_ns}"
    assert mark_of([]) == "0-0"


def test_a_mark_is_another_after_every_change(tmp_path):
    one, other = write_atomic(tmp_path / "one", b"abc"), write_atomic(tmp_path / "other", b"a")
    marks = [mark_of([one, other])]
    write_atomic(one, b"abcd")
    marks.append(mark_of([one, other]))
    other.unlink()
    marks.append(mark_of([one, other]))
    assert len(set(marks)) == 3
