"""What is kept between processes: found again, never half, and never in the way."""

import numpy as np

from parity_tests.harness import kept


def calls_of(count):
    def make():
        count.append(1)
        return {"rows": np.array([[0, 1], [2, 3]], np.int16), "reasons": np.array(["a reason"])}

    return make


def test_second_time_comes_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "not there yet")
    count = []
    first, second = (kept.kept("name", calls_of(count)) for _ in range(2))
    assert len(count) == 1
    assert {key: array.tolist() for key, array in first.items()} == {
        key: array.tolist() for key, array in second.items()
    }


def test_broken_file_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    count = []
    kept.kept("name", calls_of(count))
    (tmp_path / "name.npz").write_bytes((tmp_path / "name.npz").read_bytes()[:-30])
    kept.kept("name", calls_of(count))
    (tmp_path / "name.npz").write_text("")
    kept.kept("name", calls_of(count))
    assert len(count) == 3
    assert not list(tmp_path.glob("*.part"))


def test_folder_that_cannot_be_made_keeps_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "file" / "folder")
    count = []
    for _ in range(2):
        kept.kept("name", calls_of(count))
    assert len(count) == 2


def test_fingerprint_changes_with_source_and_parts(tmp_path):
    source, other = tmp_path / "a.py", tmp_path / "b.py"
    source.write_text("x = 1")
    other.write_text("x = 2")
    names = [
        kept.fingerprint(source, [2, 3], np.array([True, False])),
        kept.fingerprint(other, [2, 3], np.array([True, False])),
        kept.fingerprint(source, [2, 4], np.array([True, False])),
        kept.fingerprint(source, [2, 3], np.array([True, True])),
    ]
    assert len(set(names)) == 4
    assert names[0] == kept.fingerprint(source, [2, 3], np.array([True, False]))
