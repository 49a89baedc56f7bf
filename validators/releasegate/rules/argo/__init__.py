"""Is Argo CD told what people think it is told?"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from releasegate import k8s
from releasegate.discover.argo import mapping
from releasegate.model import Application, Finding, Place, Project, Release, Unjudged
from releasegate.rules import Evidence

DEFAULT_PROJECT = "default"  # there in every Argo CD, and allows everything unless somebody changed it


def deployed(evidence: Evidence) -> Sequence[Release]:
    """Every release of the environment that an Application deploys, whether it renders or not."""
    environment = evidence.environment
    return [
        release
        for release in evidence.repo.releases
        if environment is not None and release.environment == environment.name and release.application is not None
    ]


def application_of(release: Release) -> Application:
    """The Application of one of `deployed`."""
    if release.application is None:
        raise AssertionError(f"{release.id} is deployed by no Application")
    return release.application


def spec_of(application: Application) -> Mapping[str, Any]:
    """`spec`, or {} when absent or not a mapping."""
    return mapping(application.body.get("spec"))


def made_by(application: Application) -> str:
    """`Application api-prod`, and the ApplicationSet where one makes it."""
    manifest = application.manifest
    if manifest is not None and manifest.kind == "ApplicationSet":
        return f"Application {application.name} (of ApplicationSet {manifest.name})"
    return f"Application {application.name}"


def about(
    application: Application, pointer: str, message: str, fix: str, *, change: str, anywhere: bool = False
) -> Finding:
    """Return a finding about a field of an Application, at the deepest part of `pointer` that is written.

    Its place is the line in the Application's or ApplicationSet's file, or in the template that rendered it.
    `anywhere`: it is mended elsewhere, for all Applications at once.
    """
    manifest = application.manifest
    if manifest is None:
        place = application.place or (Place(path=application.template) if application.template else None)
        return Finding(message=message, help=fix, change=change, place=place, pointer=pointer, anywhere=anywhere)
    found, value = deepest(manifest.body, application.base + pointer)
    return Finding(
        message=message, help=fix, change=change, manifest=manifest, pointer=found, value=value, anywhere=anywhere
    )


def deepest(body: Any, pointer: str) -> tuple[str, Any]:
    """The longest beginning of a JSON pointer that there is in `body`, and the value there."""
    tokens = k8s.split(pointer)
    for end in range(len(tokens), 0, -1):
        part = k8s.join("", *tokens[:end])
        try:
            return part, k8s.resolve(body, part)
        except KeyError:
            continue
    return "", body


# --- projects -------------------------------------------------------------------------------------------------------


def project_of(application: Application, environment: str, evidence: Evidence) -> Project | Unjudged | None:
    """The AppProject an Application names; None for a `default` that nobody changed here.

    Of several with the name the one of this environment counts, then one that is no environment's, then the only one.
    Unjudged: it is not in git, or two of the same standing differ.
    """
    named = [one for one in evidence.repo.projects if one.name == application.project]
    for standing in (
        [one for one in named if one.environment == environment],
        [one for one in named if one.environment is None],
        named,
    ):
        if len({repr(one.manifest.body.get("spec")) for one in standing}) == 1:
            return standing[0]
        if standing:
            places = sorted({str(project_place(one)) for one in standing})
            return Unjudged(
                reason=f"several AppProjects are called {application.project}: {', '.join(places)}",
                remedy="keep each in a folder named for its environment",
                group=f"several AppProjects are called {application.project}",
            )
    if application.project == DEFAULT_PROJECT:
        return None
    return Unjudged(
        reason=f"AppProject {application.project} is not in this repository, so what it allows is not known",
        remedy="commit the AppProject, or give the chart that renders it its inputs ([environments.NAME.inputs])",
        group=f"AppProject {application.project} is not in this repository",
    )


def project_place(project: Project) -> Place:
    """The file and line of an AppProject, or the template that renders it."""
    manifest = project.manifest
    if manifest.path is not None:
        return Place(path=manifest.path, line=manifest.line)
    return Place(path=manifest.template or "a render")


# --- Argo CD's globs ------------------------------------------------------------------------------------------------

MAX_BRACES = 16
MAX_PATTERNS = 256  # that the braces of one pattern may stand for


def matches(pattern: str, text: str, *, separator: str = "", negation: bool = False) -> bool:
    """Whether a glob covers the whole text, as Argo CD's globMatch says (util/glob, gobwas/glob).

    `*` is any run without the separator, `**` any run, `?` one character, `[ab]`, `[!ab]`, `{a,b}`; with `negation` a
    pattern that begins with `!` covers what the rest does not. A pattern that is none covers nothing.
    """
    if negation and pattern.startswith("!"):
        return not matches(pattern[1:], text, separator=separator)
    if pattern == "*":
        return True
    return any(_covers(tokens, text) for tokens in _compiled(pattern, separator))


@dataclass(frozen=True, slots=True)
class _Token:
    """One character of `chars`, or with `none_of` one that is not in it; `run`: any number of them."""

    chars: frozenset[str]
    none_of: bool = False
    run: bool = False

    def takes(self, char: str) -> bool:
        return (char in self.chars) is not self.none_of


def _covers(tokens: Sequence[_Token], text: str) -> bool:
    """All places a match may have come to, character by character: no pattern makes this slow."""
    places = _on({0}, tokens)
    for char in text:
        places = {at + (not tokens[at].run) for at in places if at < len(tokens) and tokens[at].takes(char)}
        places = _on(places, tokens)
        if not places:
            return False
    return len(tokens) in places


def _on(places: set[int], tokens: Sequence[_Token]) -> set[int]:
    """With the places behind runs, which may be empty."""
    for at in sorted(places):
        end = at
        while end < len(tokens) and tokens[end].run:
            end += 1
            places.add(end)
    return places


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str, separator: str) -> tuple[tuple[_Token, ...], ...]:
    """The patterns that one with braces stands for; none when it is no pattern."""
    if pattern.count("{") > MAX_BRACES:
        return ()
    try:
        return tuple(tuple(_tokens(one, separator)) for one in _without_braces(pattern))
    except ValueError:
        return ()


def _without_braces(pattern: str) -> list[str]:
    """`a{b,c}d` is `abd` and `acd`; braces may hold braces."""
    start = _unescaped(pattern, "{", 0)
    if start < 0:
        return [pattern]
    depth, begin, parts = 0, start + 1, []
    at = start
    while at < len(pattern):
        char = pattern[at]
        depth += (char == "{") - (char == "}")
        if (char == "," and depth == 1) or not depth:
            parts.append(pattern[begin:at])
            begin = at + 1
        if not depth:
            break
        at += 2 if char == "\\" else 1
    if depth:
        raise ValueError(pattern)
    made = [one for part in parts for one in _without_braces(pattern[:start] + part + pattern[at + 1 :])]
    if len(made) > MAX_PATTERNS:
        raise ValueError(pattern)
    return made


def _unescaped(pattern: str, wanted: str, at: int) -> int:
    while at < len(pattern):
        if pattern[at] == wanted:
            return at
        at += 2 if pattern[at] == "\\" else 1
    return -1


def _tokens(pattern: str, separator: str) -> Iterator[_Token]:
    at = 0
    while at < len(pattern):
        found = _PART.match(pattern, at)
        if found is None:
            raise ValueError(pattern)
        at = found.end()
        text = found[0]
        if text[0] == "*":
            yield _Token(frozenset(separator if len(text) == 1 else ""), none_of=True, run=True)
        elif text == "?":
            yield _Token(frozenset(separator), none_of=True)
        elif text[0] == "[":
            inside = text[2 if text[1] == "!" else 1 : -1]
            yield _Token(_class(inside), none_of=text[1] == "!")
        else:
            yield _Token(frozenset(text[-1]))


_PART = re.compile(r"\*+|\?|\[!?[^\]]+\]|\\.|[^\[\\]", re.DOTALL)


def _class(inside: str) -> frozenset[str]:
    """The characters of a class: a range where a dash stands between two, else each for itself."""
    if len(inside) == len("a-z") and inside[1] == "-":
        return frozenset(map(chr, range(ord(inside[0]), ord(inside[2]) + 1)))
    return frozenset(inside)
