"""Generators of ApplicationSets -> parameters: list, git, clusters, and matrix and merge of these.

Sources of the facts: argo-cd docs/operator-manual/applicationset/Generators-*.md and applicationset/generators/*.go,
applicationset/utils/{clusterUtils,selector,map}.go. Whatever is not evaluated raises NotEvaluated with its reason.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releasegate import yamlio
from releasegate.config import FILE, Cluster
from releasegate.discover.argo import Repository, listed, mapping, string
from releasegate.discover.dialects import Dialect, NotEvaluated, Parameters
from releasegate.discover.files import Files, PatternTooLarge, Unreadable, greedy, single_level
from releasegate.discover.gofunctions import StringMap, as_json, merged, printed, sanitized
from releasegate.model import Tree

MAX_SETS = 5000  # of parameters, of one generator
IN_CLUSTER = "in-cluster"
IN_CLUSTER_SERVER = "https://kubernetes.default.svc"
_SECRET_TYPE = ("argocd.argoproj.io/secret-type", "cluster")  # the label every cluster's Secret has
# As the controller goes through them (ApplicationSetGenerator's fields).
KINDS = (
    "list", "clusters", "git", "scmProvider", "clusterDecisionResource", "pullRequest", "matrix", "merge", "plugin",
)  # fmt: skip
_NOT_IN_GIT = {
    "scmProvider": "asks a forge which repositories there are",
    "pullRequest": "asks a forge which pull requests are open",
    "clusterDecisionResource": "reads an object of the cluster",
    "plugin": "asks a service",
}
_LABEL_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")


@dataclass(slots=True)
class Generators:
    """Evaluates generators of one ApplicationSet; `read` collects the files they read."""

    repository: Repository
    clusters: Sequence[Cluster]
    dialect: Dialect
    read: list[str] = field(default_factory=list)

    def kinds(self, generator: Mapping[str, Any]) -> list[str]:
        """Which generators one entry holds, in the controller's order; NotEvaluated without any."""
        found = [kind for kind in KINDS if generator.get(kind) is not None]
        unknown = [key for key in generator if key not in KINDS and key != "selector"]
        if not found or unknown:
            name = " + ".join(map(str, unknown)) or "empty"
            raise NotEvaluated(f"the {name} generator is none that Argo CD has", f"write one of {', '.join(KINDS)}")
        return found

    def parameters(
        self, generator: Mapping[str, Any], kind: str, given: Parameters, depth: int = 0
    ) -> list[Parameters]:
        """The parameters of one generator that its selector lets through.

        `given` are those of a matrix' first generator: they fill in the texts of this one.
        """
        body = mapping(generator[kind])
        if given:
            body = mapping(self.dialect.value(body, given))
        made = self._generated(kind, body, depth)
        selector = generator.get("selector")
        if selector is not None:
            wanted = _Selector(mapping(selector))
            made = [one for one in made if wanted.matches({key: printed(value) for key, value in flat(one)})]
        return made

    def _generated(self, kind: str, body: Mapping[str, Any], depth: int) -> list[Parameters]:
        if kind == "list":
            return self._list(body)
        if kind == "clusters":
            return self._clusters(body)
        if kind == "git":
            return self._git(body)
        if kind == "matrix":
            return self._matrix(body, depth)
        if kind == "merge":
            return self._merge(body, depth)
        raise NotEvaluated(f"the {kind} generator {_NOT_IN_GIT[kind]}: git does not say what it makes")

    # --- list ---------------------------------------------------------------------------------------------------------

    def _list(self, body: Mapping[str, Any]) -> list[Parameters]:
        elements, text = body.get("elements"), body.get("elementsYaml")
        if elements is None and not text:
            raise NotEvaluated("the list generator has no elements", "write list.elements")
        made = [self._element(element) for element in listed(elements)]
        if text:
            made += self._elements_of(text)
        return made

    def _element(self, element: Any) -> Parameters:
        if not isinstance(element, Mapping):
            raise NotEvaluated("an element of the list generator is no mapping", "write key: value pairs")
        if self.dialect.go:
            return mapping(as_json(element))
        made: dict[str, Any] = {}
        for key, value in element.items():
            if key == "values" and isinstance(value, Mapping):
                made |= {f"values.{name}": one for name, one in value.items()}
            else:
                made[key] = value
        wrong = [key for key, value in made.items() if not isinstance(value, str)]
        if wrong:
            raise NotEvaluated(
                f"list element {wrong[0]} is no string: Argo CD refuses it", "quote it, or use goTemplate"
            )
        return made

    def _elements_of(self, text: Any) -> list[Parameters]:
        try:
            elements = yamlio.load(text) if isinstance(text, str) else text
        except yamlio.YamlError as error:
            raise NotEvaluated(
                f"list.elementsYaml is no YAML: {error.message}", "write a list of mappings there"
            ) from error
        if not isinstance(elements, list) or not all(isinstance(one, Mapping) for one in elements):
            raise NotEvaluated("list.elementsYaml is no list of mappings", "write a list of mappings there")
        return [mapping(as_json(one)) for one in elements]

    # --- clusters -----------------------------------------------------------------------------------------------------

    def _clusters(self, body: Mapping[str, Any]) -> list[Parameters]:
        """The clusters of the config as the Secrets they are, and Argo CD's own where nothing is selected."""
        selector = mapping(body.get("selector"))
        if not self.clusters:
            raise NotEvaluated(
                "the clusters generator makes one Application per cluster that Argo CD knows, which git does not say",
                f"name the clusters in {FILE}: {_example(selector)}",
            )
        selects = bool(selector.get("matchLabels") or selector.get("matchExpressions"))
        wanted = _Selector(selector)
        made: list[Parameters] = []
        clusters = list(self.clusters)
        if not any(one.server == IN_CLUSTER_SERVER for one in clusters):
            clusters.append(Cluster(name=IN_CLUSTER, server=IN_CLUSTER_SERVER))
        for cluster in clusters:
            local = cluster.name == IN_CLUSTER and not cluster.labels  # known without a Secret
            labels = {**cluster.labels, _SECRET_TYPE[0]: _SECRET_TYPE[1]}
            if selects if local else not wanted.matches(labels):
                continue
            made.append(self._with_values(self._cluster(cluster, {} if local else labels), body))
        return [{"clusters": made}] if body.get("flatList") is True else made

    def _cluster(self, cluster: Cluster, labels: Mapping[str, str]) -> dict[str, Any]:
        known: dict[str, Any] = {
            "name": cluster.name,
            "nameNormalized": sanitized(cluster.name) if labels else cluster.name,
            "server": cluster.server,
            "project": cluster.project,
        }
        if not labels:
            return known
        if not self.dialect.go:
            known |= {f"metadata.annotations.{key}": value for key, value in cluster.annotations.items()}
            return known | {f"metadata.labels.{key}": value for key, value in labels.items()}
        metadata = {"labels": StringMap(labels)}
        if cluster.annotations:
            metadata["annotations"] = StringMap(cluster.annotations)
        return {**known, "metadata": metadata}

    # --- git ----------------------------------------------------------------------------------------------------------

    def _git(self, body: Mapping[str, Any]) -> list[Parameters]:
        url = string(body.get("repoURL"))
        if not self.repository.is_here(url):
            raise NotEvaluated(
                f"its git generator reads {url or 'no repoURL'}, another repository",
                f'if it is this one, add the URL to repo = ["…"] in {FILE}',
            )
        files = self.repository.at(body.get("revision"))
        if files is None:
            raise NotEvaluated(
                f"its git generator reads revision {body.get('revision')}, which this clone does not have",
                "fetch it (`git fetch origin`; actions/checkout: fetch-depth: 0)",
            )
        prefix = string(body.get("pathParamPrefix"))
        if body.get("directories"):
            found: Iterable[dict[str, Any]] = (
                self._path(path, prefix) for path in _directories(body["directories"], files)
            )
        elif body.get("files"):
            found = (
                one for path in _matching_files(body["files"], files) for one in self._of_file(path, files, prefix)
            )
        else:
            raise NotEvaluated("its git generator has neither directories nor files", "write git.directories")
        made: list[Parameters] = []
        try:
            for one in found:
                made.append(self._with_values(one, body))
                _bounded(made)
        except PatternTooLarge as error:
            raise NotEvaluated(f"its git generator's pattern {error}", "write fewer braces") from error
        return made

    def _path(self, path: str, prefix: str, filename: str | None = None) -> dict[str, Any]:
        segments = path.split("/")
        fields = {"path": path, "basename": segments[-1], "basenameNormalized": sanitized(segments[-1])}
        if filename is not None:
            fields |= {"filename": filename, "filenameNormalized": sanitized(filename)}
        if self.dialect.go:
            nested = {"path": {**fields, "segments": tuple(segments)}}
            return {prefix: nested} if prefix else dict(nested)
        name = f"{prefix}.path" if prefix else "path"
        made: dict[str, Any] = {name: path}
        made |= {f"{name}.{key}": value for key, value in fields.items() if key != "path"}
        return made | {f"{name}[{index}]": segment for index, segment in enumerate(segments) if segment}

    def _of_file(self, path: str, files: Files, prefix: str) -> Iterator[dict[str, Any]]:
        """The parameter sets of one file: a mapping is one, a list as many as it has, an empty file one."""
        self.read.append(path)
        try:
            content = yamlio.load(files.text(path))
        except (Unreadable, yamlio.YamlError) as error:
            raise NotEvaluated(
                f"its git generator reads {path}, which cannot be read: {error}", "mend the file"
            ) from error
        folder, name = posixpath.split(_repo_path(path, files.tree))
        at = self._path(folder or ".", prefix, name)
        for one in (content or [{}]) if isinstance(content, list) else [content]:
            if one is not None and not isinstance(one, Mapping):
                raise NotEvaluated(f"its git generator reads {path}, which is no mapping", "write key: value pairs")
            known = mapping(as_json(one or {}))
            yield {**(known if self.dialect.go else {key: printed(value) for key, value in flat(known)}), **at}

    def _with_values(self, parameters: dict[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """`values` of the generator, filled in with its own parameters (appendTemplatedValues)."""
        made = {key: self.dialect.text(string(value), parameters) for key, value in mapping(body.get("values")).items()}
        if not made:
            return parameters
        if self.dialect.go:
            return {**parameters, "values": StringMap(made)}
        return {**parameters, **{f"values.{key}": value for key, value in made.items()}}

    # --- combinations -------------------------------------------------------------------------------------------------

    def _children(self, kind: str, body: Mapping[str, Any], depth: int) -> list[Mapping[str, Any]]:
        generators = [mapping(one) for one in listed(body.get("generators"))]
        if depth > 1:
            raise NotEvaluated(
                f"its {kind} generator is the third level of generators: Argo CD allows two", "combine fewer of them"
            )
        if len(generators) < 2 or (kind == "matrix" and len(generators) > 2):  # noqa: PLR2004 - as Argo CD says
            wanted = "exactly two" if kind == "matrix" else "two or more"
            raise NotEvaluated(
                f"its {kind} generator combines {len(generators)}: Argo CD wants {wanted}", f"write {wanted} generators"
            )
        return generators

    def _child(self, generator: Mapping[str, Any], given: Parameters, depth: int) -> list[Parameters]:
        kinds = self.kinds(generator)
        if len(kinds) > 1:
            raise NotEvaluated(
                f"{' and '.join(kinds)} are in one entry of a matrix or merge generator: Argo CD refuses it",
                "write one generator per entry",
            )
        return self.parameters(generator, kinds[0], given, depth + 1)

    def _matrix(self, body: Mapping[str, Any], depth: int) -> list[Parameters]:
        """Every pair; the second generator is filled in with what the first one says."""
        first, second = self._children("matrix", body, depth)
        made: list[Parameters] = []
        for one in self._child(first, {}, depth):
            for other in self._child(second, one, depth):
                made.append(merged(other, one, override=True) if self.dialect.go else _combined(one, other))
                _bounded(made)
        return made

    def _merge(self, body: Mapping[str, Any], depth: int) -> list[Parameters]:
        """The first generator's sets, each overridden by those of the others that have the same merge keys."""
        base, *others = (self._child(one, {}, depth) for one in self._children("merge", body, depth))
        keys = sorted({key for key in listed(body.get("mergeKeys")) if isinstance(key, str)})
        if not keys:
            raise NotEvaluated("its merge generator has no mergeKeys: Argo CD refuses it", "write merge.mergeKeys")
        made = _by_keys(keys, base, go=self.dialect.go)
        for overrides in others:
            for key, one in _by_keys(keys, overrides, go=self.dialect.go).items():
                if key in made:
                    made[key] = merged(made[key], one, override=True) if self.dialect.go else {**made[key], **one}
        return list(made.values())


def _bounded(made: Sequence[Any]) -> None:
    if len(made) > MAX_SETS:
        raise NotEvaluated(f"it makes more than {MAX_SETS} sets of parameters", "make fewer Applications of one set")


def _combined(one: Parameters, other: Parameters) -> Parameters:
    """CombineStringMaps: two values for one name are refused."""
    first = {key: printed(value) for key, value in one.items()}
    second = {key: printed(value) for key, value in other.items()}
    for key, value in second.items():
        if first.get(key, value) != value:
            remedy = (
                "write pathParamPrefix in one of the two git generators"
                if key.partition("[")[0].split(".")[0] == "path"
                else f"rename {key} in one of the two, or use goTemplate"
            )
            raise NotEvaluated(
                f"both generators of its matrix set {key}, to {first[key]} and {value}: Argo CD refuses it", remedy
            )
    return {**first, **second}


def _by_keys(keys: Sequence[str], sets: Sequence[Parameters], *, go: bool) -> dict[str, Parameters]:
    made: dict[str, Parameters] = {}
    for one in sets:
        key = json.dumps([one.get(name) for name in keys], sort_keys=True, default=list)
        if key in made:
            dotted = [name for name in keys if go and "." in name and name not in one]
            why = f" ({dotted[0]} is no key: with goTemplate only whole keys are)" if dotted else ""
            raise NotEvaluated(
                f"two sets of one generator of its merge have the same {', '.join(keys)}: Argo CD refuses it{why}",
                "choose mergeKeys that tell the sets of each generator apart",
            )
        made[key] = one
    return made


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names with leaves, lists by index (github.com/jeremywohl/flatten). Go's map[string]string is a leaf."""
    if isinstance(value, Mapping) and not isinstance(value, StringMap):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield prefix[:-1], value
        return
    for key, one in items:
        yield from flat(one, f"{prefix}{key}.")


class _Selector:
    """A label selector over names and texts; values may be anything (utils.LabelSelectorAsSelector)."""

    def __init__(self, selector: Mapping[str, Any]) -> None:
        self.asked: list[tuple[str, str, list[Any]]] = [
            (key, "In", [value]) for key, value in mapping(selector.get("matchLabels")).items()
        ]
        for one in map(mapping, listed(selector.get("matchExpressions"))):
            self.asked.append((string(one.get("key")), string(one.get("operator")), listed(one.get("values"))))
        for key, operator, values in self.asked:
            if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
                raise NotEvaluated(
                    f"selector operator {operator!r} is unknown", "write In, NotIn, Exists or DoesNotExist"
                )
            if _LABEL_KEY.fullmatch(key) is None:
                raise NotEvaluated(
                    f"selector key {key!r} is no label's: Argo CD refuses it", "select another parameter"
                )
            if bool(values) != (operator in ("In", "NotIn")):
                raise NotEvaluated(
                    f"selector operator {operator} with {len(values)} values: Argo CD refuses it",
                    "mend matchExpressions",
                )

    def matches(self, held: Mapping[str, str]) -> bool:
        return all(
            (key in held and held[key] in values)
            if operator == "In"
            else (key not in held or held[key] not in values)
            if operator == "NotIn"
            else (key in held) == (operator == "Exists")
            for key, operator, values in self.asked
        )


def _example(selector: Mapping[str, Any]) -> str:
    """What to write, with the labels that are asked for."""
    labels = {str(key): str(value) for key, value in mapping(selector.get("matchLabels")).items()}
    for one in map(mapping, listed(selector.get("matchExpressions"))):
        values = listed(one.get("values"))
        if one.get("operator") == "In" and values:
            labels[str(one.get("key"))] = str(values[0])
    pairs = ", ".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in labels.items())
    more = f", labels = {{ {pairs} }}" if labels else ""
    return f'clusters = [{{ name = "prod-eu", server = "https://prod-eu.example"{more} }}]'


# --- paths --------------------------------------------------------------------------------------------------------


def _repo_path(path: str, tree: Tree) -> str:
    """Turn a tree path into a repo path, as the generator sees it."""
    return posixpath.normpath(posixpath.join(tree.prefix, path)) if tree.prefix else path


def _directories(entries: Any, files: Files) -> Iterator[str]:
    """Go's path.Match over every folder that is not hidden; any exclude wins (generators/git.go)."""
    wanted = [mapping(entry) for entry in listed(entries)]
    folders = [_repo_path(folder, files.tree) for folder in files.folders()]
    if files.tree.prefix:
        folders.insert(0, files.tree.prefix)
    for path in folders:
        if any(part.startswith(".") for part in path.split("/")):
            continue
        matching = [entry for entry in wanted if single_level(string(entry.get("path"))).fullmatch(path)]
        if matching and not any(entry.get("exclude") is True for entry in matching):
            yield path


def _matching_files(entries: Any, files: Files) -> Iterator[str]:
    """The controller's default: git's pathspec, where `*` crosses `/`. Newer globbing is an option of the cluster."""
    wanted = [mapping(entry) for entry in listed(entries)]
    for file in files.tree.files:
        path = _repo_path(file, files.tree)
        matching = [entry for entry in wanted if _pathspec(string(entry.get("path")), path)]
        if matching and not any(entry.get("exclude") is True for entry in matching):
            yield file


def _pathspec(pattern: str, path: str) -> bool:
    return path == pattern or path.startswith(f"{pattern.rstrip('/')}/") or greedy(pattern).fullmatch(path) is not None
