"""`[schemas] locations`: JSON Schemas in the config repo, found by kubeconform's template variables.

Paths are relative to ROOT and stay below it, symbolic links included; nothing is fetched. A location that is a path
of a `.yaml` file holds CustomResourceDefinitions instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_VARIABLE = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_NAMES = frozenset(
    {"NormalizedKubernetesVersion", "StrictSuffix", "ResourceKind", "ResourceAPIVersion", "Group", "KindSuffix"}
)
_DEFAULT_LAYOUT = (
    "/{{ .NormalizedKubernetesVersion }}-standalone{{ .StrictSuffix }}/{{ .ResourceKind }}{{ .KindSuffix }}.json"
)
# What apiVersion and kind may look like before they become part of a path.
_API_VERSION = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(/[a-zA-Z0-9]+)?")
_KIND = re.compile(r"[a-zA-Z0-9]+")


class LocationError(ValueError):
    """A `[schemas] locations` entry that cannot be used. The message names it and says what to write."""


@dataclass(frozen=True, slots=True)
class Found:
    """A schema file: its parsed content, or why it could not be read."""

    path: str
    schema: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Location:
    """One entry of `[schemas] locations`, checked."""

    template: str
    root: Path

    @classmethod
    def parse(cls, text: str, root: Path | None) -> Location:
        """LocationError where the entry is a URL, leaves ROOT, or uses a variable kubeconform does not have.

        An absolute path is taken where it is below `root`: the command line of `lint` may name any folder.
        """
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", text):
            raise LocationError(
                f"[schemas] locations: {text!r} is not a path in the repo, and a check opens no network; "
                "copy the schemas into the repo with `releasegate schemas add --missing --from URL` and name that folder"
            )
        if root is None:
            raise LocationError(f"[schemas] locations: {text!r} has no root to start from")
        if Path(text).is_absolute() and Path(text).is_relative_to(root):
            text = str(Path(text).relative_to(root))
        if Path(text).is_absolute() or ".." in Path(text).parts:
            raise LocationError(f"[schemas] locations: {text!r} leaves the repo; write a path relative to its root")
        if text.endswith((".yaml", ".yml")):
            return cls(text, root.resolve())
        return cls(complete(text), root.resolve())

    @property
    def is_crd_file(self) -> bool:
        """Whether it names a file of CustomResourceDefinitions."""
        return self.template.endswith((".yaml", ".yml"))

    def find(self, api_version: str, kind: str, kubernetes: str) -> Found | None:
        """The schema of a kind under this location, None where there is no file."""
        if self.is_crd_file or not fillable(api_version, kind):
            return None
        path = self._below(fill(self.template, api_version, kind, kubernetes))
        if path is None or not path.is_file():
            return None
        shown = str(path.relative_to(self.root))
        try:
            schema = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            return Found(shown, error=f"{shown} is not JSON: {error}")
        if not isinstance(schema, dict):
            return Found(shown, error=f"{shown} is not a JSON Schema: it holds no object")
        # File names are lower case: the schema of Certificate must not judge a `kind: certificate`.
        said = schema.get("x-kubernetes-group-version-kind")
        kinds = [entry.get("kind") for entry in said if isinstance(entry, dict)] if isinstance(said, list) else []
        if kinds and kind not in kinds:
            return None
        return Found(shown, schema)

    def crd_text(self) -> tuple[str, str] | None:
        """(path, text) of a file of CustomResourceDefinitions; LocationError where it cannot be read."""
        path = self._below(self.template)
        try:
            if path is not None:
                return str(path.relative_to(self.root)), path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LocationError(f"[schemas] locations: {self.template!r} cannot be read: {error}") from error
        raise LocationError(f"[schemas] locations: {self.template!r} leaves the repo through a symbolic link")

    def _below(self, relative: str) -> Path | None:
        path = (self.root / relative).resolve()
        return path if path.is_relative_to(self.root) else None


def complete(text: str, name: str = "[schemas] locations") -> str:
    """The template an entry means: as in kubeconform a folder stands for its own layout below it.

    LocationError where it uses a variable kubeconform does not have; `name` says in which place.
    """
    template = text if text.endswith(("json", ".yaml", ".yml")) else text.rstrip("/") + _DEFAULT_LAYOUT
    for variable in variables(template):
        if variable.removeprefix(".") not in _NAMES or not variable.startswith("."):
            known = ", ".join(f"{{{{.{one}}}}}" for one in sorted(_NAMES))
            raise LocationError(f"{name}: {text!r} uses {{{{{variable}}}}}; there are {known}")
    return template


def variables(template: str) -> list[str]:
    """The variables of a template, with their dots."""
    return _VARIABLE.findall(template)


def fillable(api_version: str, kind: str) -> bool:
    """Whether apiVersion and kind may become part of a path or URL."""
    return _API_VERSION.fullmatch(api_version) is not None and _KIND.fullmatch(kind) is not None


def fill(template: str, api_version: str, kind: str, kubernetes: str) -> str:
    """The template with its variables filled in as kubeconform does (pkg/registry/registry.go, `schemaPath`)."""
    parts = api_version.split("/")
    suffix = f"-{parts[0].split('.', 1)[0].lower()}" + (f"-{parts[1].lower()}" if len(parts) > 1 else "")
    values = {
        "NormalizedKubernetesVersion": f"v{kubernetes}.0",
        "StrictSuffix": "-strict",
        "ResourceKind": kind.lower(),
        "ResourceAPIVersion": parts[-1],
        "Group": parts[0],
        "KindSuffix": suffix,
    }
    return _VARIABLE.sub(lambda matched: values[matched[1].removeprefix(".")], template)


def parse_all(texts: tuple[str, ...], root: Path | None) -> tuple[Location, ...]:
    """Every entry checked, in order; LocationError for the first that cannot be used."""
    return tuple(_each(texts, root))


def _each(texts: tuple[str, ...], root: Path | None) -> Iterator[Location]:
    for text in texts:
        yield Location.parse(text, root)
