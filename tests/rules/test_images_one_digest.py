"""images/one-digest: one tag, one build."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.rules.repos import TOML, verdicts, write

from releasegate.model import Outcome, Verdict

pytestmark = pytest.mark.usefixtures("helm")

RULE = "images/one-digest"
A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
CHART = "apiVersion: v2\nname: api\nversion: 1.0.0\n"
POD = 'apiVersion: v1\nkind: Pod\nmetadata: {name: api}\nspec: {containers: [{name: api, image: "{{ .Values.image }}"}]}\n'


def judged(root: Path, **images: str) -> Verdict:
    files = {
        "releasegate.toml": f'{TOML}[rules]\n"{RULE}" = "on"\n',
        "helm/api/Chart.yaml": CHART,
        "helm/api/templates/pod.yaml": POD,
    }
    files |= {f"helm/api/values-{name}.yaml": f"# {name}\nimage: {image}\n" for name, image in images.items()}
    return verdicts(write(root, files), RULE)["repo"]


def test_one_tag_with_one_digest_passes(tmp_path: Path) -> None:
    verdict = judged(tmp_path, dev=f"r.example/api:1.7.3@{A}", prod=f"r.example/api:1.7.3@{A}")
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 2)


def test_one_tag_with_two_digests_names_both_places(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, dev=f"r.example/api:1.7.3@{A}", prod=f"r.example/api:1.7.3@{B}").findings
    assert found.message == (
        "r.example/api:1.7.3 is sha256:bbbbbbbbbbbb… in prod/api (helm/api/values-prod.yaml:2) "
        "and sha256:aaaaaaaaaaaa… in dev/api (helm/api/values-dev.yaml:2)"
    )
    assert found.place is not None
    assert (found.place.path, found.place.line) == ("helm/api/values-prod.yaml", 2)


def test_the_protected_environment_is_compared_with_the_one_before_it(tmp_path: Path) -> None:
    images = {"dev": A, "staging": A, "prod": B}
    found = judged(tmp_path, **{name: f"r.example/api:1.7.3@{digest}" for name, digest in images.items()}).findings
    assert [one.place and one.place.path for one in found] == ["helm/api/values-prod.yaml"]


def test_three_digests_are_two_findings_with_a_cause_each(tmp_path: Path) -> None:
    images = {"dev": A, "staging": B, "prod": C}
    found = judged(tmp_path, **{name: f"r.example/api:1.7.3@{digest}" for name, digest in images.items()}).findings
    assert len({one.change for one in found}) == 2


@pytest.mark.parametrize(
    ("dev", "prod"),
    [
        (f"r.example/api:1.7.3@{A}", f"r.example/api:1.7.4@{B}"),
        (f"r.example/api:1.7.3@{A}", f"r.example/web:1.7.3@{B}"),
        (f"r.example/api:latest@{A}", f"r.example/api:latest@{B}"),
    ],
)
def test_other_tags_other_images_and_tags_that_move_may_differ(tmp_path: Path, dev: str, prod: str) -> None:
    verdict = judged(tmp_path, dev=dev, prod=prod)
    assert (verdict.outcome, verdict.subjects) == (Outcome.PASSED, 2)


def test_a_tag_that_may_be_moved_to_the_next_patch_is_advice(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, dev=f"nginx:1.27@{A}", prod=f"nginx:1.27@{B}").findings
    assert found.advice


def test_without_tag_or_without_digest_there_is_nothing_to_compare(tmp_path: Path) -> None:
    verdict = judged(tmp_path, dev=f"r.example/api@{A}", prod="r.example/api:1.7.3")
    assert (verdict.outcome, verdict.subjects) == (Outcome.NOT_APPLICABLE, 0)
