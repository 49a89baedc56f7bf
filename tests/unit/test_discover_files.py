"""Globs as Argo CD and git read them; a hostile one costs nothing."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releasegate.discover.files import PatternTooLarge, doublestar, greedy, single_level


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("apps/*", "apps/a", True), ("apps/*", "apps/a/b", False), ("**/*.yaml", "a.yaml", True),
        ("**/*.yaml", "a/b/c.yaml", True), ("a/**/b/**/c", "a/x/b/b/y/c", True), ("a/**/b/**/c", "a/x/y/c", False),
        ("a/**", "a/b/c", True), ("**/**/a", "a", True), ("*ab*ab", "abab", True), ("*{ab,a}*bc", "abc", True),
        ("{a/b,c}/*.yaml", "a/b/x.yaml", True), ("{a,b{c,d}}", "bd", True), ("a{b", "a{b", True), ("a?c", "a/c", False),
    ],
)  # fmt: skip
def test_a_doublestar_pattern_selects_what_it_says(pattern: str, path: str, expected: bool) -> None:  # noqa: FBT001
    assert (doublestar(pattern).fullmatch(path) is not None) is expected


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [("apps/*", "apps/a", True), ("apps/*/", "apps/a", False), ("**", "a", True), ("**", "a/b", False), ("{a,b}", "a", False),
     ("{a,b}", "{a,b}", True), ("[a-c]x", "bx", True), ("[^a]x", "bx", True), ("\\*x", "*x", True), ("*/b", "a/b", True)],
)  # fmt: skip
def test_path_match_knows_neither_two_stars_nor_braces(pattern: str, path: str, expected: bool) -> None:  # noqa: FBT001
    assert (single_level(pattern).fullmatch(path) is not None) is expected


def naive(pattern: str, path: str, *, crosses: bool) -> bool:
    """The definition of `*` and `?`, tried one by one."""
    if not pattern:
        return not path
    if pattern[0] == "*":
        return naive(pattern[1:], path, crosses=crosses) or (
            bool(path) and (crosses or path[0] != "/") and naive(pattern, path[1:], crosses=crosses)
        )
    fits = bool(path) and (path[0] == pattern[0] or (pattern[0] == "?" and (crosses or path[0] != "/")))
    return fits and naive(pattern[1:], path[1:], crosses=crosses)


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
def test_runs_are_matched_as_their_definition_says(pattern: str, path: str) -> None:
    assert (greedy(pattern).fullmatch(path) is not None) == naive(pattern, path, crosses=True)
    assert (single_level(pattern).fullmatch(path) is not None) == naive(pattern, path, crosses=False)


def test_a_hostile_pattern_takes_no_time() -> None:
    began = time.perf_counter()
    assert greedy("*a" * 40 + "*b").fullmatch("a" * 4000) is None
    assert single_level("*a" * 40 + "*b").fullmatch("a" * 4000) is None
    assert doublestar("**/*a*a/" * 6 + "b").fullmatch("aaaa/" * 800 + "c") is None
    assert time.perf_counter() - began < 2  # without atomic groups: for ever


def test_braces_that_multiply_are_refused() -> None:
    with pytest.raises(PatternTooLarge, match="more than 1000"):
        greedy("{a,b}" * 30)
