"""Stories that do not fit their base fail loudly; what is generated for measuring is the same for the same seed."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from releasegate.tools import store

TOP = Path(__file__).parents[2]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


compose = _load(TOP / "fixtures" / "compose.py")
generate = _load(TOP / "benchmarks" / "generate.py")


def _story(folder: Path, text: str) -> Path:
    story = folder / "story"
    story.mkdir()
    (story / "story.toml").write_text(text, encoding="utf-8")
    return story


def _contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def test_a_story_is_its_base_but_for_what_it_says(tmp_path: Path) -> None:
    made = compose.compose(compose.REPOS / "incidents" / "latest-in-staging", tmp_path / "made")
    base = _contents(compose.REPOS / "shop")
    changed = {path for path, content in _contents(made).items() if base.get(path) != content}
    assert changed == {"helm/web/values-staging.yaml", "releasegate.toml"}


def test_a_story_may_stand_on_another_story(tmp_path: Path) -> None:
    made = compose.compose(compose.REPOS / "incidents" / "names-like-pytest-words", tmp_path / "made")
    clean = compose.compose(compose.REPOS / "incidents" / "names-like-pytest-words-clean", tmp_path / "clean")
    differ = {path for path, content in _contents(made).items() if _contents(clean)[path] != content}
    assert differ == {"helm/skip/values-xfail.yaml"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "shop"\ndelete = ["helm/nosuch"]', "nosuch is to be deleted and not in the base"),
        ('base = "shop"\n[[edit]]\npath = "README.md"\nold = "nosuch"\nnew = ""', "0 times, not once"),
        ('base = "shop"\n[[edit]]\npath = "README.md"\nold = "e"\nnew = ""', "times, not once"),
        ('bsae = "shop"', "unknown keys"),
    ],
)
def test_a_story_that_does_not_fit_its_base_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(compose.StoryError, match=said):
        compose.compose(_story(tmp_path, text), tmp_path / "made")


def test_what_is_deleted_is_gone_and_a_link_is_a_link(tmp_path: Path) -> None:
    story = _story(tmp_path, 'base = "shop"\ndelete = ["helm/web"]\n[[link]]\npath = "helm/x"\ntarget = "/etc/hosts"')
    made = compose.compose(story, tmp_path / "made")
    assert not (made / "helm/web").exists()
    assert (made / "helm/x").is_symlink()


def test_a_composed_story_is_a_clean_repository_of_one_commit(tmp_path: Path) -> None:
    made = compose.compose(compose.REPOS / "shop", tmp_path / "made")
    sha = compose.commit(made)
    git = ["git", "-C", str(made)]
    assert subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout == ""
    assert (
        subprocess.run([*git, "log", "--format=%H"], capture_output=True, text=True, check=True).stdout.strip() == sha
    )
    tracked = subprocess.run([*git, "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(tracked) == set(_contents(compose.REPOS / "shop"))


def test_a_generated_repo_is_the_same_for_the_same_seed_and_another_for_another(tmp_path: Path) -> None:
    one, two, three = (
        _contents(generate.generate(tmp_path / name, charts=4, seed=seed))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == two
    assert one != three


def test_generated_manifests_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    one, two = (_contents(generate.manifests(tmp_path / name, count=12)) for name in ("a", "b"))
    assert one == two
    assert len(one) == 12


def _pipeline(root: Path, helm: store.Tool, *args: str) -> subprocess.CompletedProcess[str]:
    # Judges that accept everything: what is tested is the loop and the grep, not they.
    judges = dict.fromkeys(("KUBECONFORM", "CONFTEST", "PROMTOOL"), "/bin/true")
    env = {"PATH": "/usr/bin:/bin", "HELM": str(helm.path), "HOME": str(root), **judges}
    argv = [str(TOP / "benchmarks" / "pipeline.sh"), *args, str(root), str(root)]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_the_pipeline_renders_a_generated_repo_and_finds_an_image_without_digest(
    helm: store.Tool, tmp_path: Path
) -> None:
    root = generate.generate(tmp_path / "repo", charts=3)
    assert _pipeline(root, helm).returncode == 0
    assert _pipeline(root, helm, "--lint").returncode == 0
    values = root / "helm/svc-000/values-prod.yaml"
    lines = values.read_text(encoding="utf-8").splitlines(keepends=True)
    values.write_text("".join(line for line in lines if "digest:" not in line), encoding="utf-8")
    found = _pipeline(root, helm)
    assert found.returncode == 1
    assert "prod/svc-000: not pinned by digest" in found.stderr


def test_each_change_of_a_day_reaches_the_renders_it_says(helm: store.Tool, tmp_path: Path) -> None:
    root = generate.generate(tmp_path / "repo", charts=2)

    def renders() -> dict[tuple[str, str], str]:
        made = {}
        for environment in generate.ENVIRONMENTS:
            for chart in ("svc-000", "svc-001"):
                values = [f"environments/{environment}.yaml", f"helm/{chart}/values-{environment}.yaml"]
                argv = [
                    str(helm.path),
                    "template",
                    chart,
                    f"helm/{chart}",
                    "--values",
                    values[0],
                    "--values",
                    values[1],
                ]
                made[environment, chart] = subprocess.run(
                    argv, cwd=root, capture_output=True, text=True, check=True
                ).stdout
        return made

    before = renders()
    assert all("acme.example/region: eu-" in text for text in before.values())
    for change, reached in (
        (generate.bump_one, {("prod", "svc-001")}),
        (generate.change_environment, {("prod", "svc-000"), ("prod", "svc-001")}),
        (generate.change_shared_chart, set(before)),
    ):
        change(root, 1)
        after = renders()
        assert {case for case in before if before[case] != after[case]} == reached
        before = after
