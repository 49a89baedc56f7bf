"""What a repo's names say: charts, environment names in paths, which values file belongs to which chart and where.

Heuristics: the config and Argo manifests come before them. Layouts and how often they occur in public repos were
counted for the documentation; the commonest are `helm/values-prod.yaml`, `environments/prod/values.yaml`,
`helm/values-production.yaml`, `envs/prod/values.yaml`, `environments/prod.yaml`, `helm/values.prod.yaml`,
`values/prod.yaml`, `helm/values/prod.yaml`, `helm/prod/values.yaml`, with regions as in `envs/prod-eu`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from releasegate import yamlio
from releasegate.config import Config, matches
from releasegate.discover.files import Files, Unreadable
from releasegate.model import ENVIRONMENT_NAME, REPO_NODE

PRODUCTION = frozenset({"prod", "production", "prd", "live"})
STAGING = frozenset({"staging", "stage", "stg", "preprod", "preproduction", "preprd"})
_DEVELOPMENT = {"dev", "devel", "develop", "development", "qa", "uat", "sit", "nonprod", "nonproduction"}
# Words that are environments, and also ordinary words: alone in an Application's name they prove nothing.
WEAK = frozenset(
    {
        "test", "testing", "tst", "int", "integration", "sandbox", "ephemeral", "preview", "review", "demo", "local",
        "perf", "performance", "load", "acceptance", "acc", "training", "canary", "dr", "beta", "alpha", "lab", "live",
    }
)  # fmt: skip
WORDS = PRODUCTION | STAGING | _DEVELOPMENT | WEAK
_NEGATED = frozenset({"non", "not", "no"})
_PRE = frozenset({"pre"})
# What may stand beside an environment word: regions, zones, providers, hardware, numbers.
_VARIANT = re.compile(
    r"\d{1,3}|[a-z]|eu|us|uk|de|fr|nl|es|it|ch|at|pl|se|no|dk|fi|ie|ca|au|nz|in|jp|sg|cn|br|hk|kr|za|ap|apac|emea|amer|"
    r"latam|na|sa|asia|europe|africa|america|americas|australia|global|"
    r"(?:us|eu|ap|ca|sa|me|af)(?:gov)?|(?:north|south|east|west|central)+\d{0,2}|northeast\d?|southeast\d?|"
    r"aws|gcp|gke|eks|aks|azure|gpu|cpu|arm|amd|blue|green|primary|secondary|active|passive|dmz|internal|external|"
    r"az\d|zone\w?|region\d?|[a-z]{3}\d{1,2}"
)
_SEPARATOR = re.compile(r"[-_.]")

# Folders whose children are environments, or that hold values files.
_CONTAINERS = frozenset(
    {
        "env", "envs", "environment", "environments", "values", "value", "overlays", "stages", "config", "configs",
        "configuration", "vars", "helm-values", "values-files", "valuefiles", "clusters",
    }
)  # fmt: skip
_ENVIRONMENT_FOLDERS = frozenset({"env", "envs", "environment", "environments", "stages", "overlays"})
_GENERIC = frozenset(
    {
        "apps", "applications", "services", "charts", "chart", "helm", "k8s", "kubernetes", "deploy", "deployment",
        "deployments", "gitops", "releases", "infra", "infrastructure", "src", "manifests", "argocd", "argo",
    }
)  # fmt: skip
_SHARED = frozenset({"common", "base", "shared", "default", "defaults", "global", "all"})
_VALUES_STEM = re.compile(r"(?:^|.*[-._])values(?:[-._].*)?", re.IGNORECASE)
_MANIFEST = re.compile(r"^(?:apiVersion|\"apiVersion\"):", re.MULTILINE)
_YAML = (".yaml", ".yml")
CI_FOLDER = "ci"  # chart-testing's: values it installs a chart with, no deployment (github.com/helm/chart-testing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A folder with Chart.yaml that is no vendored subchart. `dependencies` are (name, repository) as declared."""

    path: str
    name: str
    library: bool = False
    dependencies: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


# --- environment names --------------------------------------------------------------------------------------------


def is_environment(name: str, known: Collection[str] = ()) -> bool:
    """Whether a whole file or folder name is an environment: a known one, an environment word, or one with a region.

    `prod`, `prod-eu`, `eu-west-1-prod`, `integration-gpu`, `uat2`, `pre-prod`, `non-prod`; not `prod-database`.
    """
    lower = name.lower()
    if lower in known:
        return True
    if ENVIRONMENT_NAME.fullmatch(lower) is None or lower == REPO_NODE:
        return False
    words = [_word(token) for token in _SEPARATOR.split(lower)]
    found = [word for word in words if word in WORDS]
    rest = [word for word in words if word not in WORDS]
    return bool(found) and all(_VARIANT.fullmatch(word) or word in _NEGATED or word in _PRE for word in rest)


def _word(token: str) -> str:
    """`uat2`, `prod01` -> the word without its number, where that is an environment word."""
    bare = token.rstrip("0123456789")
    return bare if bare in WORDS else token


def is_protected(name: str) -> bool:
    """Whether the name is production- or staging-like: prod, prod-eu, live, staging2, pre-prod; not non-prod."""
    words = [_word(token) for token in _SEPARATOR.split(name.lower())]
    return not _NEGATED.intersection(words) and any(word in PRODUCTION or word in STAGING for word in words)


def of_path(path: str, known: Collection[str]) -> set[str]:
    """Return the environments named by the path's folders and its file's stem, else by the end of one of these."""
    folders, _, file = path.rpartition("/")
    found = {part.lower() for part in folders.split("/") if part and is_environment(part, known)}
    stem = _stem(file) if file.endswith((*_YAML, ".json")) else file
    if is_environment(stem, known):
        found.add(stem.lower())
    if not found:
        for part in [stem, *reversed(folders.split("/"))]:
            tail = affix(part, known, suffix_only=True)
            if tail is not None:
                return {tail}
    return most_specific(found)


def of_values_file(path: str, known: Collection[str]) -> set[str]:
    """Return the environments a values file's path names: its stem first, then its folders."""
    folders, _, file = path.rpartition("/")
    token = _values_token(_stem(file))
    stem = _stem(file)
    for name in (token, stem):
        if name and is_environment(name, known):
            return {name.lower()}
    for candidate in (token, stem):
        found = affix(candidate, known) if candidate else None
        if found is not None:
            return {found}
    return most_specific({part.lower() for part in folders.split("/") if part and is_environment(part, known)})


def most_specific(names: Iterable[str]) -> set[str]:
    """Drop names that another one refines: of prod and prod-eu, prod-eu is meant."""
    found = set(names)
    return {one for one in found if not any(other != one and other.startswith(f"{one}-") for other in found)}


def affix(name: str, known: Collection[str], *, suffix_only: bool = False) -> str | None:
    """Return the longest environment that is a prefix or suffix of a name with something else left, or None.

    Words that are ordinary words too (test, demo, integration) count only when they are in `known`.
    """
    tokens = _SEPARATOR.split(name.lower())
    parts = [
        part
        for length in range(len(tokens) - 1, 0, -1)
        for part in ([tokens[-length:]] if suffix_only else [tokens[-length:], tokens[:length]])
    ]
    for part in parts:
        if "-".join(part) in known:
            return "-".join(part)
    for part in parts:
        strong = any(_word(token) in WORDS - WEAK for token in part)
        if strong and is_environment("-".join(part)) and _word_at_edge(part):
            return "-".join(part)
    return None


def _word_at_edge(part: list[str]) -> bool:
    """Whether the environment word is first or last, and single letters are not taken for regions of it."""
    lone = [token for token in part if len(token) == 1 and not token.isdigit()]
    return not lone and (_word(part[0]) in WORDS or _word(part[-1]) in WORDS)


def of_name(name: str, known: Collection[str]) -> str | None:
    """Return the environment that a cluster's or namespace's name is or ends or begins with, or None."""
    lower = name.lower()
    alone = set(_SEPARATOR.split(lower)) & WORDS
    if lower in known or (is_environment(lower) and not alone <= WEAK):
        return lower
    return affix(lower, known)


def without_affix(name: str, environment: str) -> str:
    """Return an Application's name without its environment's own prefix or suffix, where something is left."""
    for separator in "-_.":
        if name.endswith(f"{separator}{environment}"):
            return name[: -len(environment) - 1]
        if name.startswith(f"{environment}{separator}"):
            return name[len(environment) + 1 :]
    return name


def _stem(file: str) -> str:
    """The name without .yaml, and without the extensions of encrypted files."""
    stem = re.sub(r"\.(?:ya?ml|json)$", "", file)
    return re.sub(r"\.(?:enc|sops|dec)$", "", stem)


def _values_token(stem: str) -> str | None:
    """What stands beside "values" in a stem: `values-prod`, `values.prod`, `prod-values` -> prod; "" for `values`."""
    found = re.fullmatch(r"values(?:[-._](?P<after>.+))?|(?P<before>.+)[-._]values", stem, re.IGNORECASE)
    if found is None:
        found = re.fullmatch(r".+[-._]values[-._](?P<after>.+)(?P<before>)", stem, re.IGNORECASE)
        if found is None:
            return None
    return found["after"] or found["before"] or ""


# --- charts -------------------------------------------------------------------------------------------------------


def charts(files: Files) -> dict[str, Chart]:
    """Find every chart of the tree that is not vendored inside another chart's `charts/`, by tree path."""
    folders = sorted(posixpath.dirname(path) or "." for path in files.tree.files if _is_chart_file(path))
    found: dict[str, Chart] = {}
    for folder in folders:
        if not any(_vendors(other, folder) for other in found):
            found[folder] = _chart(files, folder)
    return found


def _is_chart_file(path: str) -> bool:
    return path == "Chart.yaml" or path.endswith("/Chart.yaml")


def _vendors(chart: str, folder: str) -> bool:
    """Whether a folder is inside a chart's `charts/` or `templates/`: then it is part of that chart."""
    inner = ("charts/", "templates/") if chart == "." else (f"{chart}/charts/", f"{chart}/templates/")
    return f"{folder}/".startswith(inner) and f"{folder}/" not in inner


def _chart(files: Files, folder: str) -> Chart:
    path = "Chart.yaml" if folder == "." else f"{folder}/Chart.yaml"
    fallback = posixpath.basename(folder) if folder != "." else "chart"
    try:
        body = yamlio.load(files.text(path))
    except (Unreadable, yamlio.YamlError) as error:
        return Chart(path=folder, name=fallback, problem=f"{path}: {error}")
    if not isinstance(body, Mapping):
        return Chart(path=folder, name=fallback, problem=f"{path} is no mapping")
    name = body.get("name")
    declared = body.get("dependencies")
    legacy = path.replace("Chart.yaml", "requirements.yaml")
    if not declared and legacy in files:  # apiVersion v1
        try:
            requirements = yamlio.load(files.text(legacy))
            declared = requirements.get("dependencies") if isinstance(requirements, Mapping) else None
        except (Unreadable, yamlio.YamlError):
            declared = None
    return Chart(
        path=folder,
        name=name if isinstance(name, str) and name else fallback,
        library=body.get("type") == "library",
        dependencies=tuple(
            (str(one["name"]), str(one.get("repository") or ""))
            for one in declared or ()
            if isinstance(one, Mapping) and one.get("name")
        ),
    )


def unvendored(files: Files, chart: Chart) -> list[tuple[str, str]]:
    """Return the declared dependencies (name, repository) that are not in the chart's `charts/`.

    helm refuses such a chart, whatever their condition says (action.CheckDependencies); Argo CD first downloads them.
    """
    base = "charts" if chart.path == "." else f"{chart.path}/charts"
    inside = [path[len(base) + 1 :] for path in files.below(base)]
    names = {path.split("/")[0] for path in inside if path.count("/")}
    names |= {
        _chart(files, posixpath.dirname(f"{base}/{path}")).name
        for path in inside
        if path.count("/") == 1 and path.endswith("/Chart.yaml")
    }
    archives = [path for path in inside if path.endswith(".tgz") and "/" not in path]

    def here(name: str) -> bool:
        return name in names or any(re.fullmatch(rf"{re.escape(name)}-v?\d.*\.tgz", archive) for archive in archives)

    return [(name, repository) for name, repository in chart.dependencies if not here(name)]


# --- values files -------------------------------------------------------------------------------------------------


def chart_of(path: str, found: Mapping[str, Chart]) -> str | None:
    """Return the innermost chart folder that holds the path, or None."""
    while path:
        path = posixpath.dirname(path)
        if (path or ".") in found:
            return path or "."
    return None


class ValuesLayout:
    """Which values files there are, and which chart and environment each belongs to by its name.

    `by_chart` maps a chart's folder to {environment: its values files in order}; `all` is every values file.
    """

    def __init__(self, files: Files, found: Mapping[str, Chart], config: Config) -> None:
        """Look at the names of all YAML files; contents only to tell manifests from values."""
        self._files = files
        self._charts = {path: chart for path, chart in found.items() if not chart.library}
        self._every = found
        self._config = config
        self._names = frozenset(config.environments)
        self.all: list[str] = []
        self.by_chart: dict[str, dict[str, list[str]]] = {}
        for path in files.tree.files:
            if path.endswith(_YAML) and not self._is_part_of_chart(path):
                self._place(path)

    def environments(self) -> set[str]:
        """Return every environment that some chart has values files for."""
        return {name for by_environment in self.by_chart.values() for name in by_environment}

    def of_chart_path(self, path: str) -> str | None:
        """Return the environment a chart's own path names (`envs/prod`, `prod/api`), or None."""
        *parents, name = path.split("/")
        named = [part.lower() for part in parents if is_environment(part, self._names)]
        if is_environment(name, self._names) and parents and parents[-1] in _ENVIRONMENT_FOLDERS | {"clusters"}:
            named.append(name.lower())
        return named[-1] if len(set(named)) == 1 else None

    def _is_part_of_chart(self, path: str) -> bool:
        """Whether the file is a template, a subchart's, or the chart's description: no values of a deployment."""
        chart = chart_of(path, self._every)
        if chart is None:
            return path.startswith(".")
        inside = path if chart == "." else path[len(chart) + 1 :]
        return inside.startswith(("templates/", "charts/", "crds/", ".")) or inside in (
            "Chart.yaml",
            "requirements.yaml",
        )

    def _place(self, path: str) -> None:
        chart = chart_of(path, self._every)
        configured = self._configured(path)
        if chart is not None:
            inside = path if chart == "." else path[len(chart) + 1 :]
            environment = configured or self._inside(inside, self._every[chart])
            owner: str | None = chart
        else:
            environment = configured or self._outside(path)
            owner = self._owner(path)
        if (environment is None and not self._is_values(path)) or self._is_manifest(path):
            return
        self.all.append(path)
        if environment is not None and owner in self._charts:
            self.by_chart.setdefault(owner, {}).setdefault(environment, []).append(path)
            # Files farther from the chart are shared ones, which its own override.
            self.by_chart[owner][environment].sort(key=lambda one: (chart_of(one, self._every) == owner, one))

    def _configured(self, path: str) -> str | None:
        for name, environment in self._config.environments.items():
            if any(matches(pattern, path) for pattern in environment.values):
                return name
        return None

    def _is_values(self, path: str) -> bool:
        folder, _, file = path.rpartition("/")
        return _VALUES_STEM.fullmatch(_stem(file)) is not None or folder.rpartition("/")[2] == "values"

    def _is_manifest(self, path: str) -> bool:
        return self._files.mentions(path, _MANIFEST)

    def _inside(self, inside: str, chart: Chart) -> str | None:
        """Return the environment of a file inside a chart's folder, when it is values for that chart."""
        *folders, file = inside.split("/")
        stem = _stem(file)
        named = [part.lower() for part in folders if is_environment(part, self._names)]
        if any(part.lower() not in _CONTAINERS and part.lower() not in named for part in folders):
            return None
        token = _values_token(stem)
        own = {chart.name, posixpath.basename(chart.path)}
        for name in own:
            for prefix in (f"{name}-values", f"{name}.values"):
                if stem.startswith(prefix):
                    token = stem[len(prefix) + 1 :]
        if token:
            prefixed = re.fullmatch(r".+[-._]values[-._].+", stem) and not any(stem.startswith(name) for name in own)
            if prefixed:  # monitoring/tempo-values-prod.yaml is read by a template, or by nothing
                return None
            if is_environment(token, self._names):
                named.append(token.lower())
            else:
                return None
        elif token is None and is_environment(stem, self._names):
            named.append(stem.lower())
        elif token is None and stem not in own:
            return None
        found = most_specific(named)
        return found.pop() if len(found) == 1 else None

    def _outside(self, path: str) -> str | None:
        """Return the environment of a values file that is in no chart's folder: folder-first and shared forms."""
        *folders, file = path.split("/")
        stem = _stem(file)
        token = _values_token(stem)
        named = {part.lower() for part in folders if is_environment(part, self._names)}
        in_container = any(part.lower() in _CONTAINERS for part in folders)
        if folders and folders[-1].lower() in _ENVIRONMENT_FOLDERS and self._may_be_name(stem) and token is None:
            named.add(stem.lower())
        above = folders[-2].lower() if len(folders) > 1 else ""
        if above in _ENVIRONMENT_FOLDERS and token == "" and self._may_be_name(folders[-1]):
            named.add(folders[-1].lower())
        if token and is_environment(token, self._names):
            named.add(token.lower())
        elif token is None and is_environment(stem, self._names) and (in_container or self._config_folder(folders)):
            named.add(stem.lower())
        elif (token is None and not in_container and not named) or (
            token is None and not (in_container or self._names_chart(stem))
        ):
            return None
        found = most_specific(named)
        return found.pop() if len(found) == 1 else None

    def _may_be_name(self, text: str) -> bool:
        """Below `environments/` any name is an environment's, except words for what all share."""
        lower = text.lower()
        return (
            ENVIRONMENT_NAME.fullmatch(lower) is not None
            and lower not in _SHARED
            and (is_environment(lower, self._names) or len(self._charts) == 1)
        )

    def _config_folder(self, folders: list[str]) -> bool:
        return bool(folders) and any(self._names_chart(part) for part in folders)

    def _names_chart(self, text: str) -> bool:
        return any(text in (chart.name, posixpath.basename(chart.path)) for chart in self._charts.values())

    def _owner(self, path: str) -> str | None:
        """Return the chart a file outside every chart belongs to: by a name in its path, else the only one near it."""
        *folders, file = path.split("/")
        stem = _stem(file)
        parts = [*folders, stem, *_rest_of_stem(stem)]
        named = {
            chart.path
            for chart in self._charts.values()
            for own in (chart.name, posixpath.basename(chart.path))
            if own in parts and own not in _GENERIC
        }
        if len(named) == 1:
            return named.pop()
        folder = posixpath.dirname(path)
        while True:
            near = [chart for chart in self._charts if not folder or f"{chart}/".startswith(f"{folder}/")]
            if near:
                return near[0] if len(near) == 1 else None
            if not folder:
                return None
            folder = posixpath.dirname(folder)


def _rest_of_stem(stem: str) -> list[str]:
    """What a stem says besides "values" and an environment: `values-api`, `api-prod`, `api-values-prod` -> api."""
    tokens = [token for token in re.split(r"[-._]", stem) if token.lower() != "values"]
    rest = [token for token in tokens if not is_environment(token)]
    return ["-".join(rest), *rest]


def read_by_template(files: Files, chart: str, path: str) -> bool:
    """Whether a template of the chart reads the file with `.Files`, by its name or by a name it composes.

    `tempo-values-prod.yaml` is read by `.Files.Get (printf "tempo-values-%s.yaml" .Values.env)`.
    """
    name = posixpath.basename(path)
    token = _values_token(_stem(name)) or ""
    head = name[: name.rfind(token)] if token and is_environment(token) else name
    pattern = re.compile(re.escape(name) + (f"|{re.escape(head)}" if len(head) > len("values-") else ""))
    base = "templates" if chart == "." else f"{chart}/templates"
    return any(".Files" in files.text(one) and pattern.search(files.text(one)) for one in _readable(files, base))


def _readable(files: Files, folder: str) -> Iterable[str]:
    for path in files.below(folder):
        try:
            files.text(path)
        except Unreadable:
            continue
        yield path
