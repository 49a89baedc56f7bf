from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from releasegate import git, process
from releasegate.git import GitError

Git = Callable[..., str]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one commit: api/values.yaml, web/values.yaml, .gitignore."""
    root = tmp_path / "repo"
    for name, text in {"api/values.yaml": "a: 1\n", "web/values.yaml": "w: 1\n", ".gitignore": "ignored/\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    run(root, "init", "-q", "-b", "main")
    commit(root)
    return root


def run(root: Path, *arguments: str, stdin: bytes | None = None) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, env=environment, input=stdin
    )
    return os.fsdecode(done.stdout).strip()


def commit(root: Path, message: str = "c") -> str:
    run(root, "add", "-A")
    run(root, "commit", "-q", "--allow-empty", "-m", message)
    return run(root, "rev-parse", "HEAD")


FILES = (".gitignore", "api/values.yaml", "web/values.yaml")


# --- the work tree ------------------------------------------------------------------------------------------------


def test_the_work_tree_is_what_is_on_disk_and_not_ignored(repo: Path) -> None:
    (repo / "api/new.yaml").write_text("")
    (repo / "ignored").mkdir()
    (repo / "ignored/x").write_text("")
    (repo / "web/values.yaml").unlink()
    (repo / "link").symlink_to("api")
    os.mkfifo(repo / "pipe")
    tree = git.work_tree(repo)
    assert tree.files == (".gitignore", "api/new.yaml", "api/values.yaml", "link")
    assert (tree.root, tree.revision, tree.head, tree.branch) == (
        str(repo.resolve()),
        None,
        run(repo, "rev-parse", "HEAD"),
        "main",
    )


def test_a_subfolder_is_a_root_of_its_own(repo: Path) -> None:
    tree = git.work_tree(repo / "api")
    assert tree.files == ("values.yaml",)
    assert tree.head == run(repo, "rev-parse", "HEAD")
    assert git.top(repo / "api") == repo.resolve()


def test_remotes_are_listed_as_they_are_written(repo: Path) -> None:
    urls = ("git@example.org:acme/config.git", "https://example.org/acme/config")
    for number, url in enumerate(urls):
        run(repo, "remote", "add", f"r{number}", url)
    run(repo, "config", "url.https://rewritten/.insteadOf", "https://example.org/")
    assert git.work_tree(repo).remotes == urls


def test_names_of_any_bytes_survive(repo: Path) -> None:
    names = ["-x.yaml", 'quo"te.yaml', "new\nline.yaml", "ünïcode.yaml", os.fsdecode(b"latin\xe9.yaml"), " space "]
    for name in names:
        (repo / name).write_text("k: v\n")
    assert set(names) <= set(git.work_tree(repo).files)
    assert set(git.changed_files(repo)) == set(names)
    commit(repo)
    copied = git.commit_tree(repo, "HEAD", repo.parent / "copy")
    assert copied is not None
    assert set(names) <= set(copied.files)
    assert all((Path(copied.root) / name).read_text() == "k: v\n" for name in names)


def test_outside_git_it_is_all_files_and_needs_no_git_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    for name in ("b/c.yaml", "a.yaml"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text("")
    (tmp_path / "tree/d").symlink_to("b")
    tree = git.work_tree(tmp_path / "tree")
    assert (tree.files, tree.head, tree.branch, tree.remotes) == (("a.yaml", "b/c.yaml", "d"), None, None, ())
    assert git.top(tmp_path / "tree") is None
    assert git.resolve(tmp_path / "tree", "HEAD") is None


def test_inside_git_a_missing_git_program_is_an_error_that_says_so(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(GitError, match="git is not on PATH"):
        git.work_tree(repo)


def test_a_root_that_its_repository_ignores_is_judged_as_a_plain_folder(repo: Path) -> None:
    # A demo copied into build/ of another repository would otherwise be empty, and nothing would be judged.
    (repo / "ignored/demo").mkdir(parents=True)
    (repo / "ignored/demo/values.yaml").write_text("")
    tree = git.work_tree(repo / "ignored/demo")
    assert (tree.files, tree.head) == (("values.yaml",), None)


def test_a_repository_without_a_commit_has_files_and_no_head(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "-b", "trunk")
    (tmp_path / "a.yaml").write_text("")
    tree = git.work_tree(tmp_path)
    assert (tree.files, tree.head, tree.branch) == (("a.yaml",), None, "trunk")
    assert git.changed_files(tmp_path) == ("a.yaml",)
    run(tmp_path, "add", "-A")
    assert git.changed_files(tmp_path, staged=True) == ("a.yaml",)


def test_a_detached_head_has_no_branch(repo: Path) -> None:
    run(repo, "checkout", "-q", "--detach")
    assert git.work_tree(repo).branch is None


def test_a_submodule_is_no_file(repo: Path) -> None:
    run(repo, "update-index", "--add", "--cacheinfo", f"160000,{run(repo, 'rev-parse', 'HEAD')},vendored")
    (repo / "vendored").mkdir()
    assert git.work_tree(repo).files == FILES
    assert git.index_tree(repo, repo.parent / "index").files == FILES


# --- copies -------------------------------------------------------------------------------------------------------


def test_the_index_is_what_is_staged_not_what_is_on_disk(repo: Path) -> None:
    (repo / "api/values.yaml").write_text("a: 2\n")
    run(repo, "add", "api/values.yaml")
    (repo / "api/values.yaml").write_text("a: 3\n")
    (repo / "untracked.yaml").write_text("")
    tree = git.index_tree(repo, repo.parent / "copy")
    assert (tree.files, tree.ref, tree.revision) == (FILES, "index", None)
    assert (Path(tree.root) / "api/values.yaml").read_text() == "a: 2\n"


def test_a_commit_is_copied_with_links_and_modes(repo: Path) -> None:
    (repo / "run.sh").write_text("#!/bin/sh\n")
    (repo / "run.sh").chmod(0o755)
    (repo / "link").symlink_to("api/values.yaml")
    sha = commit(repo)
    (repo / "api/values.yaml").write_text("a: 9\n")
    commit(repo)
    tree = git.commit_tree(repo, sha[:8], repo.parent / "copy")
    assert tree is not None
    assert tree.files == tuple(sorted((*FILES, "run.sh", "link")))
    assert (tree.revision, tree.ref, tree.head) == (sha, sha[:9], run(repo, "rev-parse", "HEAD"))
    assert (Path(tree.root) / "link").readlink() == Path("api/values.yaml")
    assert (Path(tree.root) / "link").read_text() == "a: 1\n"
    assert os.access(Path(tree.root) / "run.sh", os.X_OK)


def test_a_commit_of_a_subfolder_holds_only_that(repo: Path) -> None:
    tree = git.commit_tree(repo / "api", "HEAD", repo.parent / "copy")
    assert tree is not None
    assert tree.files == ("values.yaml",)


def test_a_revision_that_git_does_not_have_is_none(repo: Path) -> None:
    for revision in ("nope", "0" * 40, "HEAD~9", "HEAD:api", "", "a\0b"):
        assert git.commit_tree(repo, revision, repo.parent / "copy") is None


def test_attributes_do_not_change_or_drop_what_is_copied(repo: Path) -> None:
    # `git archive` obeys export-ignore: one line of the tree would take a file out of the check.
    (repo / ".gitattributes").write_text("api/values.yaml export-ignore\n* text eol=crlf filter=evil\n* export-subst\n")
    (repo / "subst.yaml").write_text("v: $Format:%H$\n")
    run(repo, "config", "filter.evil.smudge", f"touch {repo.parent}/sentinel; cat")
    commit(repo)
    tree = git.commit_tree(repo, "HEAD", repo.parent / "copy")
    assert tree is not None
    assert (Path(tree.root) / "api/values.yaml").read_bytes() == b"a: 1\n"
    assert (Path(tree.root) / "subst.yaml").read_bytes() == b"v: $Format:%H$\n"
    assert not (repo.parent / "sentinel").exists()


def test_many_files_come_in_batches(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "_BATCH_BYTES", 1000)
    for number in range(20):
        (repo / f"f{number}").write_text(f"{number}" * 400)
    commit(repo)
    tree = git.commit_tree(repo, "HEAD", repo.parent / "copy")
    assert tree is not None
    assert [(Path(tree.root) / f"f{n}").read_text() for n in range(20)] == [f"{n}" * 400 for n in range(20)]


def test_a_crafted_tree_writes_nothing_outside_the_copy(repo: Path) -> None:
    # Git itself refuses such names on checkout (CVE-2014-9390); a server need not.
    blob = run(repo, "hash-object", "-w", "--stdin", stdin=b"owned")
    for name in ("..", ".git", ".GIT"):
        tree = run(repo, "mktree", stdin=f"100644 blob {blob}\t{name}\n".encode())
        sha = run(repo, "commit-tree", "-m", "x", tree)
        with pytest.raises(GitError, match="no checkout may have"):
            git.commit_tree(repo, sha, repo.parent / f"copy{name}x")


def test_a_link_and_a_folder_of_one_name_lead_nowhere(repo: Path) -> None:
    outside = repo.parent / "outside"
    outside.mkdir()
    blob = run(repo, "hash-object", "-w", "--stdin", stdin=b"owned")
    target = run(repo, "hash-object", "-w", "--stdin", stdin=str(outside).encode())
    inner = run(repo, "mktree", stdin=f"100644 blob {blob}\tx\n".encode())
    content = b"".join(
        f"{mode} a\0".encode() + bytes.fromhex(sha) for mode, sha in (("120000", target), ("40000", inner))
    )
    crafted = run(repo, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=content)
    sha = run(repo, "commit-tree", "-m", "x", crafted)
    with pytest.raises(GitError):
        git.commit_tree(repo, sha, repo.parent / "copy")
    assert list(outside.iterdir()) == []


def test_an_unmerged_index_is_refused(repo: Path) -> None:
    run(repo, "checkout", "-q", "-b", "other")
    (repo / "api/values.yaml").write_text("a: 2\n")
    commit(repo)
    run(repo, "checkout", "-q", "main")
    (repo / "api/values.yaml").write_text("a: 3\n")
    commit(repo)
    with pytest.raises(subprocess.CalledProcessError):
        run(repo, "merge", "-q", "other")
    with pytest.raises(GitError, match=r"api/values\.yaml is unmerged"):
        git.index_tree(repo, repo.parent / "copy")


def test_a_copy_goes_into_an_empty_folder_only(repo: Path) -> None:
    with pytest.raises(GitError, match="not empty"):
        git.commit_tree(repo, "HEAD", repo / "api")


# --- what changed -------------------------------------------------------------------------------------------------


def test_changed_files_are_named_also_when_deleted_renamed_or_untracked(repo: Path) -> None:
    assert git.changed_files(repo) == ()
    assert not git.is_dirty(repo)
    run(repo, "mv", "api/values.yaml", "api/renamed.yaml")
    (repo / "web/values.yaml").unlink()
    (repo / "untracked.yaml").write_text("")
    assert git.changed_files(repo) == ("api/renamed.yaml", "api/values.yaml", "untracked.yaml", "web/values.yaml")
    assert git.changed_files(repo, staged=True) == ("api/renamed.yaml", "api/values.yaml")
    assert git.changed_files(repo / "web") == ("values.yaml",)
    assert git.is_dirty(repo)


def test_changes_since_a_commit_are_the_commits_and_the_work_tree(repo: Path) -> None:
    first = run(repo, "rev-parse", "HEAD")
    (repo / "api/values.yaml").write_text("a: 2\n")
    commit(repo)
    (repo / "web/values.yaml").write_text("w: 2\n")
    assert git.changed_files(repo, since=first) == ("api/values.yaml", "web/values.yaml")
    assert git.changed_files(repo, since=first, staged=True) == ("api/values.yaml",)
    with pytest.raises(GitError, match="nope is no commit"):
        git.changed_files(repo, since="nope")


def test_touching_a_file_is_no_change(repo: Path) -> None:
    os.utime(repo / "api/values.yaml", (1, 1))
    assert git.changed_files(repo) == ()
    assert not git.is_dirty(repo)


def test_dirt_outside_the_root_is_not_of_the_root(repo: Path) -> None:
    (repo / "web/new.yaml").write_text("")
    assert git.is_dirty(repo)
    assert not git.is_dirty(repo / "api")


def test_changes_outside_git_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(GitError):
        git.changed_files(tmp_path)


# --- hostile ------------------------------------------------------------------------------------------------------


def test_a_ref_is_never_an_option(repo: Path) -> None:
    # `git diff --output=/tmp/owned` writes a file, and refs/heads/--output=x is a legal ref (threat row 27).
    written = repo.parent / "owned"
    refs = [f"--output={written}", "-x", "--git-dir=/", "HEAD^{/--}"]
    for ref in refs:
        assert git.resolve(repo, ref) is None
        assert git.commit_tree(repo, ref, repo.parent / "copy") is None
    run(repo, "update-ref", "refs/heads/--output=x", "HEAD")
    assert git.resolve(repo, "refs/heads/--output=x") == run(repo, "rev-parse", "HEAD")
    assert not written.exists()


def test_no_command_of_the_repositorys_configuration_runs(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentinel = repo.parent / "sentinel"
    script = repo.parent / "script"
    script.write_text(f"#!/bin/sh\ntouch {sentinel}\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "diff.external", "core.pager", "core.editor", "core.sshCommand", "core.gitProxy"):
        run(repo, "config", key, str(script))
    hooks = repo / ".git/hooks"
    for hook in ("post-checkout", "post-index-change", "fsmonitor-watchman", "reference-transaction"):
        shutil.copy(script, hooks / hook)
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(script))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    (repo / "api/values.yaml").write_text("a: 2\n")
    git.work_tree(repo)
    git.is_dirty(repo)
    assert git.changed_files(repo) == ("api/values.yaml",)
    git.index_tree(repo, repo.parent / "index")
    git.commit_tree(repo, "HEAD", repo.parent / "commit")
    assert not sentinel.exists()


def test_a_change_in_the_second_of_the_commit_is_seen(repo: Path) -> None:
    """Same size, same time, index no younger: git compares contents, unless it is handed an index with a new time."""
    run(repo, "config", "core.trustctime", "false")
    values, index = repo / "api/values.yaml", repo / ".git/index"
    os.utime(values, (1_000_000_000, 1_000_000_000))
    run(repo, "update-index", "--refresh")
    values.write_text("a: 2\n")
    for path in (values, index):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert git.changed_files(repo) == ("api/values.yaml",)


def test_a_bare_repository_in_the_tree_is_not_asked(tmp_path: Path) -> None:
    # Committed as plain files it would bring its own configuration, and with it commands.
    run(tmp_path, "init", "-q", "--bare", "bare.git")
    sentinel = tmp_path / "sentinel"
    run(tmp_path / "bare.git", "config", "core.fsmonitor", f"touch {sentinel}")
    assert git.top(tmp_path / "bare.git") is None
    git.work_tree(tmp_path / "bare.git")
    assert not sentinel.exists()


def test_replacement_refs_do_not_change_what_a_hash_names(repo: Path) -> None:
    old = run(repo, "rev-parse", "HEAD")
    (repo / "api/values.yaml").write_text("a: evil\n")
    run(repo, "replace", old, commit(repo))
    tree = git.commit_tree(repo, old, repo.parent / "copy")
    assert tree is not None
    assert (Path(tree.root) / "api/values.yaml").read_text() == "a: 1\n"


def test_nothing_is_written_into_the_repository(repo: Path) -> None:
    os.utime(repo / "api/values.yaml", (1, 1))  # a stale index, which `git status` likes to rewrite
    before = {path: path.stat().st_mtime_ns for path in (repo / ".git").rglob("*")}
    git.work_tree(repo)
    git.is_dirty(repo)
    git.changed_files(repo)
    git.index_tree(repo, repo.parent / "copy")
    assert {path: path.stat().st_mtime_ns for path in (repo / ".git").rglob("*")} == before


def test_a_broken_repository_is_an_error_in_one_sentence(repo: Path) -> None:
    (repo / ".git/index").write_bytes(b"garbage")
    with pytest.raises(GitError, match=r"^git ls-files: .*index"):
        git.work_tree(repo)


def test_a_git_that_hangs_is_an_error(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(git, "_LIMITS", process.Limits(seconds=0.5))
    with pytest.raises(GitError, match=r"did not end within 0\.5 s"):
        git.top(repo)


def test_somebody_elses_checkout_is_trusted_where_the_user_said_so(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Checkouts in CI containers belong to another user; actions/checkout adds safe.directory for that.
    # GIT_TEST_ASSUME_DIFFERENT_OWNER is git's own switch to test this without being root.
    monkeypatch.setitem(git._ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    git._trusted_folders.cache_clear()
    with pytest.raises(GitError, match="dubious ownership"):
        git.work_tree(repo)
    (tmp_path / "home/.gitconfig").write_text(f'[safe]\n\tdirectory = "{repo}"\n')
    git._trusted_folders.cache_clear()
    assert git.work_tree(repo).files == FILES
    git._trusted_folders.cache_clear()
