"""CODEOWNERS as GitHub documents it: every example of its page, and every exception it names."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from releasegate.discover import owners
from releasegate.discover.files import Files
from releasegate.model import Tree

# The example file of "About code owners" (docs.github.com), its comments shortened.
DOCUMENTED = """\
# This is a comment.
*       @global-owner1 @global-owner2
*.js    @js-owner #This is an inline comment.
*.go docs@example.com
*.txt @octo-org/octocats
/build/logs/ @doctocat
docs/* docs@example.com
apps/ @octocat
/docs/ @doctocat
/scripts/ @doctocat @octocat
**/logs @octocat
/apps/ @octocat
/apps/github
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("README.md", ["@global-owner1", "@global-owner2"]),
        ("deep/down/README.md", ["@global-owner1", "@global-owner2"]),
        ("src/index.js", ["@js-owner"]),
        ("index.js", ["@js-owner"]),
        ("index.JS", ["@global-owner1", "@global-owner2"]),
        ("cmd/main.go", ["docs@example.com"]),
        ("notes/todo.txt", ["@octo-org/octocats"]),
        ("build/logs/a.out", ["@octocat"]),  # **/logs stands below /build/logs/
        ("deep/build/logs/x", ["@octocat"]),
        ("deeply/nested/logs/x/y", ["@octocat"]),
        ("docs/getting-started.md", ["@doctocat"]),
        ("docs/build-app/troubleshooting.md", ["@doctocat"]),
        ("website/apps/x.rb", ["@octocat"]),
        ("apps/x.rb", ["@octocat"]),
        ("apps/github", []),
        ("apps/github/inside/x.rb", []),
        ("apps/github-actions", ["@octocat"]),
        ("scripts/x", ["@doctocat", "@octocat"]),
        ("website/scripts/x.js", ["@js-owner"]),
    ],
)
def test_the_documented_example_reads_as_documented(path: str, expected: list[str]) -> None:
    file = owners.parse(DOCUMENTED)
    assert not file.mistakes
    assert list(file.owners(path)) == expected


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*", ["a", "a/b", ".github/CODEOWNERS"], []),
        ("**", ["a", "a/b"], []),
        ("/**", ["a", "a/b"], []),
        ("/*", ["a", ".gitignore"], ["a/b"]),
        ("*/", ["a/b", "a/b/c"], ["a"]),
        ("/", [], ["a", "a/b"]),
        ("docs/*", ["docs/a.md"], ["docs/a/b.md", "x/docs/a.md", "docs"]),
        ("/docs/*", ["docs/a.md"], ["docs/a/b.md"]),
        ("docs/*.md", ["docs/a.md"], ["docs/a/b.md", "docs/a.txt"]),
        ("docs/", ["docs/a", "x/docs/a/b"], ["docs", "x/docs"]),
        ("docs", ["docs", "docs/a", "x/docs", "x/docs/a"], ["docs2", "mydocs/a"]),
        ("/docs", ["docs", "docs/a"], ["x/docs", "docs2"]),
        ("/docs/", ["docs/a/b"], ["docs", "x/docs/a"]),
        ("a/b", ["a/b", "a/b/c"], ["x/a/b"]),
        ("a/b/", ["a/b/c"], ["a/b", "x/a/b/c"]),
        ("**/logs", ["logs", "a/logs", "a/b/logs/c"], ["a/mylogs"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b/c"], ["b", "a/xb", "x/a/b"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "x/a/b"]),
        ("a/**/", ["a/b/c"], ["a/b"]),
        ("a/*/c", ["a/b/c", "a/b/c/d"], ["a/c", "a/b/b/c"]),
        ("a/*/", ["a/b/c"], ["a/b"]),
        ("/helm/*/values-prod.yaml", ["helm/api/values-prod.yaml"], ["helm/a/b/values-prod.yaml"]),
        ("values-*.yaml", ["a/values-dev.yaml", "values-.yaml"], ["values.yaml"]),
        ("a?c", ["abc", "x/abc"], ["ac", "a/c", "abbc"]),
        ("a**c", ["ac", "abbc", "x/ac"], ["a/c"]),
        ("x/**y/z", ["x/y/z", "x/ay/z"], ["x/a/y/z"]),
        ("*a*b*c", ["abc", "x1a2b3c", "aabbcc"], ["acb", "abcd"]),
        (r"with\ blank/", ["with blank/a"], ["with/a", "blank/a"]),
        (r"a\*b", ["a*b"], ["axb"]),
        ("a.b", ["a.b"], ["axb"]),
        ("(a|b)+", ["(a|b)+"], ["a", "b"]),
        ("{a,b}", ["{a,b}"], ["a", "b"]),
        ("./a", [], ["a"]),
        ("a//b", [], ["a/b"]),
        ("Größe/", ["Größe/a"], ["größe/a"]),
    ],
)
def test_a_pattern_matches_these_and_not_those(pattern: str, matching: list[str], others: list[str]) -> None:
    file = owners.parse(f"{pattern} @a")
    assert not file.mistakes
    (line,) = file.lines
    assert [path for path in matching if not line.matches(path)] == []
    assert [path for path in others if line.matches(path)] == []
    assert all(file.line_for(path) is line for path in matching)
    assert all(file.line_for(path) is None for path in others)


@pytest.mark.parametrize(
    ("line", "column", "told", "fix"),
    [
        ("!docs/ @a", 1, "does not negate", "write docs/ without owners"),
        (r"\#notes @a", 1, "does not work", "`?`"),
        ("file[0-9].txt @a", 1, "`[ ]` does not work", "file?.txt"),
        ("[Section]", 1, "GitLab", "comment"),
        ("^[Section][2] @a", 1, "GitLab", "comment"),
        ("***/*.rb @monalisa", 1, "three asterisks", "**/*.rb"),  # the example of REST's "List CODEOWNERS errors"
        ("*.txt docs@", 7, "docs@ is no owner", "@org/team"),  # as the line above
        ("* user", 3, "the @ is missing", "write @user"),
        ("* acme/platform", 3, "the @ is missing", "write @acme/platform"),
        ("* @a, @b", 3, "separated by blanks", "write @a"),
        ("* @", 3, "@ is no owner", ""),
        ("* @a/b/c", 3, "no owner", ""),
        ("* @a @b@c", 6, "no owner", ""),
        ("my folder/ @a", 4, "no owner", r"`\ `"),
        ("* @a#comment", 3, "no owner", ""),
        ("  * \tuser", 6, "no owner", ""),
    ],
)
def test_a_line_that_github_skips_is_a_mistake_and_owns_nothing(line: str, column: int, told: str, fix: str) -> None:
    file = owners.parse(f"* @all\n{line}\n")
    (mistake,) = file.mistakes
    assert (mistake.line, mistake.column) == (2, column)
    assert told in mistake.message
    assert fix in mistake.help
    assert file.owners("docs/a") == ("@all",)


@pytest.mark.parametrize(
    "owner",
    ["@octocat", "@monalisa_acme", "@a-b", "@acme/platform", "@acme/my_team", "a@example.com", "a+b@x.co.museum"],
)
def test_what_an_owner_looks_like(owner: str) -> None:
    assert owners.is_owner(owner)
    assert not owners.is_owner(f"{owner}\n")


def test_comments_blank_lines_carriage_returns_and_tabs_are_no_lines() -> None:
    file = owners.parse("\r\n# a\r\n   # b\n\n*\t@a\t@b # c\r\n\t\n/x\r\n")
    assert [(line.line, line.pattern, line.owners) for line in file.lines] == [
        (5, "*", ("@a", "@b")),
        (7, "/x", ()),
    ]
    assert not file.mistakes


@pytest.mark.parametrize(
    ("later", "line", "expected"),
    [
        ("*", "/a/b", True),
        ("/**", "*.js", True),
        ("/helm/", "/helm/api/", True),
        ("/helm", "/helm/", True),
        ("/helm/", "/helm/*/values.yaml", True),
        ("helm/api", "/helm/api/x", True),
        ("*.js", "*.js", True),
        ("/helm/", "/helm", False),  # helm may be a file
        ("/helm/*", "/helm/api/", False),
        ("/helm/", "helm/", False),  # helm/ is at any depth
        ("apps/", "/apps/x", False),  # not plain enough to say
        ("/helm/api/", "/helm/", False),
    ],
)
def test_one_line_covers_another(later: str, line: str, expected: bool) -> None:  # noqa: FBT001
    assert owners.covers(*(owners.parse(f"{one} @a").lines[0] for one in (later, line))) is expected


def _files(root: Path, **texts: str) -> Files:
    for name, text in texts.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()]
    return Files(Tree(root=str(root), files=tuple(sorted(names))))


def test_the_first_of_the_three_places_counts(tmp_path: Path) -> None:
    assert owners.locate(_files(tmp_path)).file is None
    assert owners.locate(_files(tmp_path, lib__CODEOWNERS="* @lib")).file is None
    for name, decoys in (("docs__CODEOWNERS", 0), ("CODEOWNERS", 1), (".github__CODEOWNERS", 2)):
        found = owners.locate(_files(tmp_path, **{name: f"* @{name.split('__')[0].strip('.').lower()}"}))
        assert found.file is not None
        assert found.file.path == name.replace("__", "/")
        assert len(found.decoys) == decoys


def test_a_file_of_three_megabytes_owns_nothing(tmp_path: Path) -> None:
    text = "* @a\n" + "#" * (owners.MAX_BYTES - 5)
    found = owners.locate(_files(tmp_path, CODEOWNERS=text))
    assert found.refused is not None
    assert found.file == owners.Codeowners("CODEOWNERS", ())
    assert owners.locate(_files(tmp_path, CODEOWNERS=text[:-1])).refused is None


def test_a_link_is_not_followed_and_a_file_that_cannot_be_read_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "OWNERS").write_text("* @a")
    (tmp_path / "CODEOWNERS").symlink_to("OWNERS")
    linked = owners.locate(_files(tmp_path))
    assert linked.refused is not None
    assert linked.file is not None
    assert linked.file.owners("x") == ()
    (tmp_path / "CODEOWNERS").unlink()
    (tmp_path / "CODEOWNERS").write_bytes(b"* @\xff")
    assert owners.locate(_files(tmp_path)).unreadable == "is not UTF-8"
    (tmp_path / "CODEOWNERS").write_text("* @a\n" * (owners.MAX_LINES + 1))
    assert owners.locate(_files(tmp_path)).unreadable is not None


def test_a_pattern_made_to_take_long_does_not(tmp_path: Path) -> None:
    began = time.process_time()
    for pattern in ("*a" * 200 + "b", "**/x/" * 80 + "q", "**/a*" * 40 + "b", "a*?" * 200 + "b"):
        assert not owners.matcher(pattern).match("a" * 3000)
        assert not owners.matcher(pattern).match("x/" * 1500 + "y")
    assert time.process_time() - began < 5


def test_paths_of_a_root_that_is_a_folder_of_the_repository() -> None:
    assert owners.repo_path("helm/a", "deploy/config") == "deploy/config/helm/a"
    assert owners.tree_path("deploy/config/helm/a", "deploy/config") == "helm/a"
    assert owners.tree_path(".github/CODEOWNERS", "deploy/config") == "../../.github/CODEOWNERS"
    assert owners.tree_path("a", "") == owners.repo_path("a", "") == "a"
    assert os.sep == "/"
