"""Untrusted text made fit to print: what comes from the checked repo never reaches a terminal or a file as it is."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from releasegate import k8s
from releasegate.model import Finding, Manifest

REDACTED = "[redacted]"
SHOWN_OF_A_SECRET = frozenset({"apiVersion", "kind", "type"})
# C0 and C1 controls (a chart can `fail` with escape sequences), bidirectional overrides, line and paragraph separators.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
SHORTEST_SECRET = 4  # a shorter value would take words out of messages


def clean(text: str) -> str:
    """Return one line without control characters; a line break becomes a blank."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", " ").replace("\n", " ").replace("\t", " "))


def secrets_of(manifest: Manifest | None) -> list[str]:
    """Return the secret values of an object, longest first: they are taken out of messages and shown lines.

    What a Secret holds, encoded and decoded, and environment variables whose name says password or token.
    """
    if manifest is None:
        return []
    if manifest.kind != "Secret":
        return list(_in_environment(manifest))
    found: list[str] = []
    for key in ("data", "stringData"):
        held = manifest.body.get(key)
        if isinstance(held, Mapping):
            values = [str(value) for value in held.values()]
            values += [decoded for value in values if key == "data" and (decoded := _decoded(value)) is not None]
            found += [value for value in values if len(value) >= SHORTEST_SECRET]
    return sorted(found, key=len, reverse=True)


@functools.lru_cache(maxsize=256)  # a Manifest is equal to itself only
def _in_environment(manifest: Manifest) -> tuple[str, ...]:
    found = {
        value
        for _, spec in k8s.pod_specs(manifest.body)
        for key in ("containers", "initContainers", "ephemeralContainers")
        for container in _mappings(spec.get(key))
        for entry in _mappings(container.get("env"))
        if isinstance(name := entry.get("name"), str) and isinstance(value := entry.get("value"), str)
        if _SECRET.search(name) and not _NAMES_ONE.search(name) and len(value) >= SHORTEST_SECRET
        if value.lower() not in {"true", "false"}
    }
    return tuple(sorted(found, key=len, reverse=True))


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, Mapping))


def _decoded(value: str) -> str | None:
    """What `data` encodes, as a policy may quote it; None where it is no text."""
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError:
        return None


def message(finding: Finding, text: str) -> str:
    """Return a text about a finding, fit to print: cleaned, and without the values of the Secret it is about."""
    for secret in secrets_of(finding.manifest):
        text = text.replace(secret, REDACTED)
    return clean(text)


def redacted(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object as it may be shown: of a Secret its identity, and the names of what it holds.

    Whatever else it has is replaced as well: a misspelled `stringdata` holds the same passwords, and so does the
    annotation in which kubectl keeps the last applied object.
    """
    if body.get("kind") != "Secret":
        return body
    shown: dict[str, Any] = {}
    for key, value in body.items():
        if key in SHOWN_OF_A_SECRET:
            shown[key] = value
        elif key == "metadata" and isinstance(value, Mapping):
            shown[key] = {name: REDACTED if name == "annotations" else held for name, held in value.items()}
        else:
            shown[key] = dict.fromkeys(value, REDACTED) if isinstance(value, Mapping) else REDACTED
    return shown


_ENTRY = re.compile(r"(?P<key>\s*(?:- +)*[\"']?(?P<name>[^\s:#\"']+)[\"']?:)\s+(?P<value>[^\s#].*)")
_HARMLESS = frozenset(
    [
        "apiVersion",
        "image",
        "kind",
        "name",
        "namespace",
        "path",
        "pullPolicy",
        "imagePullPolicy",
        "registry",
        "repository",
        "repoURL",
        "tag",
        "version",
    ]
)
_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|(?:private|api|access|encryption|signing)[-_.]?key", re.IGNORECASE
)
# Inside a line: the password of a URL, the value of a flag named for one, tokens with a form of their own.
_INSIDE = re.compile(
    r"(?P<before>://[^\s:/@\"']*:|--?[\w.-]*(?:passw|secret|token|api-?key)[\w.-]*=)[^\s@\"',]+"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|npm_|xox[abeoprs]-|[rs]k_live_|AKIA|ASIA|AIza|SG\.|eyJ)[\w.-]{16,}",
    re.IGNORECASE,
)
_NAMES_ONE = re.compile(r"(?:name|ref|path|file|mount|enabled)s?\Z", re.IGNORECASE)


def neighbour(line: str) -> str:
    """Return what may be shown of a line nobody looked at: its key, and its value only under a harmless key."""
    entry = _ENTRY.fullmatch(line)
    if entry is not None:
        return line if entry["name"] in _HARMLESS else f"{entry['key']} …"
    text = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    if not text or re.fullmatch(r"[^\s:#]+:|-{3}|[-\[\]{}]", text):
        return line
    return f"{indent}{text[0] if text[0] in '#-' else ''} …"


def without_secret(line: str) -> str:
    """Return the line without its value where its key says that it is a secret; `secretName` names one only."""
    entry = _ENTRY.fullmatch(line)
    if entry is None or _SECRET.search(entry["name"]) is None or _NAMES_ONE.search(entry["name"]) is not None:
        return _INSIDE.sub(_hidden, line)
    return f"{entry['key']} {REDACTED}"


def _hidden(found: re.Match[str]) -> str:
    before = found["before"]
    if before is None:
        return REDACTED
    # `https://example.org:8080/` has a port where `https://user:password@example.org/` has a password.
    port = before.startswith("://") and found.string[found.end() : found.end() + 1] != "@"
    return found[0] if port else f"{before}{REDACTED}"
