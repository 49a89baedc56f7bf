"""CODEOWNERS patterns against two matchers that others wrote; every disagreement is named here, and there is no other.

`codeowners` is a port of hmarr/codeowners to Python; `pathspec` reads gitignore. Where they are known to be wrong:

* codeowners: `[ ]` is a character range and `\\#` an escape (GitHub: neither works); a blank in a path is taken for many
  slashes, so `a?` matches no `a b`; an owner that is none is dropped, and the line stays (GitHub skips the line).
* pathspec, like git: a last segment `*` reaches below a folder (GitHub: `docs/*` is one level deep). So it says what our
  reading says of the path or of a folder above it. And `a/**/` takes a file right in `a` (git: folders only).
"""

from __future__ import annotations

import codeowners
import pathspec
from hypothesis import example, given
from hypothesis import strategies as st

from releasegate.discover import owners

words = st.text("ab*?", min_size=1, max_size=4).filter(lambda text: "***" not in text)
segments = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "*b", "?", "c.d", "*.d", "**a"]) | words
patterns = st.tuples(
    st.sampled_from(["", "/"]), st.lists(segments, min_size=1, max_size=4), st.sampled_from(["", "/"])
).map(lambda parts: parts[0] + "/".join(parts[1]) + parts[2])
names = st.sampled_from(["a", "b", "ab", "ba", "aab", "c.d", ".d", "x"])
paths = st.lists(names, min_size=1, max_size=5).map("/".join)


@given(pattern=patterns, path=paths)
@example("docs/*", "docs/build-app/troubleshooting.md")
@example("apps/", "website/apps/x")
@example("/a", "a/b")
@example("a/**/b", "a/b")
@example("*/", "a")
@example("/", "a")
def test_a_port_of_another_matcher_agrees(pattern: str, path: str) -> None:
    (line,) = owners.parse(f"{pattern} @a").lines
    assert line.matches(path) is bool(codeowners.CodeOwners(f"{pattern} @a").of(path))


@given(pattern=patterns, path=paths)
@example("docs/*", "docs/build-app/troubleshooting.md")
@example("a/**/", "a/b")
@example("a/**/", "a/b/c")
def test_gitignore_agrees_but_for_the_depth_of_a_last_asterisk(pattern: str, path: str) -> None:
    (line,) = owners.parse(f"{pattern} @a").lines
    if pattern.endswith("**/"):
        return
    parts = path.split("/")
    above = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    ignored = pathspec.GitIgnoreSpec.from_lines([pattern]).match_file(path)
    assert any(line.matches(one) for one in above) is ignored
    if pattern.rsplit("/", 1)[-1] != "*":
        assert line.matches(path) is ignored


@given(lines=st.lists(patterns, max_size=8), path=paths)
def test_the_last_line_that_matches_decides(lines: list[str], path: str) -> None:
    """All patterns are tried as one expression; that has to be what trying them one by one says."""
    file = owners.parse("".join(f"{pattern} @a{index}\n" for index, pattern in enumerate(lines)))
    assert not file.mistakes
    matching = [line for line in file.lines if line.matches(path)]
    assert file.line_for(path) == (matching[-1] if matching else None)


@given(later=patterns, pattern=patterns, path=paths)
def test_what_a_line_covers_it_matches(later: str, pattern: str, path: str) -> None:
    outer, inner = owners.parse(f"{later} @a\n{pattern} @b").lines
    if owners.covers(outer, inner) and inner.matches(path):
        assert outer.matches(path)


@given(lines=st.lists(patterns, max_size=8))
@example(["/a/", "a", "/a", "*", "/a/b"])
def test_the_lines_that_are_void_are_those_that_a_later_one_covers(lines: list[str]) -> None:
    """They are found without comparing each with each."""
    file = owners.parse("".join(f"{pattern} @a{index}\n" for index, pattern in enumerate(lines)))
    expected = {}
    for index, line in enumerate(file.lines):
        later = next((one for one in file.lines[index + 1 :] if owners.covers(one, line)), None)
        if later is not None:
            expected[line] = later
    assert file.voided() == expected


@given(text=st.text() | st.text("ab*/?[]!#\\ @.-\n\t,<>", max_size=60), path=paths)
@example("\\", "a")
@example("a\\", "a")
@example("[", "a")
@example("[[ @a", "a")
def test_any_text_is_read_and_every_line_of_it_accounted_for(text: str, path: str) -> None:
    file = owners.parse(text)
    told = {*(line.line for line in file.lines), *(one.line for one in file.mistakes)}
    blank = " \t\r\f\v"
    wanted = {
        number for number, line in enumerate(text.split("\n"), 1) if line.strip(blank) and line.strip(blank)[0] != "#"
    }
    assert told == wanted
    file.owners(path)
    for one in file.mistakes:
        line = text.split("\n")[one.line - 1]
        assert 1 <= one.column <= len(line)


def test_where_the_other_matchers_are_known_to_differ() -> None:
    """So that a new version of them that agrees is noticed, and the docstring above stays true."""
    other = codeowners.CodeOwners
    assert other("file[12] @a").of("file1")
    assert owners.parse("file[12] @a").owners("file1") == ()
    assert other("\\#a @a").of("#a")
    assert owners.parse("\\#a @a").owners("#a") == ()
    assert not other("/a?b @a").of("a b")
    assert owners.parse("/a?b @a").owners("a b") == ("@a",)
    assert other("* @a\n/x no-owner").matching_line("x")[1] == 2
    assert owners.parse("* @a\n/x no-owner").owners("x") == ("@a",)
    spec = pathspec.GitIgnoreSpec.from_lines
    assert spec(["docs/*"]).match_file("docs/a/b")
    assert owners.parse("docs/* @a").owners("docs/a/b") == ()
    assert spec(["a/**/"]).match_file("a/b")
    assert owners.parse("a/**/ @a").owners("a/b") == ()
