"""Records of a journal, looked up by their number."""

from __future__ import annotations

import pytest

from trainwright.errors import RunError
from trainwright.tracking.journal import Numbered, encode


def test_records_of_a_kind_are_found_by_their_number(tmp_path):
    file = tmp_path / "journal.jsonl"
    lines = [encode("ask", {"number": 0, "label": "a"}), encode("tell", {"number": 0}), encode("ask", {"number": 12})]
    file.write_bytes(b"".join(lines))

    found = Numbered(file, "ask")

    assert (list(found), len(found), 12 in found, 1 in found) == ([0, 12], 2, True, False)
    assert found[0] == {"kind": "ask", "number": 0, "label": "a"}


def test_a_record_whose_number_stands_further_back_is_found_too(tmp_path):
    file = tmp_path / "journal.jsonl"
    file.write_bytes(encode("ask", {"label": "a", "number": 7}))

    assert Numbered(file, "ask")[7]["label"] == "a"


def test_a_torn_last_line_is_left_out(tmp_path):
    file = tmp_path / "journal.jsonl"
    file.write_bytes(encode("ask", {"number": 0}) + encode("ask", {"number": 1})[:-1])

    assert list(Numbered(file, "ask")) == [0]


def test_a_damaged_line_is_named_when_it_is_looked_up(tmp_path):
    file = tmp_path / "journal.jsonl"
    file.write_bytes(encode("ask", {"number": 0}) + b'{"kind":"ask","number":1,"label":}\n')
    found = Numbered(file, "ask")

    with pytest.raises(RunError, match="line 2: damaged"):
        found[1]
