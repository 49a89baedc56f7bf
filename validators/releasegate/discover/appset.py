"""ApplicationSets: the Applications that their generators and their template make, as the controller makes them.

Sources of the facts: argo-cd docs/operator-manual/applicationset/{Template,GoTemplate,Generators}.md;
applicationset/controllers/template/{template,patch}.go; applicationset/utils/utils.go. `strategy` is when, not what:
it is not looked at. Whatever is not evaluated is a row with its reason, never an Application that is a guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from releasegate import yamlio
from releasegate.config import Cluster
from releasegate.discover.argo import Found, Repository, listed, mapping, sources_of
from releasegate.discover.dialects import Dialect, NotEvaluated, Parameters
from releasegate.discover.generators import Generators
from releasegate.model import ENVIRONMENT_NAME, REPO_NODE, NotUnderstood

_ENVIRONMENT_KEYS = ("environment", "env")
_FINALIZER = "resources-finalizer.argocd.argoproj.io"
_METADATA = ("annotations", "labels", "name", "finalizers")  # what of the template's metadata is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The Applications of a set, the rows for what was not evaluated, and the files its generators read."""

    applications: tuple[Found, ...]
    rows: tuple[NotUnderstood, ...] = ()
    read: tuple[str, ...] = ()


def applications(found: Found, repository: Repository, clusters: Sequence[Cluster] = ()) -> Generated:
    """Generate the Applications of an ApplicationSet. Each generator is taken by itself: one row does not hide others.

    `clusters` are those of the config: git does not say which ones Argo CD knows.
    """
    generation = _Generation(found)
    spec = mapping(found.body.get("spec"))
    entries = spec.get("generators")
    try:
        dialect = Dialect.of(spec)
    except NotEvaluated as error:
        generation.row(error.reason, error.remedy, "/spec/goTemplateOptions")
        return generation.generated()
    if not isinstance(entries, list) or not entries:
        generation.row("it has no generators", "write spec.generators", "/spec")
        return generation.generated()
    for index, entry in enumerate(entries):
        generation.take(mapping(entry), f"/spec/generators/{index}", Generators(repository, clusters, dialect))
    return generation.generated()


@dataclass(slots=True)
class _Generation:
    """What one ApplicationSet has made so far."""

    found: Found
    made: list[Found] = field(default_factory=list)
    rows: list[NotUnderstood] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)  # rows of generators that made nothing
    read: list[str] = field(default_factory=list)

    def row(self, reason: str, remedy: str, at: str) -> None:
        self.rows.append(
            NotUnderstood(
                what=f"ApplicationSet {self.found.name or 'without a name'}",
                reason=reason,
                remedy=remedy,
                place=self.found.at(at) or self.found.place,
                name=self.found.name or None,
            )
        )

    def take(self, entry: Mapping[str, Any], pointer: str, generators: Generators) -> None:
        """Make the Applications of one entry of spec.generators."""
        try:
            sets = list(_sets(generators, entry))
        except NotEvaluated as error:
            self.row(error.reason, error.remedy, pointer)
            return
        self.read += generators.read
        if not sets:
            self.row("this generator makes no Application here", "check its paths and selectors", pointer)
            self.empty.append(len(self.rows) - 1)
        failed: Counter[tuple[str, str]] = Counter()
        for kind, parameters in sets:
            try:
                self.made.append(_application(self.found, generators.dialect, mapping(entry[kind]), kind, parameters))
            except NotEvaluated as error:
                failed[error.reason, error.remedy] += 1
        for (reason, remedy), count in failed.items():  # what fails alike is told once
            self.row(f"{reason} ({count} Applications)" if count > 1 else reason, remedy, pointer)

    def generated(self) -> Generated:
        """What there is in the end."""
        for index in self.empty if self.made else ():  # another generator makes some: it may be meant
            self.rows[index] = replace(self.rows[index], blocking=False)
        for name, count in sorted(Counter(one.name for one in self.made).items()):
            if count > 1:
                self.row(
                    f"it makes two Applications named {name}: Argo CD refuses the whole set",
                    "make the names of its template differ",
                    "/spec/template/metadata/name",
                )
        return Generated(applications=tuple(self.made), rows=tuple(self.rows), read=tuple(self.read))


def _sets(generators: Generators, entry: Mapping[str, Any]) -> Iterator[tuple[str, Parameters]]:
    """The parameters of one entry with the kind of generator that made them."""
    for kind in generators.kinds(entry):
        for parameters in generators.parameters(entry, kind, {}):
            yield kind, parameters


def _application(found: Found, dialect: Dialect, generator: Mapping[str, Any], kind: str, given: Parameters) -> Found:
    spec = mapping(found.body.get("spec"))
    template = mapping(spec.get("template"))
    own = mapping(generator.get("template"))
    rendered = mapping(dialect.value(_overlay(template, own) if own else template, given))
    metadata = {key: value for key, value in mapping(rendered.get("metadata")).items() if key in _METADATA}
    if (
        not metadata.get("finalizers")
        and mapping(spec.get("syncPolicy")).get("preserveResourcesOnDeletion") is not True
    ):
        metadata["finalizers"] = [_FINALIZER]
    body: dict[str, Any] = {
        "apiVersion": found.body.get("apiVersion"),
        "kind": "Application",
        "metadata": metadata,
        "spec": rendered.get("spec"),
    }
    patch = spec.get("templatePatch")
    if isinstance(patch, str) and patch.strip():
        body = _patched(body, dialect.text(patch, given))
    # Always the set's own, so that it cannot write Applications elsewhere.
    body["metadata"] = {"namespace": mapping(found.body.get("metadata")).get("namespace"), **body["metadata"]}
    _refuse_leftovers(body, dialect)
    made = replace(found, body=body)
    where = f" in {found.place.path}" if found.place else ""
    return replace(
        made,
        why=f"{kind} generator of ApplicationSet {found.name}{where}",
        # Where a value stands is only known while nothing was laid over the template.
        base=f"{found.base}/none" if own or patch else f"{found.base}/spec/template",
        hint=_hint(kind, given),
    )


def _hint(kind: str, given: Parameters) -> tuple[str, str] | None:
    """The environment that a parameter names: `env` of an element or a file, of `values`, of a cluster's labels."""
    labels = mapping(mapping(given.get("metadata")).get("labels"))
    values = mapping(given.get("values"))
    for key in _ENVIRONMENT_KEYS:
        for value, what in (
            (given.get(key), f"{key} of its {kind} generator"),
            (given.get(f"values.{key}", values.get(key)), f"values.{key} of its {kind} generator"),
            (given.get(f"metadata.labels.{key}", labels.get(key)), f"label {key} of cluster {given.get('name')}"),
        ):
            if isinstance(value, str) and _is_name(value.lower()):
                return value.lower(), what
    return None


def _is_name(text: str) -> bool:
    return ENVIRONMENT_NAME.fullmatch(text) is not None and text != REPO_NODE


def _refuse_leftovers(body: Mapping[str, Any], dialect: Dialect) -> None:
    """What is left of `{{…}}`, and Go's `<no value>`, where no text of the user's own may be: the deployment is broken.

    Elsewhere (inline values, annotations) fasttemplate leaves what it does not know to whoever reads it next.
    """
    spec = mapping(body.get("spec"))
    texts = [mapping(body.get("metadata")).get("name"), spec.get("project"), *mapping(spec.get("destination")).values()]
    for source in sources_of(spec):
        texts += [source.get(key) for key in ("repoURL", "path", "chart", "targetRevision", "ref")]
        helm = mapping(source.get("helm"))
        texts += [helm.get("releaseName"), helm.get("namespace"), *listed(helm.get("valueFiles"))]
    for text in texts:
        if not isinstance(text, str):
            continue
        if "{{" in text and not dialect.go:
            raise NotEvaluated(
                f"its template leaves {text!r}, which the generator does not set",
                "use a parameter of the generator; functions and leading dots need goTemplate: true",
            )
        if "<no value>" in text:
            raise NotEvaluated(f"its template gives {text!r}", "set the parameter in the generator")


def _overlay(template: Any, own: Any) -> Any:
    """A generator's own template with the gaps filled from the set's (mergo.Merge: what is empty is a gap)."""
    if isinstance(template, Mapping) and isinstance(own, Mapping):
        return {**template, **{key: _overlay(template.get(key), value) for key, value in own.items()}}
    return template if not own and not isinstance(own, Mapping) and template is not None else own


# --- templatePatch ------------------------------------------------------------------------------------------------


def _patched(body: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A strategic merge patch; the project stays the template's (controllers/template/patch.go)."""
    try:
        patch = yamlio.load(text)
    except yamlio.YamlError as error:
        raise NotEvaluated(f"its templatePatch gives no YAML: {error.message}", "mend spec.templatePatch") from error
    if patch is None:
        return dict(body)
    if not isinstance(patch, Mapping):
        raise NotEvaluated("its templatePatch gives no mapping", "write the fields of an Application there")
    made = mapping(_strategic(body, patch))
    spec = {**mapping(made.get("spec")), "project": mapping(body.get("spec")).get("project")}
    metadata = {key: value for key, value in mapping(made.get("metadata")).items() if key != "namespace"}
    return {**made, "metadata": metadata, "spec": spec}


def _strategic(target: Any, patch: Any) -> Any:
    """k8s.io/apimachinery strategicpatch over an Application, whose only list that merges is metadata.finalizers."""
    if not isinstance(patch, Mapping):
        return patch
    directive = patch.get("$patch")
    given = {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "replace":
        return given
    if directive == "delete":
        return None
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in given.items():
        if key.startswith("$"):
            raise NotEvaluated(
                f"its templatePatch has {key}, which this version does not evaluate", "write the whole list"
            )
        if value is None:
            merged.pop(key, None)
        elif key == "finalizers" and isinstance(value, list) and isinstance(merged.get(key), list):
            merged[key] = [*merged[key], *(one for one in value if one not in merged[key])]
        else:
            merged[key] = _strategic(merged.get(key), value)
            if merged[key] is None:
                del merged[key]
    return merged
