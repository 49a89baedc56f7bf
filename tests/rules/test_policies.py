"""Every policy that ships: its tests run and pass, its good example passes, its bad one fires, and it has both."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from releasegate import yamlio
from releasegate.discover.files import Files
from releasegate.model import Tree
from releasegate.rules import rego
from releasegate.tools import conftest as tool
from releasegate.tools.store import Tool

TOP = Path(__file__).parents[2]
SHIPPED = rego.shipped()
SHOP = TOP / "fixtures" / "repos" / "shop"


def bundle_of(root: Path) -> rego.Bundle:
    files = sorted(path.relative_to(root).as_posix() for path in (root / "policies").rglob("*") if path.is_file())
    return rego.of_repo(Files(Tree(root=str(root), files=tuple(files))))


BUNDLES = {TOP: SHIPPED, SHOP: bundle_of(SHOP)}
POLICIES = [(root, bundle, policy) for root, bundle in BUNDLES.items() for policy in bundle.policies]
IDS = [policy.id for _, _, policy in POLICIES]


def objects(policy: rego.Policy, example: str) -> dict[str, bytes]:
    documents = yamlio.documents(policy.examples[example])
    return {f"{example}-{index}": json.dumps(one.value).encode() for index, one in enumerate(documents)}


def test_the_policies_of_this_release() -> None:
    assert [one.id for one in SHIPPED.policies] == [
        "policies/images/no-hidden",
        "policies/security/no-plain-secrets",
        "policies/security/no-privileged",
        "policies/security/run-as-non-root",
        "policies/workloads/probes",
        "policies/workloads/resources",
    ]
    assert SHIPPED.misplaced == ()


@pytest.mark.parametrize(("root", "bundle", "policy"), POLICIES, ids=IDS)
def test_a_policy_is_whole_and_its_own_tests_pass(
    root: Path, bundle: rego.Bundle, policy: rego.Policy, conftest: Tool
) -> None:
    assert policy.problem is None
    beside = Path(policy.path).with_name(f"{Path(policy.path).stem}_test.rego")
    assert (root / beside).is_file(), "a policy has tests"
    text = (root / beside).read_text(encoding="utf-8")
    assert rego.scan(text).package[0] == f"{policy.namespace}_test"
    written = len(re.findall(r"^test_\w+", text, re.MULTILINE))
    assert written >= 2
    said = tool.verify(conftest, {**bundle.libraries, policy.path: policy.text, beside.as_posix(): text})
    assert said == tool.Verified(written, ())


@pytest.mark.parametrize(("root", "bundle", "policy"), POLICIES, ids=IDS)
def test_the_good_example_passes_and_each_document_of_the_bad_one_fires(
    root: Path, bundle: rego.Bundle, policy: rego.Policy, conftest: Tool
) -> None:
    good, bad = objects(policy, "good"), objects(policy, "bad")
    assert good
    assert all(policy.judges(json.loads(one)) for one in good.values())
    answers = tool.judge(conftest, {**bundle.libraries, policy.path: policy.text}, [policy.namespace], {**good, **bad})
    assert isinstance(answers, dict)
    for name in good:
        assert answers[policy.namespace, name].said == ()
    for name in bad:
        said = answers[policy.namespace, name].said
        assert said
        for one in said:
            assert not one.message.endswith("."), "a message is no sentence of its own: kind and name stand before it"
            assert one.fields.get("pointer", "/").startswith("/")


def test_what_the_policies_call_is_in_opas_own_list(conftest: Tool) -> None:
    """The allow-list names functions of the OPA inside the locked conftest: a policy that calls all of them loads."""
    allowed = json.loads(tool.capabilities())
    assert allowed["allow_net"] == []
    names = {one["name"] for one in allowed["builtins"]}
    outside = re.compile(
        r"^(http|net\.lookup|opa|time|rand|uuid\.rfc|io|providers|trace|rego\.parse|crypto\.x509|graphql)"
    )
    assert not [name for name in names if outside.match(name)]
    assert {"walk", "regex.match", "json.marshal", "sprintf"} <= names
    assert isinstance(tool.judge(conftest, {"p.rego": "package p\ndeny contains 1"}, ["p"], {"x": b"{}"}), dict)
