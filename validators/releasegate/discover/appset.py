"""ApplicationSets: list and git generators, both template dialects, as the ApplicationSet controller reads them.

Sources of the facts: argo-cd docs/operator-manual/applicationset/{Generators-List,Generators-Git,GoTemplate,
Generators-Git-File-Globbing,Template}.md; applicationset/generators/{list,git}.go; applicationset/utils/utils.go.
Whatever is not evaluated is a row with its reason, never an Application that is a guess.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from releasegate import yamlio
from releasegate.discover.argo import Found, Repository, listed, mapping, string
from releasegate.discover.files import Files, Unreadable, doublestar, greedy
from releasegate.model import ENVIRONMENT_NAME, REPO_NODE, NotUnderstood, Tree

Parameters = Mapping[str, Any]
_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_ENVIRONMENT_KEYS = ("environment", "env")
MAX_APPLICATIONS = 5000  # of one generator


class NotEvaluated(Exception):
    """What of the ApplicationSet cannot be evaluated; `remedy` says what to do about it."""

    def __init__(self, reason: str, remedy: str = "write the Applications out, or use a list or git generator") -> None:
        """Keep reason and remedy."""
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """The Applications of a set, the rows for what was not evaluated, and the files its generators read."""

    applications: tuple[Found, ...]
    rows: tuple[NotUnderstood, ...] = ()
    read: tuple[str, ...] = ()


def applications(found: Found, repository: Repository) -> Generated:
    """Generate the Applications of an ApplicationSet. Each generator is taken by itself: one row does not hide others."""
    spec = mapping(found.body.get("spec"))
    made: list[Found] = []
    rows: list[NotUnderstood] = []
    read: list[str] = []
    generators = spec.get("generators")

    def row(reason: str, remedy: str, at: str) -> None:
        rows.append(
            NotUnderstood(
                what=f"ApplicationSet {found.name or 'without a name'}",
                reason=reason,
                remedy=remedy,
                place=found.at(at) or found.place,
                name=found.name or None,
            )
        )

    if not isinstance(generators, list) or not generators:
        row("it has no generators", "write spec.generators", "/spec")
        return Generated(applications=(), rows=tuple(rows))
    if spec.get("templatePatch"):
        row(
            "templatePatch is not supported by this version",
            "write the fields into the template",
            "/spec/templatePatch",
        )
        return Generated(applications=(), rows=tuple(rows))
    empty: list[int] = []
    for index, generator in enumerate(generators):
        pointer = f"/spec/generators/{index}"
        try:
            parameters, files = _generate(mapping(generator), repository, go_template=spec.get("goTemplate") is True)
            read += files
            made += [_application(found, spec, mapping(generator), one) for one in parameters]
            if not parameters:
                row("this generator makes no Application here", "check its paths", pointer)
                empty.append(len(rows) - 1)
        except NotEvaluated as error:
            row(error.reason, error.remedy, pointer)
    for index in empty if made else ():  # another generator makes some: it may be meant
        rows[index] = replace(rows[index], blocking=False)
    names = [one.name for one in made]
    for name in sorted({name for name in names if names.count(name) > 1}):
        row(
            f"it makes two Applications named {name}: Argo CD refuses the whole set",
            "make the names of its template differ",
            "/spec/template/metadata/name",
        )
    return Generated(applications=tuple(made), rows=tuple(rows), read=tuple(read))


def _application(found: Found, spec: Mapping[str, Any], generator: Mapping[str, Any], parameters: Parameters) -> Found:
    kind = next((name for name in ("list", "git") if name in generator), "")
    template = mapping(spec.get("template"))
    own = mapping(mapping(generator.get(kind)).get("template"))
    rendered = _render(
        _overlay(template, own) if own else template,
        parameters,
        go_template=spec.get("goTemplate") is True,
        strict=any(string(one).strip() == "missingkey=error" for one in listed(spec.get("goTemplateOptions"))),
    )
    metadata = mapping(found.body.get("metadata"))
    body = {
        "apiVersion": found.body.get("apiVersion"),
        "kind": "Application",
        **rendered,
        "metadata": {"namespace": metadata.get("namespace"), **mapping(rendered.get("metadata"))},
    }
    hint = next(
        (
            (value.lower(), f"{key} of its {kind} generator")
            for key in _ENVIRONMENT_KEYS
            if isinstance(value := parameters.get(key), str) and _is_name(value.lower())
        ),
        None,
    )
    return replace(
        found,
        body=body,
        why=f"{kind} generator of ApplicationSet {found.name}" + (f" in {found.place.path}" if found.place else ""),
        base=f"{found.base}/spec/template" if not own else f"{found.base}/none",
        hint=hint,
    )


def _is_name(text: str) -> bool:
    return ENVIRONMENT_NAME.fullmatch(text) is not None and text != REPO_NODE


def _overlay(template: Any, own: Any) -> Any:
    """A generator's own template overrides the set's, field by field where it says something."""
    if isinstance(template, Mapping) and isinstance(own, Mapping):
        merged = dict(template)
        for key, value in own.items():
            merged[key] = _overlay(template.get(key), value)
        return merged
    return template if own in ("", None) or own == [] else own


# --- generators ---------------------------------------------------------------------------------------------------


def _generate(
    generator: Mapping[str, Any], repository: Repository, *, go_template: bool
) -> tuple[list[Parameters], list[str]]:
    kinds = [key for key in generator if key != "selector"]
    if kinds == ["list"]:
        parameters = _list(mapping(generator["list"]), go_template=go_template)
        read: list[str] = []
    elif kinds == ["git"]:
        parameters, read = _git(mapping(generator["git"]), repository, go_template=go_template)
    else:
        raise NotEvaluated(f"the {' + '.join(kinds) or 'empty'} generator is not supported by this version")
    chosen = [one for one in parameters if _selected(mapping(generator.get("selector")), one)]
    if len(chosen) > MAX_APPLICATIONS:
        raise NotEvaluated(f"its {kinds[0]} generator makes more than {MAX_APPLICATIONS} Applications")
    return chosen, read


def _selected(selector: Mapping[str, Any], parameters: Parameters) -> bool:
    """A label selector over the parameters, nested ones by their dotted name."""
    flat = _flatten(parameters)
    for key, value in mapping(selector.get("matchLabels")).items():
        if flat.get(key) != value:
            return False
    for one in map(mapping, listed(selector.get("matchExpressions"))):
        key, operator, values = string(one.get("key")), one.get("operator"), listed(one.get("values"))
        held = flat.get(key)
        answers = {
            "In": held in values,
            "NotIn": held not in values,
            "Exists": key in flat,
            "DoesNotExist": key not in flat,
        }
        if not isinstance(operator, str) or operator not in answers:
            raise NotEvaluated(f"selector operator {operator!r} is unknown")
        if not answers[operator]:
            return False
    return True


def _list(body: Mapping[str, Any], *, go_template: bool) -> list[Parameters]:
    if body.get("elementsYaml"):
        raise NotEvaluated("list.elementsYaml is not supported by this version", "write list.elements")
    elements = body.get("elements")
    if not isinstance(elements, list):
        raise NotEvaluated("the list generator has no elements", "write list.elements")
    made: list[Parameters] = []
    for element in elements:
        if not isinstance(element, Mapping):
            raise NotEvaluated("an element of the list generator is no mapping", "write key: value pairs")
        if go_template:
            made.append(element)
            continue
        flat: dict[str, Any] = {}
        for key, value in element.items():
            nested = {f"values.{name}": one for name, one in value.items()} if _is_values(key, value) else {key: value}
            flat |= nested
        wrong = [key for key, value in flat.items() if not isinstance(value, str)]
        if wrong:
            raise NotEvaluated(
                f"list element {wrong[0]} is no string: Argo CD refuses it", "quote it, or use goTemplate"
            )
        made.append(flat)
    return made


def _is_values(key: str, value: Any) -> bool:
    return key == "values" and isinstance(value, Mapping)


def _git(body: Mapping[str, Any], repository: Repository, *, go_template: bool) -> tuple[list[Parameters], list[str]]:
    url = string(body.get("repoURL"))
    if not repository.is_here(url):
        raise NotEvaluated(
            f"its git generator reads {url or 'no repoURL'}, another repository",
            'if it is this one, add the URL to repo = ["…"] in releasegate.toml',
        )
    files = repository.at(body.get("revision"))
    if files is None:
        raise NotEvaluated(
            f"its git generator reads revision {body.get('revision')}, which this clone does not have", "fetch it"
        )
    prefix = string(body.get("pathParamPrefix"))
    read: list[str] = []
    parameters: list[Parameters] = []
    if body.get("directories"):
        parameters = [
            _path_parameters(path, prefix, go_template=go_template) for path in _directories(body["directories"], files)
        ]
    elif body.get("files"):
        for path in _matching_files(body["files"], files):
            read.append(path)
            parameters += _file_parameters(path, files, prefix, go_template=go_template)
    else:
        raise NotEvaluated("its git generator has neither directories nor files", "write git.directories")
    values = mapping(body.get("values"))
    if values:
        parameters = [_with_values(one, values, go_template=go_template) for one in parameters]
    return parameters, read


def _repo_path(path: str, tree: Tree) -> str:
    """Turn a tree path into a repo path, as the generator sees it."""
    return posixpath.join(tree.prefix, path) if tree.prefix else path


def _directories(entries: Any, files: Files) -> Iterator[str]:
    """Go's path.Match over every folder that is not hidden; any exclude wins (generators/git.go)."""
    wanted = [mapping(entry) for entry in listed(entries)]
    for folder in files.folders():
        path = _repo_path(folder, files.tree)
        if any(part.startswith(".") for part in path.split("/")):
            continue
        matching = [entry for entry in wanted if _one_level(string(entry.get("path"))).fullmatch(path)]
        if matching and not any(entry.get("exclude") is True for entry in matching):
            yield path


def _one_level(pattern: str) -> re.Pattern[str]:
    """path.Match knows no `**`: two stars are two runs within one segment."""
    return doublestar("/".join(re.sub(r"\*+", "*", segment) for segment in pattern.rstrip("/").split("/")))


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


def _path_parameters(path: str, prefix: str, *, go_template: bool, filename: str | None = None) -> dict[str, Any]:
    segments = path.split("/")
    base = segments[-1]
    fields = {"path": path, "basename": base, "basenameNormalized": _normalized(base)}
    if filename is not None:
        fields |= {"filename": filename, "filenameNormalized": _normalized(filename)}
    if go_template:
        nested = {"path": {**fields, "segments": segments}}
        return {prefix: nested} if prefix else nested
    dot = f"{prefix}." if prefix else ""
    flat: dict[str, Any] = {f"{dot}path": path}
    flat |= {f"{dot}path.{key}": value for key, value in fields.items() if key != "path"}
    flat |= {f"{dot}path[{index}]": segment for index, segment in enumerate(segments)}
    return flat


def _normalized(name: str) -> str:
    """A DNS name: utils.SanitizeName."""
    return re.sub(r"[^-a-z0-9.]+", "-", name.lower())[:253].strip("-.")


def _file_parameters(path: str, files: Files, prefix: str, *, go_template: bool) -> list[Parameters]:
    try:
        content = yamlio.load(files.text(path))
    except (Unreadable, yamlio.YamlError) as error:
        raise NotEvaluated(f"its git generator reads {path}, which cannot be read: {error}", "mend the file") from error
    repo_path = _repo_path(path, files.tree)
    folder, name = posixpath.split(repo_path)
    at = _path_parameters(folder or ".", prefix, go_template=go_template, filename=name)
    objects = content if isinstance(content, list) else [content]
    made: list[Parameters] = []
    for one in objects:
        if one is not None and not isinstance(one, Mapping):
            raise NotEvaluated(f"its git generator reads {path}, which is no mapping", "write key: value pairs")
        made.append({**(one or {}), **at} if go_template else {**_flatten(one or {}), **at})
    return made


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted names, lists by index, values as Go prints them."""
    flat: dict[str, str] = {}
    for key, one in value.items():
        name = f"{prefix}{key}"
        if isinstance(one, Mapping):
            flat |= _flatten(one, f"{name}.")
        elif isinstance(one, list):
            flat |= _flatten({str(index): item for index, item in enumerate(one)}, f"{name}.")
        else:
            flat[name] = _printed(one)
    return flat


def _with_values(parameters: Parameters, values: Mapping[str, Any], *, go_template: bool) -> Parameters:
    rendered = {
        key: _text(string(value), parameters, go_template=go_template, strict=False) for key, value in values.items()
    }
    if go_template:
        return {**parameters, "values": rendered}
    return {**parameters, **{f"values.{key}": value for key, value in rendered.items()}}


# --- templates ----------------------------------------------------------------------------------------------------


def _render(value: Any, parameters: Parameters, *, go_template: bool, strict: bool) -> Any:
    if isinstance(value, str):
        return _text(value, parameters, go_template=go_template, strict=strict)
    if isinstance(value, Mapping):
        return {
            _text(key, parameters, go_template=go_template, strict=strict): _render(
                one, parameters, go_template=go_template, strict=strict
            )
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_render(one, parameters, go_template=go_template, strict=strict) for one in value]
    return value


def _text(text: str, parameters: Parameters, *, go_template: bool, strict: bool) -> str:
    if "{{" not in text:
        return text
    if go_template:
        return _go_template(text, parameters, strict=strict)
    return _ACTION.sub(lambda found: _fast(found[1].strip(), parameters), text)


def _fast(name: str, parameters: Parameters) -> str:
    """fasttemplate: a name and nothing else. An unknown one stays as it is written, and the Application is broken."""
    if name not in parameters:
        raise NotEvaluated(
            f"its template uses {{{{{name}}}}}, which the generator does not set",
            "use a parameter of the generator; functions need goTemplate: true",
        )
    return string(parameters[name])


# goTemplate: a pipeline of fields, literals and the functions below. Control structures, variables and other
# functions are not evaluated.
_SPACE = " \t\r\n"  # what Go trims around `{{- ` and ` -}}`
_SPACE_OR_END = (" ", "\t", "\r", "\n")
_TOKEN = re.compile(
    r"\s*(?:(?P<string>\"(?:[^\"\\]|\\.)*\"|`[^`]*`)|(?P<number>-?\d+)(?![\w.])|(?P<field>\$?(?:\.[A-Za-z_]\w*)+|\.)"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<mark>[()|]))"
)
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "lower": lambda text: _printed(text).lower(),
    "upper": lambda text: _printed(text).upper(),
    "trim": lambda text: _printed(text).strip(),
    "quote": lambda text: json.dumps(_printed(text), ensure_ascii=False),
    "toString": lambda value: _printed(value),  # noqa: PLW0108 - defined below
    "trimPrefix": lambda prefix, text: _printed(text).removeprefix(prefix),
    "trimSuffix": lambda suffix, text: _printed(text).removesuffix(suffix),
    "replace": lambda old, new, text: _printed(text).replace(old, new),
    "default": lambda fallback, value="": fallback if value in (None, "", 0, False, [], {}) else value,
    "normalize": lambda text: _normalized(_printed(text)),
    "dir": lambda text: posixpath.dirname(_printed(text)) or ".",
    "base": lambda text: posixpath.basename(_printed(text).rstrip("/")) or ".",
}


def _go_template(text: str, parameters: Parameters, *, strict: bool) -> str:
    parts: list[str] = []
    end, trims_next = 0, False
    for found in _ACTION.finditer(text):
        literal, action = text[end : found.start()], found[1]
        literal = literal.lstrip(_SPACE) if trims_next else literal
        if action[:1] == "-" and action[1:2] in _SPACE_OR_END:
            literal, action = literal.rstrip(_SPACE), action[1:]
        trims_next = action[-1:] == "-" and action[-2:-1] in _SPACE_OR_END
        parts += [literal, _replaced((action[:-1] if trims_next else action).strip(), parameters, strict=strict)]
        end = found.end()
    parts.append(text[end:].lstrip(_SPACE) if trims_next else text[end:])
    made = "".join(parts)
    if "<no value>" in made:
        raise NotEvaluated(f"its template {text!r} gives <no value>", "set the parameter in the generator")
    return made


def _replaced(action: str, parameters: Parameters, *, strict: bool) -> str:
    if action.startswith("/*"):
        return ""
    value = _Pipeline(action, parameters, strict=strict).value()
    return "<no value>" if value is None else _printed(value)


def _printed(value: Any) -> str:
    """As Go prints it: JSON numbers are float64, so a million is 1e+06."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, int | float):
        return _go_float(float(value))
    if isinstance(value, str):
        return value
    raise NotEvaluated("its template prints a list or a mapping", "print one of its fields")


def _go_float(value: float) -> str:
    """fmt.Sprint(float64): strconv's 'g' with the fewest digits, which has an exponent below 1e-4 and from 1e6 on."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):
        return str(value)
    power = len(digits) + exponent - 1
    if not value or power in _WITHOUT_EXPONENT:
        return f"{Decimal(repr(value)).normalize():f}" if value else "0"
    text = "".join(map(str, digits))
    fraction = f".{text[1:]}" if text[1:] else ""
    return f"{'-' if sign else ''}{text[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"


_WITHOUT_EXPONENT = range(-4, 6)


class _Pipeline:
    """Evaluates one action: `.path.basename`, `index .path.segments 1 | lower`, `default "x" .y`."""

    def __init__(self, action: str, parameters: Parameters, *, strict: bool) -> None:
        self.action = action
        self.parameters = parameters
        self.strict = strict
        self.tokens = self._tokens(action)
        self.at = 0

    def value(self) -> Any:
        value = self._pipe()
        if self.at != len(self.tokens):
            raise self._refused()
        return value

    def _refused(self) -> NotEvaluated:
        return NotEvaluated(
            f"its template uses {{{{ {self.action} }}}}, which this version does not evaluate",
            "use plain fields, index, or write the Applications out",
        )

    def _tokens(self, action: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while action[at:].strip():
            found = _TOKEN.match(action, at)
            if found is None or found.lastgroup is None:
                raise self._refused()
            tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()
        return tokens

    def _pipe(self) -> Any:
        value = self._command(())
        while self._next() == ("mark", "|"):
            self.at += 1
            value = self._command((value,))
        return value

    def _command(self, piped: tuple[Any, ...]) -> Any:
        kind, text = self._next()
        if kind == "word" and text not in ("true", "false", "nil"):
            self.at += 1
            arguments: list[Any] = []
            while self._next()[0] in ("string", "number", "field") or self._next() == ("mark", "("):
                arguments.append(self._operand())
            return self._call(text, (*arguments, *piped))
        if piped:
            raise self._refused()
        return self._operand()

    def _operand(self) -> Any:
        kind, text = self._next()
        self.at += 1
        if kind == "string":
            return text[1:-1] if text.startswith("`") else json.loads(text)
        if kind == "number":
            return int(text)
        if kind == "field":
            return self._field(text)
        if (kind, text) == ("mark", "("):
            value = self._pipe()
            if self._next() != ("mark", ")"):
                raise self._refused()
            self.at += 1
            return value
        raise self._refused()

    def _field(self, text: str) -> Any:
        value: Any = self.parameters
        for name in text.lstrip("$").split(".")[1:]:
            if not name:
                continue
            if not isinstance(value, Mapping) or name not in value:
                if self.strict or not isinstance(value, Mapping):
                    raise NotEvaluated(
                        f"its template uses {{{{ {self.action} }}}}, which the generator does not set",
                        "set the parameter in the generator",
                    )
                return None
            value = value[name]
        return value

    def _call(self, name: str, arguments: Sequence[Any]) -> Any:
        if name == "index" and len(arguments) >= 2:  # noqa: PLR2004 - a value and at least one key
            value = arguments[0]
            for key in arguments[1:]:
                try:
                    value = value[key]
                except (KeyError, IndexError, TypeError) as error:
                    raise NotEvaluated(
                        f"its template uses {{{{ {self.action} }}}}: there is no {key!r}", "check the index"
                    ) from error
            return value
        function = _FUNCTIONS.get(name)
        if function is None:
            raise self._refused()
        try:
            return function(*arguments)
        except TypeError as error:
            raise self._refused() from error

    def _next(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")
