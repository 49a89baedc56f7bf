"""Do the merged values of a chart and its subcharts meet their values.schema.json?

helm could say it, but helm's resolver opens http:// and file:// references of a hostile schema (helm runs with
--skip-schema-validation for that). So helm does the merging, which it alone does right, on a copy of the chart whose
templates only print `.Values`, and the schemas are applied here by a validator that opens nothing.
"""

from __future__ import annotations

import difflib
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema_rs

from releasegate import yamlio
from releasegate.model import Place
from releasegate.schemas import messages
from releasegate.tools import helm

SCHEMA = "values.schema.json"
MAX_ARCHIVE_BYTES = 64 << 20  # of one vendored subchart, unpacked
_PROBE = "templates/releasegate-values.yaml"
_PROBE_TEXT = "apiVersion: v1\nkind: ReleasegateValues\nmetadata: {name: values}\nvalues: {{ toJson .Values }}\n"


MAX_FAULTS = 20  # of one schema: a list of a hundred wrong entries is one mistake
_NEAR = 0.7
_EXACT = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One value that a schema refuses.

    `schema` is the schema's path inside the chart. `path` leads to the value in the values of the chart (of a subchart:
    in those of the chart that is deployed), None when the schema itself cannot be used. `inside` are the names of the
    subcharts that the path begins with. `value` is what is there.
    """

    message: str
    help: str
    schema: str
    path: tuple[str | int, ...] | None
    inside: tuple[str, ...] = ()
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Values that are handed to helm: a text with the file it stands in.

    `above` are the lines of the file before the text, None when its lines are no lines of the file. `chart` are the
    names of the subcharts whose own values.yaml it is: () for what counts from the deployed chart.
    """

    file: str
    text: str
    above: int | None = 0
    chart: tuple[str, ...] = ()


def place_of(fault: Fault, layers: Sequence[Layer]) -> Place | None:
    """Return where the last of `layers` that sets the refused value writes it; None where that is not certain.

    `layers` are in helm's order, the last wins. A value that helm merged to something else is not certain.
    """
    if not fault.path:
        return None
    paths = [fault.path]
    depth = len(fault.inside)
    if fault.path[depth : depth + 1] == ("global",):  # handed down from each chart above
        paths += [(*fault.path[:above], *fault.path[depth:]) for above in range(depth)]
    found: dict[tuple[str | int, ...], Place | None] = {}
    for path in paths:
        for layer in reversed(layers):
            if path[: len(layer.chart)] != layer.chart:
                continue
            own = path[len(layer.chart) :]
            try:
                said = _at(yamlio.load(layer.text), own)
                if said is _ABSENT:
                    continue
                if isinstance(fault.value, _EXACT) and (said != fault.value or type(said) is not type(fault.value)):
                    return None
                pointer = messages.pointer(own)
                positions = yamlio.positions(layer.text)
                mark = positions.key(pointer) or positions.value(pointer)
            except yamlio.YamlError:
                return None
            if mark is None or layer.above is None:
                return None
            found[path] = Place(path=layer.file, line=layer.above + mark.line)
            break
    return next(iter(found.values())) if len(found) == 1 else None


_ABSENT = object()


def _at(values: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        inside = (
            isinstance(part, int) and part < len(values) if isinstance(values, list) else isinstance(values, Mapping)
        )
        if not inside or (isinstance(values, Mapping) and part not in values):
            return _ABSENT
        values = values[part]
    return values


class Checker:
    """Checks values against schemas; the copy of each chart is made once. Safe for several threads."""

    def __init__(self, workspace: Path) -> None:
        """Copies go below `workspace`, which the caller removes."""
        self._workspace = workspace
        self._probes: dict[str, tuple[Path, Mapping[str, str]]] = {}
        self._lock = threading.Lock()

    def faults(
        self,
        request: helm.TemplateRequest,
        run: Callable[[helm.TemplateRequest], helm.Output | helm.TemplateError | helm.Unavailable],
    ) -> list[Fault]:
        """Return what is wrong with the values of this request: nothing when all schemas are met or there is none."""
        with self._lock:
            if request.chart not in self._probes:
                self._probes[request.chart] = self._probe(Path(request.chart))
            probe, schemas = self._probes[request.chart]
        if not schemas:
            return []
        outcome = run(replace(request, chart=str(probe), include_crds=False))
        if not isinstance(outcome, helm.Output):
            return []  # the real render fails the same way and says so with its own file and line
        found: dict[tuple[str | int, ...] | str, Fault] = {}
        for source, values in sorted(_printed(outcome.text), key=lambda one: one[0]):
            if source in schemas:
                for fault in _check(source, schemas[source], values):
                    # The chart above may refuse the same value.
                    found.setdefault(fault.schema if fault.path is None else (*fault.path, fault.message), fault)
        return list(found.values())

    def _probe(self, chart: Path) -> tuple[Path, Mapping[str, str]]:
        """Make the copy: charts without their templates. Return it and the schemas by chart path inside it."""
        if not any(chart.rglob(SCHEMA)) and not any((chart / "charts").glob("*.tgz")):
            return chart, {}
        probe = self._workspace / str(len(self._probes))
        shutil.copytree(chart, probe, ignore=shutil.ignore_patterns("templates", "crds"))
        for archive in list(probe.rglob("charts/*.tgz")):
            _unpack(archive)
        schemas: dict[str, str] = {}
        for manifest in list(probe.rglob("Chart.yaml")):
            folder = manifest.parent
            inside = "" if folder == probe else f"{folder.relative_to(probe).as_posix()}/"
            (folder / "templates").mkdir(exist_ok=True)
            (folder / _PROBE).write_text(_PROBE_TEXT)
            if (folder / SCHEMA).is_file():
                schemas[inside] = (folder / SCHEMA).read_text(errors="replace")
        return probe, schemas


def _unpack(archive: Path) -> None:
    """Unpack a vendored subchart beside its archive, without its templates, and remove the archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes()), mode="r:gz") as tar:
            members = [one for one in tar.getmembers() if one.isfile() and "/templates/" not in one.name]
            if sum(one.size for one in members) > MAX_ARCHIVE_BYTES:
                return
            tar.extractall(archive.parent, members=members, filter="data")
    except (tarfile.TarError, OSError, EOFError):
        return  # helm says what is wrong with the archive when it renders the chart itself
    archive.unlink()


def _printed(text: str) -> Iterator[tuple[str, Any]]:
    """Yield (chart path inside the probe, its merged values) from the probe's render."""
    for piece in text.split("---\n# Source: ")[1:]:
        source, _, body = piece.partition("\n")
        inside = source.partition("/")[2].removesuffix(_PROBE)
        document = yamlio.load(body)
        if isinstance(document, Mapping) and document.get("kind") == "ReleasegateValues":
            yield inside, document["values"]


def _open_nothing(uri: str) -> Any:
    raise ValueError(f"releasegate opens no reference: {uri}")


def _check(source: str, text: str, values: Any) -> list[Fault]:
    """What the schema of one chart (its folder inside the deployed one, "" or "charts/db/") refuses, in its order."""
    path = f"{source}{SCHEMA}"
    try:
        schema = json.loads(text)
        validator = jsonschema_rs.validator_for(schema, retriever=_open_nothing, mask="the value")
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        said = str(error).splitlines()[0]
        message = f"is not a usable JSON schema: {said}"
        return [Fault(message=message, help="mend the schema; references stay in the file", schema=path, path=None)]
    inside = tuple(source.split("/")[1::2])
    errors = sorted(validator.iter_errors(values), key=lambda one: [str(part) for part in one.instance_path])
    made = [fault for error in errors for fault in _faults_of(error, schema, values, path, inside)]
    if len(made) > MAX_FAULTS:
        last = made[MAX_FAULTS - 1]
        more = f"{last.message} (and {len(made) - MAX_FAULTS} more)"
        made = [*made[: MAX_FAULTS - 1], replace(last, message=more)]
    return made


def _faults_of(error: Any, schema: Any, values: Any, path: str, inside: tuple[str, ...]) -> Iterator[Fault]:
    """One fault per key: a schema that knows no `a` and no `b` says so in one error."""
    at = tuple(error.instance_path)
    unexpected = getattr(error.kind, "unexpected", None)
    if isinstance(unexpected, list) and unexpected:
        declared = _declared(schema, error.schema_path)
        for key in unexpected:
            near = difflib.get_close_matches(key, declared, 1, _NEAR)  # also one that the chart's defaults set
            dotted = _dotted((*inside, *at, key))
            yield Fault(
                message=f"at {messages.pointer((*at, key))}: unknown key {key}"
                + (f"; did you mean {near[0]}?" if near else ""),
                help=f"{dotted}: write {near[0]} instead of {key}"
                if near
                else f"{dotted}: remove the key, or mend its name; a new key of the chart is declared in its schema too",
                schema=path,
                path=(*inside, *at, key),
                inside=inside,
                value=_at(values, (*at, key)),
            )
        return
    missing = getattr(error.kind, "property", None)
    if isinstance(missing, str):
        help_ = f"{_dotted((*inside, *at, missing))}: give it a value in the values"
    else:
        help_ = f"{_dotted((*inside, *at))}: change the value to what the schema asks for"
    said = f"at {messages.pointer(at) or '/'}: {error.message}"
    yield Fault(message=said, help=help_, schema=path, path=(*inside, *at), inside=inside, value=_at(values, at))


def _declared(schema: Any, path: Sequence[str | int]) -> list[str]:
    """The properties that the schema around a failed keyword declares."""
    around = _at(schema, path[:-1])
    properties = around.get("properties") if isinstance(around, Mapping) else None
    return list(properties) if isinstance(properties, Mapping) else []


def _dotted(path: Sequence[str | int]) -> str:
    """A path as people name values: `ingress.hosts[0].host`."""
    made = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return made.removeprefix(".") or "the values"
