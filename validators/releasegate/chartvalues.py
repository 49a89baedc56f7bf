"""Do the merged values of a chart and its subcharts meet their values.schema.json?

helm could say it, but helm's resolver opens http:// and file:// references of a hostile schema (helm runs with
--skip-schema-validation for that). So helm does the merging, which it alone does right, on a copy of the chart whose
templates only print `.Values`, and the schemas are applied here by a validator that opens nothing.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema_rs

from releasegate import yamlio
from releasegate.tools import helm

SCHEMA = "values.schema.json"
MAX_ARCHIVE_BYTES = 64 << 20  # of one vendored subchart, unpacked
_PROBE = "templates/releasegate-values.yaml"
_PROBE_TEXT = "apiVersion: v1\nkind: ReleasegateValues\nmetadata: {name: values}\nvalues: {{ toJson .Values }}\n"


@dataclass(frozen=True, slots=True)
class Invalid:
    """The first schema that the values do not meet. `schema` is its path inside the chart."""

    message: str
    help: str
    schema: str


class Checker:
    """Checks values against schemas; the copy of each chart is made once. Safe for several threads."""

    def __init__(self, workspace: Path) -> None:
        """Copies go below `workspace`, which the caller removes."""
        self._workspace = workspace
        self._probes: dict[str, tuple[Path, Mapping[str, str]]] = {}
        self._lock = threading.Lock()

    def problem(
        self,
        request: helm.TemplateRequest,
        run: Callable[[helm.TemplateRequest], helm.Output | helm.TemplateError | helm.Unavailable],
    ) -> Invalid | None:
        """Return what is wrong with the values of this request, None when all schemas are met or there is none."""
        with self._lock:
            if request.chart not in self._probes:
                self._probes[request.chart] = self._probe(Path(request.chart))
            probe, schemas = self._probes[request.chart]
        if not schemas:
            return None
        outcome = run(replace(request, chart=str(probe), include_crds=False))
        if not isinstance(outcome, helm.Output):
            return None  # the real render fails the same way and says so with its own file and line
        for source, values in _printed(outcome.text):
            text = schemas.get(source)
            if text is not None:
                invalid = _check(f"{source}{SCHEMA}", text, values)
                if invalid is not None:
                    return invalid
        return None

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


def _check(path: str, text: str, values: Any) -> Invalid | None:
    try:
        validator = jsonschema_rs.validator_for(json.loads(text), retriever=_open_nothing, mask="the value")
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        said = str(error).splitlines()[0]
        return Invalid(
            f"{path} is not a usable JSON schema: {said}", "mend the schema; references stay in the file", path
        )
    found = sorted(validator.iter_errors(values), key=lambda one: [str(part) for part in one.instance_path])
    if not found:
        return None
    said = "; ".join(f"at /{'/'.join(str(part) for part in one.instance_path)}: {one.message}" for one in found[:5])
    more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""  # noqa: PLR2004 - five fit a screen
    return Invalid(
        f"the values do not meet {path}: {said}{more}", "change the value, or the schema that forbids it", path
    )
