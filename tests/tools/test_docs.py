"""`search_docs` cuts documents at their headings, finds the best section, and takes any query and any file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatstream.errors import ToolError
from chatstream.tools import docs
from chatstream.tools.docs import SECTION, Index, Section, cut_sections, make_search_docs

GUIDE = """# Guide

Start here.

## Stopping a run

Press the *stop* button; the socket of the provider is closed.

Install
=======

```sh
# not a heading
pip install it
```
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "guide.md").write_text(GUIDE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "notes.TXT").write_text("Café opening hours: nine to five.\n")
    return tmp_path


def files_found(folder: Path, query: str) -> list[str]:
    found = make_search_docs(folder)(query)
    return [] if isinstance(found, str) else [row["file"] for row in found]


CUTS = [
    ("", []),
    ("\n \n", []),
    ("a\nb", [Section("", 1, "a\nb")]),
    ("# A\n\ntext\n## B ##\nmore", [Section("A", 1, "# A\n\ntext"), Section("B", 4, "## B ##\nmore")]),
    ("A\n===\nx\n\nB\n---\ny", [Section("A", 1, "A\n===\nx"), Section("B", 5, "B\n---\ny")]),
    ("x\n\n*****\nTitle\n*****\ny", [Section("", 1, "x\n\n*****"), Section("Title", 4, "Title\n*****\ny")]),
    ("one\ntwo\n---\nthree", [Section("", 1, "one\ntwo\n---\nthree")]),
    ("#hashtag\n#!sh", [Section("", 1, "#hashtag\n#!sh")]),
    ("```\n# A\n```\n# B", [Section("", 1, "```\n# A\n```"), Section("B", 4, "# B")]),
    ("a\r\n# B\r\nc", [Section("", 1, "a"), Section("B", 2, "# B\nc")]),
]


@pytest.mark.parametrize(("text", "sections"), CUTS)
def test_a_document_is_cut_at_its_headings(text, sections):
    assert list(cut_sections(text)) == sections


@given(st.text(st.sampled_from("ab# \n=-`"), max_size=300), st.integers(1, 40))
@example("a line\n", 1000)
@example("a very long line ", 1000)
def test_sections_are_short_and_together_are_the_document(text, repeat):
    sections = list(cut_sections(text * repeat))

    assert all(0 < len(section.text) <= SECTION for section in sections)
    assert "".join("".join(section.text for section in sections).split()) == "".join((text * repeat).split())


def test_the_best_section_comes_first_with_file_heading_line_and_snippet(folder):
    found = make_search_docs(folder)("how do I stop the run?")

    assert found[0] == {
        "file": "guide.md",
        "heading": "Stopping a run",
        "line": 5,
        "snippet": "## Stopping a run\n\nPress the *stop* button; the socket of the provider is closed.",
    }


@pytest.mark.parametrize(
    ("query", "file"), [("cafe", "sub/notes.TXT"), ("installing", "guide.md"), ("zebra OPENING", "sub/notes.TXT")]
)
def test_words_are_found_without_accents_endings_and_case(folder, query, file):
    assert files_found(folder, query)[0] == file


def test_nothing_found_is_a_normal_answer_that_says_so(folder):
    assert make_search_docs(folder)("zebra") == "None of the 2 documents has any of the words: zebra"


@pytest.mark.parametrize("query", ["", "  ", '"', "* ? (", "___"])
def test_a_query_without_a_word_is_an_error(folder, query):
    with pytest.raises(ToolError, match="no word"):
        make_search_docs(folder)(query)


INDEX_QUERIES = [
    '"',
    "stop AND (",
    "NEAR(a b",
    "text:stop",
    "stop*",
    "a-b",
    "^stop",
    "{a} : b",
    "'; DROP TABLE sections",
]


@pytest.mark.parametrize("query", INDEX_QUERIES)
def test_no_query_is_fts5_syntax(folder, query):
    try:
        assert make_search_docs(folder)(query)
    except ToolError as error:
        assert "no word" in error.message


@given(st.text(max_size=40))
def test_any_query_gets_an_answer(tmp_path_factory, query):
    try:
        assert SHARED_INDEX.search(query)
    except ToolError as error:
        assert "no word" in error.message


SHARED_INDEX = Index(Path(__file__).parent)


def test_the_index_is_built_once_and_again_after_a_change(folder, monkeypatch):
    builds = []
    build = docs._build
    monkeypatch.setattr(docs, "_build", lambda root, files: builds.append(len(files)) or build(root, files))
    search = make_search_docs(folder)

    for _ in range(3):
        search("stop")
    (folder / "new.rst").write_text("Zebras\n------\n\nThey have stripes.")
    assert search("zebra")[0]["heading"] == "Zebras"
    (folder / "new.rst").write_text("Lions")
    assert "None of the 3" in search("zebra")
    os.utime(folder / "guide.md", (1, 1))
    search("stop")
    (folder / "new.rst").unlink()
    assert "None of the 2" in search("lions")

    assert builds == [0, 2, 3, 3, 3, 2]


def test_one_file_can_be_searched_whatever_its_suffix(tmp_path):
    (tmp_path / "README").write_text("the answer is here")

    assert files_found(tmp_path / "README", "answer") == ["README"]


def test_what_is_hidden_too_large_or_no_text_is_left_out(folder, monkeypatch):
    monkeypatch.setattr(docs, "MAX_BYTES", 1000)
    for name in (".hidden.md", ".git/a.md", "code.py", "a.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("zebra")
    (folder / "large.md").write_text("zebra " * 201)
    (folder / "folder.md").mkdir()
    os.mkfifo(folder / "pipe.md")

    assert files_found(folder, "zebra") == ["a.md"]


def test_no_more_files_than_the_limit_are_read(folder, monkeypatch):
    monkeypatch.setattr(docs, "MAX_FILES", 1)

    assert files_found(folder, "stop") == ["guide.md"] * 1
    assert files_found(folder, "cafe") == []


def test_links_that_lead_out_of_the_folder_are_not_followed(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.md").write_text("zebra")
    (folder / "link.md").symlink_to(outside / "secret.md")
    (folder / "linked").symlink_to(outside)
    (folder / "broken.md").symlink_to(folder / "nowhere.md")
    (folder / "inside.md").symlink_to(folder / "sub" / "notes.TXT")

    assert files_found(folder, "zebra") == []
    assert sorted(files_found(folder, "cafe")) == ["inside.md", "sub/notes.TXT"]


def test_bytes_that_are_no_utf8_are_replaced_in_text_and_names(folder):
    (folder / os.fsdecode(b"caf\xe9.md")).write_bytes(b"\xef\xbb\xbfzebra \xff\xfe stripes")

    (found,) = make_search_docs(folder)("zebra")

    assert (found["file"], found["snippet"]) == ("caf�.md", "zebra �� stripes")


def test_a_folder_that_is_not_there_is_an_error_and_is_searched_when_it_comes(tmp_path):
    search = make_search_docs(tmp_path / "later")
    with pytest.raises(ToolError, match="not there"):
        search("zebra")

    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "a.md").write_text("zebra")

    assert search("zebra")
