"""Policies in Rego, judged by conftest: folders `policies/<category>/<name>/` become the same Rule values as Python rules.

A folder holds `<name>.rego` (package `policies.<category>.<name>`, whose METADATA declares title, why, fix, and what is
judged), `<name>_test.rego`, `good.yaml` and `bad.yaml`. Rego decides what is wrong; everything else is ours: which
objects a policy gets, that each of them was answered for, that each of its rules fires on `bad.yaml` in the same call.
What conftest would pass over in silence (a rule it does not know, an `exception`, another package) is not judged here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import textwrap
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from releasegate import git, k8s, process, yamlio
from releasegate.cache import key_of
from releasegate.config import ConfigError
from releasegate.discover.files import Files, Unreadable
from releasegate.manifests import manifests_of
from releasegate.model import Finding, Kind, Manifest, Place, Release, Rendered, Scope, Tree, Unjudged, Unrendered
from releasegate.render import seconds
from releasegate.rules import Evidence, Rule, Shared, catalogue
from releasegate.tools import conftest, store

FOLDER = "policies"
LIBRARY = "lib"
BATCH = 48  # releases per conftest: its start is spread over them, and a failure is narrowed down quickly
LONGEST_MESSAGE = 600
_FILE = re.compile(rf"{FOLDER}/(?P<category>[a-z0-9]+(?:-[a-z0-9]+)*)/(?P<name>[a-z0-9]+(?:-[a-z0-9]+)*)/[^/]+\.rego")
_LIBRARY_FILE = re.compile(rf"{FOLDER}/{LIBRARY}/[a-z0-9_-]+\.rego")
# conftest's own (policy/engine.go): any other name is passed over in silence.
_KNOWN = re.compile(r"(?:deny|violation|warn)(?:_[a-zA-Z0-9]+)*")
_MEANT = re.compile(r"deny|denied|violat|warn", re.IGNORECASE)
_SHAPE = f"{FOLDER}/<category>/<name>/<name>.rego, with bad.yaml and good.yaml beside it"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a policy cannot be believed, and what to write instead."""

    place: Place
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Policy:
    """One folder of policies/. `rules` are the names of its deny, violation and warn rules.

    `kinds` are "Deployment" or "apps/Deployment"; `podspecs`: every object with a pod spec. `bad` and `good` are the
    objects of bad.yaml and good.yaml as JSON. A policy with a `problem` is never run.
    """

    id: str
    namespace: str
    path: str
    text: str
    title: str = ""
    description: str = ""
    why: str = ""
    fix: str = ""
    kinds: tuple[str, ...] = ()
    podspecs: bool = False
    rules: tuple[str, ...] = ()
    bad: tuple[bytes, ...] = ()
    good: tuple[bytes, ...] = ()
    examples: Mapping[str, str] = field(default_factory=dict)
    problem: Problem | None = None

    def judges(self, body: Mapping[str, Any]) -> bool:
        """Whether an object is of a kind that the policy declares."""
        kind = body.get("kind")
        if kind in self.kinds or f"{k8s.group_of(body.get('apiVersion'))}/{kind}" in self.kinds:
            return True
        return self.podspecs and next(iter(k8s.pod_specs(body)), None) is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """All policies of one tree. `libraries` (path -> Rego) are loaded with each; bundles are never mixed in a call.

    `misplaced` are Rego files that belong to no policy.
    """

    policies: tuple[Policy, ...] = ()
    libraries: Mapping[str, str] = field(default_factory=dict)
    misplaced: tuple[Problem, ...] = ()


# --- reading ----------------------------------------------------------------------------------------------------------


def shipped_folder() -> Path:
    """Return the folder that holds `policies/`: the package as installed, else the top of this project's checkout."""
    package = Path(__file__).resolve().parents[1]
    return package if (package / FOLDER).is_dir() else package.parents[1]


@functools.cache
def shipped() -> Bundle:
    """Return the policies that ship with releasegate."""
    folder = shipped_folder()
    found = sorted(path.relative_to(folder).as_posix() for path in (folder / FOLDER).rglob("*") if path.is_file())
    return read(Files(Tree(root=str(folder), files=tuple(found))))


def of_repo(files: Files) -> Bundle:
    """Return the policies of a checked repo. Raises ConfigError when one has the id of a shipped one."""
    if os.path.realpath(files.tree.root) == os.path.realpath(shipped_folder()):
        return Bundle()  # this project's own checkout: what it ships, it ships once
    bundle = read(files)
    ours = {one.id: one.text for one in shipped().policies}
    clashes = [
        ConfigError(
            one.path,
            1,
            f"releasegate ships a policy {one.id}; rename the folder, or switch the shipped one off and take another id",
        )
        for one in bundle.policies
        if one.id in ours and one.text != ours[one.id]
    ]
    if clashes:
        first, *more = clashes
        raise ConfigError(first.path, first.line, first.message, tuple(more))
    own = tuple(one for one in bundle.policies if one.id not in ours)  # an equal copy is judged once
    return Bundle(
        policies=own,
        libraries={**shipped().libraries, **bundle.libraries},
        misplaced=bundle.misplaced,
    )


def rules_at(root: Path) -> list[Rule]:
    """Return every rule of a run at `root`, sorted by id: what ships, what is installed, and the repo's own policies.

    Raises ConfigError, UsageError. In the source of releasegate `policies/` is what ships.
    """
    root = root.resolve()
    own = of_repo(Files(git.work_tree(root))) if (root / FOLDER).is_dir() and root != shipped_folder() else Bundle()
    told = [replace(one, origin=f"{FOLDER}/ of this repo") for one in rules(own)]
    return sorted((*catalogue(), *told), key=lambda rule: rule.id)


def read(files: Files) -> Bundle:
    """Read every policy below `policies/`. Nothing is skipped: what cannot be read has its problem told."""
    policies: dict[str, Policy] = {}
    libraries: dict[str, str] = {}
    misplaced: list[Problem] = []
    for path in files.below(FOLDER):
        if not path.endswith(".rego"):
            continue
        if _LIBRARY_FILE.fullmatch(path):
            if not path.endswith("_test.rego"):
                _library(files, path, libraries, misplaced)
            continue
        found = _FILE.fullmatch(path)
        if found is None or found["category"] == LIBRARY:
            misplaced.append(
                Problem(
                    Place(path=path),
                    f"{path} is not where a policy is looked for, so nothing runs it",
                    f"move it to {_SHAPE}",
                )
            )
            continue
        key = f"{FOLDER}/{found['category']}/{found['name']}"
        if key not in policies:
            policies[key] = _policy(files, found["category"], found["name"])
        if path not in {f"{key}/{found['name']}.rego", f"{key}/{found['name']}_test.rego"}:
            misplaced.append(
                Problem(
                    Place(path=path),
                    f"{path} is neither the policy nor its test, so nothing runs it",
                    f"move its rules to {key}/{found['name']}.rego, or to {FOLDER}/{LIBRARY}/ when several policies use it",
                )
            )
    return Bundle(
        policies=tuple(policies[key] for key in sorted(policies)), libraries=libraries, misplaced=tuple(misplaced)
    )


def _library(files: Files, path: str, libraries: dict[str, str], misplaced: list[Problem]) -> None:
    try:
        text = files.text(path)
    except Unreadable as error:
        misplaced.append(Problem(Place(path=path), f"{path} {error}", "commit a plain text file"))
        return
    package, line = scan(text).package
    ours = files.tree.root == str(shipped_folder()) or text == shipped().libraries.get(path)
    if not package.startswith("releasegate." if ours else "lib."):
        misplaced.append(
            Problem(
                Place(path=path, line=line),
                f"{path} has the package {package or '(none)'}, which policies of this folder do not load",
                f"write `package lib.{Path(path).stem.replace('-', '_')}`",
            )
        )
        return
    libraries[path] = text


def _policy(files: Files, category: str, name: str) -> Policy:
    """Read one folder; the first thing that is wrong with it is its problem."""
    key = f"{FOLDER}/{category}/{name}"
    path = f"{key}/{name}.rego"
    namespace = f"{FOLDER}.{category}.{name}".replace("-", "_")
    text = ""
    try:
        text = _text(files, path, key)
        made = _from_text(key, namespace, path, text)
        examples = {example: _text(files, f"{key}/{example}.yaml", path) for example in ("bad", "good")}
        bad, good = (tuple(_canary(made, f"{key}/{name}.yaml", examples[name])) for name in ("bad", "good"))
        return replace(made, bad=bad, good=good, examples=examples)
    except _Wrong as error:
        return Policy(id=key, namespace=namespace, path=path, text=text, problem=error.problem)


def _text(files: Files, path: str, otherwise: str) -> str:
    """The text of a file of a policy; where it is missing the problem is told at `otherwise`."""
    if path not in files:
        raise _Wrong(otherwise, None, f"{path} is missing", f"a policy is {_SHAPE}")
    try:
        return files.text(path)
    except Unreadable as error:
        raise _Wrong(path, None, str(error), "commit a plain text file") from None


class _Wrong(Exception):
    """Carries the problem of a policy to where it is kept."""

    def __init__(self, path: str, line: int | None, reason: str, remedy: str) -> None:
        self.problem = Problem(Place(path=path, line=line), reason, remedy)
        super().__init__(reason)


def _from_text(key: str, namespace: str, path: str, text: str) -> Policy:
    scanned = scan(text)
    package, line = scanned.package
    if package != namespace:
        raise _Wrong(
            path, line, f"its package is {package or '(none)'}, so nothing asks it", f"write `package {namespace}`"
        )
    for head in scanned.heads:
        if head.name == "exception":
            raise _Wrong(
                path,
                head.line,
                "an `exception` would take all findings of an object away, of every container in it",
                "take it out; accept single findings with [[waivers]] in releasegate.toml",
            )
        if _passed_over(scanned, head):
            raise _Wrong(
                path,
                head.line,
                f"conftest passes over the rule `{head.whole}`",
                "write `deny_<word> contains msg if { … }`: deny, violation or warn, then words joined by _",
            )
    rules = tuple(dict.fromkeys(head.name for head in scanned.heads if _KNOWN.fullmatch(head.whole)))
    if not rules:
        raise _Wrong(
            path, line, "it has no deny rule, so it can find nothing", "write `deny_<word> contains msg if { … }`"
        )
    return _annotated(Policy(id=key, namespace=namespace, path=path, text=text, rules=rules), scanned)


def _passed_over(scanned: Scanned, head: Head) -> bool:
    """Whether a rule looks like one that finds something, and conftest does not ask it."""
    if _KNOWN.fullmatch(head.whole) and head.contains:
        return False
    if _KNOWN.fullmatch(head.name):
        return True
    used = scanned.words.get(head.name, 0) > sum(one.name == head.name for one in scanned.heads)
    return not used and (head.contains or _MEANT.match(head.name) is not None)


def _annotated(policy: Policy, scanned: Scanned) -> Policy:
    """The policy with what its METADATA says (OPA's annotations: title, description, and our keys under `custom`)."""
    text, line = scanned.metadata
    path = policy.path
    remedy = (
        "write a `# METADATA` comment above `package` with title, and under custom: why, fix, and kinds or podspecs"
    )
    if line is None:
        raise _Wrong(path, 1, "it has no METADATA above `package`", remedy)
    try:
        said = yamlio.load(text)
    except yamlio.YamlError as error:
        raise _Wrong(path, line + (error.line or 0), f"its METADATA is not YAML: {error.message}", remedy) from None
    said = said if isinstance(said, Mapping) else {}
    custom = said.get("custom")
    custom = custom if isinstance(custom, Mapping) else {}
    words = {"title": said.get("title"), "custom.why": custom.get("why"), "custom.fix": custom.get("fix")}
    for name, value in words.items():
        if not isinstance(value, str) or not value.strip():
            raise _Wrong(path, line, f"its METADATA has no {name}", remedy)
    kinds, podspecs = custom.get("kinds", []), custom.get("podspecs", False)
    if (
        not isinstance(kinds, list)
        or not all(isinstance(one, str) and one for one in kinds)
        or not isinstance(podspecs, bool)
    ):
        raise _Wrong(path, line, "its METADATA: kinds is a list of kinds, podspecs is true or false", remedy)
    if not kinds and not podspecs:
        raise _Wrong(path, line, "its METADATA names no kinds, so it would judge nothing", remedy)
    title = " ".join(str(words["title"]).split())
    return replace(
        policy,
        title=title if title.endswith(".") else f"{title}.",
        description=str(said.get("description") or "").strip(),
        why=" ".join(str(words["custom.why"]).split()),
        fix=" ".join(str(words["custom.fix"]).split()),
        kinds=tuple(kinds),
        podspecs=podspecs,
    )


def _canary(policy: Policy, path: str, text: str) -> Iterator[bytes]:
    """The objects of bad.yaml or good.yaml, each of a kind the policy judges."""
    what = "each rule of" if path.endswith("/bad.yaml") else "no rule of"
    remedy = f"write an object into {path} on which {what} {policy.path} fires"
    try:
        documents = yamlio.documents(text)
    except yamlio.YamlError as error:
        raise _Wrong(path, error.line, f"is not YAML: {error.message}", remedy) from None
    if not documents:
        raise _Wrong(
            path,
            None,
            f"holds no object, so nothing shows that the policy can {'fail' if path.endswith('/bad.yaml') else 'pass'}",
            remedy,
        )
    for document in documents:
        made = manifests_of(document, path=path)
        if isinstance(made, str) or len(made) != 1:
            raise _Wrong(path, None, "holds a document that is no single Kubernetes object", remedy)
        manifest = made[0]
        if not policy.judges(manifest.body):
            kind = f"a {manifest.kind}" if manifest.kind else "a document without kind"
            raise _Wrong(path, manifest.line, f"{kind} is not among the kinds the policy judges", remedy)
        yield json.dumps(manifest.body, separators=(",", ":")).encode()


def _json(body: Mapping[str, Any]) -> bytes | None:
    try:
        return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return None


# --- what a Rego file holds -------------------------------------------------------------------------------------------

_TOKENS = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)|(?P<line>\n)|(?P<word>[A-Za-z_]\w*)|(?P<space>[^\S\n]+)|(?P<sign>.)""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of one rule: `whole` is all of its reference (`deny-x`, `deny.foo`), `name` its first word."""

    name: str
    whole: str
    line: int
    contains: bool


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the text of a Rego file says before anybody runs it. Lines count from 1; `words` counts every name."""

    package: tuple[str, int | None]
    metadata: tuple[str, int | None]
    heads: tuple[Head, ...]
    words: Mapping[str, int]


def scan(text: str) -> Scanned:
    """Read package, METADATA and rule heads. conftest itself parses the file later; here it is about what it ignores."""
    heads: list[Head] = []
    words: dict[str, int] = {}
    package: tuple[str, int | None] = ("", None)
    line, depth, fresh = 1, 0, True
    tokens = list(_TOKENS.finditer(text))
    for at, token in enumerate(tokens):
        kind, said = token.lastgroup, token[0]
        if kind == "word":
            words[said] = words.get(said, 0) + 1
            if fresh and depth == 0:
                start, default = (at, False) if said != "default" else (_next_word(tokens, at), True)
                if said == "package":
                    package = package if package[0] else (_statement(tokens, at).partition("package")[2].strip(), line)
                elif said not in {"import", "else", "if", "contains"}:
                    heads.append(_head(tokens, start, line, default=default))
        elif kind == "sign":
            depth += (said in "([{") - (said in ")]}")
        if kind == "line":
            fresh = True
        elif kind not in {"space", "comment"}:
            fresh = False
        line += said.count("\n")
    return Scanned(package=package, metadata=_metadata(text), heads=tuple(heads), words=words)


def _next_word(tokens: Sequence[re.Match[str]], at: int) -> int:
    return next((index for index in range(at + 1, len(tokens)) if tokens[index].lastgroup == "word"), at)


def _statement(tokens: Sequence[re.Match[str]], at: int) -> str:
    """The rest of the line from a token on, without comments."""
    parts = []
    for token in tokens[at:]:
        if token.lastgroup in {"line", "comment"}:
            break
        parts.append(token[0])
    return "".join(parts)


def _head(tokens: Sequence[re.Match[str]], at: int, line: int, *, default: bool) -> Head:
    whole = ""
    rest = at
    for rest in range(at, len(tokens)):
        if tokens[rest].lastgroup in {"space", "line", "comment"} or tokens[rest][0] in {"{", "(", ":", "="}:
            break
        whole += tokens[rest][0]
    following = next((token[0] for token in tokens[rest:] if token.lastgroup not in {"space", "line", "comment"}), "")
    return Head(tokens[at][0], whole, line, following == "contains" and not default)


def _metadata(text: str) -> tuple[str, int | None]:
    """The first METADATA comment, without its signs, and the line of its first word; OPA: up to the first other line."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if re.fullmatch(r"\s*#\s*METADATA\s*", line):
            body = []
            for following in lines[number + 1 :]:
                if not following.strip().startswith("#"):
                    break
                body.append(following.strip()[1:])
            return "\n".join(body), number + 1
        if line.strip().startswith("package "):
            break
    return "", None


# --- rules ------------------------------------------------------------------------------------------------------------


def rules(bundle: Bundle) -> list[Rule]:
    """Return a rule per policy, sorted by id; and one that tells of the Rego files nothing runs."""
    made = [_rule(one, bundle) for one in bundle.policies]
    if bundle.misplaced:
        made.append(
            Rule(
                id=f"{FOLDER}/misplaced",
                scope=Scope.REPO,
                kind=Kind.POLICY,
                subjects=lambda _evidence: bundle.misplaced,
                check=lambda problem, _evidence: [_unjudged(problem)],
                needs_render=False,
                doc=f"Every Rego file below {FOLDER}/ belongs to a policy.\n\nWhy: nothing runs it otherwise.\n\nFix: {_SHAPE}.",
            )
        )
    return made


def _rule(policy: Policy, bundle: Bundle) -> Rule:
    def subjects(evidence: Evidence) -> Sequence[Manifest]:
        # Of what cannot be run nobody knows which objects it is about.
        return [
            manifest
            for rendered in evidence.rendered
            for manifest in rendered.manifests
            if policy.problem is not None or policy.judges(manifest.body)
        ]

    def check(_subjects: Any, evidence: Evidence) -> Iterator[Finding | Unjudged]:
        if policy.problem is not None:
            yield _unjudged(policy.problem)
            return
        for rendered in evidence.rendered:
            answer = judge_of(evidence.shared).answer(policy, bundle, rendered)
            if isinstance(answer, Unjudged):
                yield answer
                continue
            for index, said in answer:
                yield _finding(policy, rendered, rendered.manifests[index], said)

    return Rule(
        id=policy.id,
        scope=Scope.RELEASE,
        kind=Kind.POLICY,
        subjects=subjects,
        check=check,
        together=True,
        doc=_page(policy),
    )


def _unjudged(problem: Problem) -> Unjudged:
    group = f"{problem.place.path}: {problem.reason}"
    return Unjudged(reason=problem.reason, remedy=problem.remedy, group=group, place=problem.place)


def _page(policy: Policy) -> str:
    """The page in the form of a Python rule's docstring."""
    if policy.problem is not None:
        return f"This policy cannot be run.\n\nWhy: {policy.problem.reason}\n\nFix: {policy.problem.remedy}"
    texts = [policy.title, " ".join(policy.description.split()), f"Why: {policy.why}", f"Fix: {policy.fix}"]
    parts = [textwrap.fill(text, 116, break_long_words=False, break_on_hyphens=False) for text in texts if text]
    for word in ("Bad", "Good"):
        example = policy.examples[word.lower()].strip("\n")
        parts.append(f"{word}:\n" + "\n".join(f"    {line}".rstrip() for line in example.splitlines()))
    return "\n\n".join(parts) + "\n"


def _finding(policy: Policy, rendered: Rendered, manifest: Manifest, said: conftest.Said) -> Finding:
    message = said.message if len(said.message) <= LONGEST_MESSAGE else f"{said.message[:LONGEST_MESSAGE]}…"
    pointer, value = _pointed(manifest, said.fields.get("pointer"))
    fix, change = said.fields.get("fix"), said.fields.get("change")
    if manifest.kind == "Secret" and policy.id not in {one.id for one in shipped().policies}:
        # What Rego makes of a value cannot be recognised: of a Secret a policy of the checked repo only says that it found.
        message, fix, change, pointer, value = policy.title, None, None, None, None
    return Finding(
        message=message
        if manifest.name and manifest.name in message
        else f"{manifest.kind} {manifest.name}: {message}",
        help=fix if isinstance(fix, str) and fix else policy.fix,
        change=change if isinstance(change, str) and change else f"{said.rule} {_spot(rendered, manifest, said)}",
        manifest=manifest,
        pointer=pointer,
        value=value,
        advice=said.warning,
    )


def _spot(rendered: Rendered, manifest: Manifest, said: conftest.Said) -> str:
    """Names a spot alike in all objects of one template: items of a list by their name, nothing by the release's name."""
    pointer = said.fields.get("pointer")
    spot = said.message
    if isinstance(pointer, str) and pointer.startswith("/"):
        value: Any = manifest.body
        tokens = []
        for token in k8s.split(pointer):
            value = value.get(token) if isinstance(value, Mapping) else _item(value, token)
            named = value.get("name") if isinstance(value, Mapping) and token.isdigit() else None
            tokens.append(named if isinstance(named, str) else token)
        spot = k8s.join("", *tokens)
    names = {manifest.name, rendered.release.name, rendered.release.helm_release} - {""}
    for name in sorted(names, key=len, reverse=True):
        spot = spot.replace(name, "*")
    return spot


def _item(value: Any, token: str) -> Any:
    return (
        value[int(token)] if isinstance(value, list | tuple) and token.isdigit() and int(token) < len(value) else None
    )


def _pointed(manifest: Manifest, pointer: Any) -> tuple[str | None, Any]:
    """What the policy points at; where nothing is there (a field that is missing), the nearest thing around it."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        return None, None
    while pointer:
        try:
            return pointer, k8s.resolve(manifest.body, pointer)
        except KeyError:
            pointer = pointer.rpartition("/")[0]
    return None, None


# --- judging ----------------------------------------------------------------------------------------------------------

Found = tuple[tuple[int, conftest.Said], ...]  # (index of the manifest in its render, what is said about it)
_ANSWERS = 1  # the form of what is kept


@dataclass(eq=False, slots=True)
class _Work:
    """What one release asks of the policies of one bundle: `objects` are (index of the manifest, its JSON) by policy.

    `key` names the question in the cache, "" where the answer is not kept. `answers` is what came of it.
    """

    policies: tuple[Policy, ...]
    objects: Mapping[str, Sequence[tuple[int, bytes]]]
    key: str
    secrets: frozenset[int]
    answers: dict[str, Found | Unjudged] = field(default_factory=dict)


def judge_of(shared: Shared) -> Judge:
    """Return the judge of a run."""
    return shared.once(FOLDER, lambda: Judge(shared))


class Judge:
    """Asks conftest about releases, in the background once started, many in one call.

    Each call carries the bad.yaml of its policies, and every rule of a policy has to fire there. A call that fails is
    asked again per policy, and then per half of the releases, so that what broke takes no other answer with it.
    """

    def __init__(self, shared: Shared) -> None:
        """Nothing is started yet."""
        self._shared = shared
        self._cancel = process.Cancel()
        self._futures: dict[tuple[str, int], Future[_Work]] = {}
        self._broken: dict[tuple[int, str], Unjudged] = {}
        self._feeder: threading.Thread | None = None
        self._calls: ThreadPoolExecutor | None = None
        self.calls = 0
        shared.on_close(self.close)

    def close(self) -> None:
        """Kill what runs; what waits is never asked."""
        self._cancel.cancel()
        if self._calls is not None:
            self._calls.shutdown(wait=True, cancel_futures=True)
        if self._feeder is not None:
            # It is done, or waits for a render that ends with the renderer and is the last it asks for.
            self._feeder.join(timeout=1)

    def start(
        self,
        asked: Mapping[str, Collection[str]],
        releases: Sequence[Release],
        bundles: Sequence[Bundle],
        rendered: Callable[[Release], Rendered | Unrendered],
    ) -> None:
        """Begin with the policies `asked` (release id -> policy ids), batch by batch as the renders end."""
        releases = [release for release in releases if asked.get(release.id)]
        if self._feeder is not None or not releases or isinstance(self._shared.tool("conftest"), store.ToolMissing):
            return  # without conftest each case says so
        self._calls = ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="conftest")
        self._futures = {(release.id, id(bundle)): Future() for release in releases for bundle in bundles}
        self._feeder = threading.Thread(
            target=self._feed, args=(asked, releases, bundles, rendered), name="policies", daemon=True
        )
        self._feeder.start()

    def answer(self, policy: Policy, bundle: Bundle, rendered: Rendered) -> Found | Unjudged:
        """Return what a policy says about a release, waiting for it; asks when nobody did."""
        future = self._futures.get((rendered.release.id, id(bundle)))
        if future is not None:
            with contextlib.suppress(CancelledError):
                work = future.result()
                if policy.id in work.answers:
                    return work.answers[policy.id]
        work = self._work(bundle, (policy,), rendered)
        if policy.id not in work.answers:
            self._resolve(bundle, [policy], [work])
            self._keep(work)
        return work.answers[policy.id]

    # --- many releases ------------------------------------------------------------------------------------------------

    def _feed(
        self,
        asked: Mapping[str, Collection[str]],
        releases: Sequence[Release],
        bundles: Sequence[Bundle],
        rendered: Callable[[Release], Rendered | Unrendered],
    ) -> None:
        waiting: dict[int, list[tuple[_Work, Future[_Work]]]] = {id(bundle): [] for bundle in bundles}
        try:
            for release in releases:
                self._end_when_cancelled()
                made = rendered(release)
                for bundle in bundles:
                    future = self._futures[release.id, id(bundle)]
                    if isinstance(made, Unrendered):
                        future.cancel()  # told by the render; nobody asks
                        continue
                    chosen = tuple(
                        one for one in bundle.policies if one.problem is None and one.id in asked[release.id]
                    )
                    work = self._work(bundle, chosen, made)
                    if len(work.answers) == len(chosen):
                        future.set_result(work)
                    else:
                        waiting[id(bundle)].append((work, future))
                    if len(waiting[id(bundle)]) == BATCH:
                        self._submit(bundle, waiting.pop(id(bundle)))
                        waiting[id(bundle)] = []
            for bundle in bundles:
                self._submit(bundle, waiting[id(bundle)])
        except BaseException as error:  # noqa: BLE001 - of a thread: whoever waits must hear of it
            _tell(self._futures.values(), error)

    def _end_when_cancelled(self) -> None:
        if self._cancel.cancelled:
            raise CancelledError

    def _submit(self, bundle: Bundle, batch: Sequence[tuple[_Work, Future[_Work]]]) -> None:
        self._end_when_cancelled()
        if batch and self._calls is not None:
            self._calls.submit(self._batch, bundle, batch)

    def _batch(self, bundle: Bundle, batch: Sequence[tuple[_Work, Future[_Work]]]) -> None:
        try:
            works = [work for work, _ in batch]
            self._resolve(bundle, list(dict.fromkeys(one for work in works for one in work.policies)), works)
            for work, future in batch:
                self._keep(work)
                future.set_result(work)
        except BaseException as error:  # noqa: BLE001 - as above
            _tell((future for _, future in batch), error)

    # --- one question -------------------------------------------------------------------------------------------------

    def _work(self, bundle: Bundle, policies: tuple[Policy, ...], rendered: Rendered) -> _Work:
        """What is to be asked; with its answers where nothing is, or where they were kept."""
        chosen: dict[str, list[tuple[int, bytes]]] = {one.id: [] for one in policies}
        answers: dict[str, Found | Unjudged] = {}
        for index, manifest in enumerate(rendered.manifests):
            wanted = [one for one in policies if one.judges(manifest.body)]
            content = _json(manifest.body) if wanted else None
            for one in wanted:
                if content is not None:
                    chosen[one.id].append((index, content))
                    continue
                reason = f"{manifest.kind} {manifest.name} holds a number that JSON does not know (.inf or .nan)"
                answers[one.id] = Unjudged(
                    reason=reason, remedy="write a number, or quote it", group=reason, manifest=manifest
                )
        answers |= {one.id: () for one in policies if not chosen[one.id] and one.id not in answers}
        secrets = frozenset(index for index, one in enumerate(rendered.manifests) if one.kind == "Secret")
        tool = self._shared.tool("conftest")
        key = ""
        if self._shared.cache.folder is not None and isinstance(tool, store.Tool):
            parts: list[str | bytes] = [f"policies {_ANSWERS}", tool.identity.sha256, conftest.capabilities()]
            parts += [text for path in sorted(bundle.libraries) for text in (path, bundle.libraries[path])]
            for one in policies:
                parts += [one.path, one.text, *one.bad, "good", *one.good, "objects"]
                parts += [part for index, content in chosen[one.id] for part in (str(index), content)]
            key = key_of(*parts)
            answers |= _read(self._shared.cache.get(key), policies)
        return _Work(policies, chosen, key, secrets, answers)

    def _keep(self, work: _Work) -> None:
        """Keep the answers for the next run at this desk; nothing that may quote a Secret, nothing that went wrong."""
        found = {key: one for key, one in work.answers.items() if not isinstance(one, Unjudged)}
        quoted = any(index in work.secrets for one in found.values() for index, _ in one)
        if work.key and len(found) == len(work.policies) and not quoted:
            rows = {
                key: [(index, said.message, said.rule, said.warning, dict(said.fields)) for index, said in one]
                for key, one in found.items()
            }
            self._shared.cache.put(work.key, json.dumps(rows).encode())

    def _resolve(self, bundle: Bundle, policies: Sequence[Policy], works: Sequence[_Work]) -> None:
        """Answer every (policy, release) pair, one way or the other."""
        for work in works:
            for one in policies:
                gap = self._broken.get((id(bundle), one.id))
                if gap is not None:
                    work.answers.setdefault(one.id, gap)
        policies = [
            one for one in policies if any(one.id not in work.answers for work in works if one in work.policies)
        ]
        if not policies:
            return
        outcome = self._ask(bundle, policies, works)
        if isinstance(outcome, _Asked):
            for one in policies:
                self._take(one, outcome, works)
        elif len(policies) > 1:
            for one in policies:
                self._resolve(bundle, [one], works)
        else:
            self._narrow(bundle, policies[0], works, outcome)

    def _narrow(
        self,
        bundle: Bundle,
        policy: Policy,
        works: Sequence[_Work],
        outcome: conftest.Refused | conftest.Unavailable,
    ) -> None:
        """One policy failed: by itself, or on the objects of which releases?"""
        by_itself = isinstance(outcome, conftest.Unavailable) or outcome.loading
        if not by_itself:
            alone = self._ask(bundle, [policy], [])
            by_itself = not isinstance(alone, _Asked)
        if not by_itself and len(works) > 1:
            half = len(works) // 2
            self._resolve(bundle, [policy], works[:half])
            self._resolve(bundle, [policy], works[half:])
            return
        gap = _gap(policy, outcome)
        if by_itself:
            self._broken[id(bundle), policy.id] = gap
        for work in works:
            work.answers.setdefault(policy.id, gap)

    def _ask(
        self, bundle: Bundle, policies: Sequence[Policy], works: Sequence[_Work]
    ) -> _Asked | conftest.Refused | conftest.Unavailable:
        """One conftest: each object once, however many policies and releases hold it, and every bad.yaml."""
        tool = self._shared.tool("conftest")
        if isinstance(tool, store.ToolMissing):
            return conftest.Unavailable(f"conftest is missing: {tool.reason}", tool.remedy)
        names: dict[bytes, str] = {}
        for work in works:
            for one in policies:
                for _, content in work.objects.get(one.id, ()):
                    names.setdefault(content, str(len(names)))
        objects = {name: content for content, name in names.items()}
        for number, one in enumerate(policies):
            objects |= {f"bad/{number}-{index}": content for index, content in enumerate(one.bad)}
            objects |= {f"good/{number}-{index}": content for index, content in enumerate(one.good)}
        self.calls += 1
        said = conftest.judge(
            tool,
            {**bundle.libraries, **{one.path: one.text for one in policies}},
            [one.namespace for one in policies],
            objects,
            limits=replace(conftest.LIMITS, seconds=seconds()),
            cancel=self._cancel,
        )
        if isinstance(said, conftest.Refused | conftest.Unavailable):
            return said
        return _Asked(policies, names, said)

    def _take(self, policy: Policy, asked: _Asked, works: Sequence[_Work]) -> None:
        """The answers of one policy, believed when its canary died and all its rules were counted on each object."""
        void = asked.void(policy)
        for work in works:
            if policy.id in work.answers or policy not in work.policies:
                continue
            if void is not None:
                work.answers[policy.id] = void
                continue
            pairs = [(index, asked.answer(policy, content)) for index, content in work.objects[policy.id]]
            bad = next((_distrusted(policy, answer) for _, answer in pairs if _distrusted(policy, answer)), None)
            work.answers[policy.id] = bad or tuple((index, said) for index, answer in pairs for said in answer.said)


def _tell(futures: Iterable[Future[_Work]], error: BaseException) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One call: the name each object had in it, and what came back."""

    policies: Sequence[Policy]
    names: Mapping[bytes, str]
    answers: conftest.Answers

    def answer(self, policy: Policy, content: bytes) -> conftest.Answer:
        """What a policy says about an object of the call."""
        return self.answers[policy.namespace, self.names[content]]

    def void(self, policy: Policy) -> Unjudged | None:
        """Why nothing the policy said counts: its canary survived, or its good example did not. None where neither."""
        number = self.policies.index(policy)
        fired: set[str] = set()
        for index in range(len(policy.bad)):
            answer = self.answers[policy.namespace, f"bad/{number}-{index}"]
            fired |= {said.rule for said in answer.said}
            if not answer.said:
                return _void(policy, f"document {index + 1} of its bad.yaml passes")
        for index in range(len(policy.good)):
            said = self.answers[policy.namespace, f"good/{number}-{index}"].said
            if said:
                return _refuses_good(policy, said[0].message)
        silent = [name for name in policy.rules if name not in fired]
        return _void(policy, f"{', '.join(silent)} does not fire on its bad.yaml") if silent else None


def _void(policy: Policy, why: str) -> Unjudged:
    reason = f"{policy.id} is not known to find anything: {why}"
    return Unjudged(
        reason=reason,
        remedy=f"make {Path(policy.path).parent}/bad.yaml break each rule of the policy, or mend the rule",
        group=reason,
        place=Place(path=policy.path),
    )


def _refuses_good(policy: Policy, message: str) -> Unjudged:
    reason = f"{policy.id} finds something in its own good.yaml: {message}"
    return Unjudged(
        reason=reason,
        remedy=f"mend {Path(policy.path).parent}/good.yaml, or the rule",
        group=f"{policy.id} finds something in its own good.yaml",
        place=Place(path=policy.path),
    )


def _distrusted(policy: Policy, answer: conftest.Answer) -> Unjudged | None:
    if answer.exceptions:
        reason = f"{policy.id}: an `exception` took findings away"
        remedy = "take it out; accept single findings with [[waivers]] in releasegate.toml"
    elif answer.counted < len(policy.rules):
        reason = f"{policy.id}: conftest counted {answer.counted} of {len(policy.rules)} rules"
        remedy = conftest.REMEDY
    else:
        return None
    return Unjudged(reason=reason, remedy=remedy, group=reason, place=Place(path=policy.path))


def _gap(policy: Policy, outcome: conftest.Refused | conftest.Unavailable) -> Unjudged:
    if isinstance(outcome, conftest.Unavailable):
        return Unjudged(
            reason=f"{policy.id}: {outcome.reason}", remedy=outcome.remedy, group=outcome.reason, place=None
        )
    message = outcome.message if len(outcome.message) <= LONGEST_MESSAGE else f"{outcome.message[:LONGEST_MESSAGE]}…"
    function = re.search(r"undefined function ([\w.]+)", message)
    if function is not None:
        remedy = f"do without {function[1]}: a policy gets one object, and no network, environment, file or clock"
    else:
        remedy = f"mend {outcome.path or policy.path}; `conftest test --show-builtin-errors` shows the same error"
    return Unjudged(
        reason=f"{policy.id} cannot be run: {message}",
        remedy=remedy,
        group=f"{policy.id} cannot be run",
        place=Place(path=outcome.path, line=outcome.line) if outcome.path else Place(path=policy.path),
    )


def _read(payload: bytes | None, policies: Sequence[Policy]) -> dict[str, Found]:
    if payload is None:
        return {}
    kept = json.loads(payload)
    return {
        one.id: tuple(
            (index, conftest.Said(message, rule, warning, fields))
            for index, message, rule, warning, fields in kept[one.id]
        )
        for one in policies
    }
