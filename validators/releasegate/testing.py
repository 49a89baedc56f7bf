"""For tests of rules: judge a few documents, without a repo and without helm.

bad, good = examples("labels/team")
assert judge("labels/team", bad).outcome == "failed"
assert judge("labels/team", good).outcome == "passed"
"""

from __future__ import annotations

import inspect
import re
import textwrap

from releasegate import config as configuration
from releasegate import evaluate, yamlio
from releasegate.manifests import manifests_of
from releasegate.model import CaseId, Environment, Level, Manifest, Release, Rendered, Repo, Scope, Tree, Verdict
from releasegate.rules import Evidence, Rule, Shared, catalogue
from releasegate.schemas import Schemas
from releasegate.usage import bundle_version, near

RELEASE, ENVIRONMENT = "app", "prod"


def judge(rule: str, *texts: str, config: str = "") -> Verdict:
    """Judge a rule, at level `on`, on a release that renders these documents, in the protected environment `prod`.

    `config` is the text of a releasegate.toml. `.outcome` of the verdict is "passed", "failed", "not-evaluated" or
    "not-applicable"; `.subjects` counts what was looked at; `.findings` have `message`, `help`, `pointer`, `value`.
    Raises LookupError for an id that is no rule, ValueError for a text that holds no Kubernetes objects.
    """
    found = _found(rule)
    kubernetes = bundle_version(None)
    environment = Environment(name=ENVIRONMENT, protected=True, kubernetes=kubernetes, why="a test")
    release = Release(name=RELEASE, environment=ENVIRONMENT, helm_release=RELEASE, namespace=RELEASE, sources=())
    tree = Tree(root="/nowhere", files=())
    evidence = Evidence(
        repo=Repo(tree=tree, environments=(environment,), releases=(release,)),
        config=configuration.parse(config),
        environment=None if found.scope is Scope.REPO else environment,
        release=release if found.scope is Scope.RELEASE else None,
        renders=(Rendered(release=release, manifests=tuple(one for text in texts for one in _manifests(text))),),
        shared=Shared(tree),
        schemas=Schemas.load(kubernetes),
    )
    case = CaseId(
        rule=rule,
        environment=None if found.scope is Scope.REPO else ENVIRONMENT,
        release=RELEASE if found.scope is Scope.RELEASE else None,
    )
    return evaluate.judge(found, case, evidence, Level.ON)


def examples(rule: str) -> tuple[str, str]:
    """Return the bad and the good example of a rule's page. LookupError when there is no such rule or example."""
    page = inspect.cleandoc(_found(rule).doc) + "\n"
    bad, good = (re.search(rf"^{name}:\n((?:[ ]{{4}}.*\n|\n)+)", page, re.MULTILINE) for name in ("Bad", "Good"))
    if bad is None or good is None:
        raise LookupError(f"the page of {rule} lacks Bad: or Good:, each with an indented example")
    return textwrap.dedent(bad[1]), textwrap.dedent(good[1])


def _found(rule: str) -> Rule:
    known = {one.id: one for one in catalogue()}
    if rule not in known:
        raise LookupError(f"no rule {rule!r}{near(rule, known)}; a package's rules are known once it is installed")
    return known[rule]


def _manifests(text: str) -> list[Manifest]:
    found: list[Manifest] = []
    for document in yamlio.documents(text):
        made = manifests_of(document, template="templates/example.yaml")
        if isinstance(made, str):
            raise ValueError(f"a document is {made}, not a Kubernetes object")  # noqa: TRY004 - of the text's value
        found += made
    if not found:
        raise ValueError("the text holds no document")
    return found
