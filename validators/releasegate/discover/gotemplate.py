"""Go's text/template with the functions an ApplicationSet has: enough of it to know what Argo CD would write.

Sources of the facts: pkg.go.dev/text/template; argo-cd applicationset/utils/{utils,template_functions}.go (sprig's
generic functions without `env`, `expandenv`, `getHostByName`; and normalize, slugify, toYaml, fromYaml,
fromYamlArray); masterminds.github.io/sprig. A construct or function that is not here is refused, never guessed: those
that ask a clock, a random source or a regular expression (Go's are not Python's) are refused for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releasegate.discover.gofunctions import FUNCTIONS, TemplateError, printed

MAX_STEPS = 100_000  # nodes and rounds evaluated in one text
MAX_STEPS_TOGETHER = 5_000_000  # in all texts of one ApplicationSet, which takes seconds
MAX_OUTPUT = 1_000_000  # characters of one text
MAX_WEIGHT = 2_000_000  # characters and values that one call may be given: `print $x $x` again and again doubles them
_SPACE = " \t\r\n"


@dataclass(slots=True)
class Budget:
    """What the texts that share it may take together."""

    steps: int = MAX_STEPS_TOGETHER


# --- the text -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of text, or the inside of an action."""

    text: str
    is_action: bool


def _pieces(source: str) -> Iterator[_Piece]:
    """Split a text at its actions, trimmed as `{{-` and `-}}` say."""
    at, trim = 0, False
    while True:
        start = source.find("{{", at)
        literal = source[at:] if start < 0 else source[at:start]
        if trim:
            literal = literal.lstrip(_SPACE)
        if start < 0:
            yield _Piece(literal, is_action=False)
            return
        inside = start + 2
        if source[inside : inside + 1] == "-" and source[inside + 1 : inside + 2] in tuple(_SPACE):
            literal, inside = literal.rstrip(_SPACE), inside + 1
        yield _Piece(literal, is_action=False)
        end = _end_of_action(source, inside)
        body = source[inside:end]
        trim = body[-1:] == "-" and (body[-2:-1] in tuple(_SPACE))
        body = (body[:-1] if trim else body).strip(_SPACE)
        if not (body.startswith("/*") and body.endswith("*/")):
            yield _Piece(body, is_action=True)
        at = end + 2


_QUOTED = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`|'(?:[^'\\\n]|\\.)*'|/\*.*?\*/", re.DOTALL)


def _end_of_action(source: str, at: int) -> int:
    """Where the `}}` of an action is: not one inside a string."""
    while at < len(source):
        if source.startswith("}}", at):
            return at
        quoted = _QUOTED.match(source, at)
        at = quoted.end() if quoted else at + 1
    raise TemplateError("has an action without its closing }}")


_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`)"
    r"|(?P<char>'(?:[^'\\\n]|\\.)+')"
    r"|(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+))(?![\w.])"
    r"|(?P<variable>\$\w*)"
    r"|(?P<field>\.[^\W\d]\w*)"
    r"|(?P<dot>\.)"
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<mark>:=|=|,|\||\(|\))"
)

Token = tuple[str, str]
_END: Token = ("end", "")


def _tokens(action: str) -> list[Token]:
    """The tokens of an action; space stays one where it tells `.a .b` from `.a.b`."""
    found: list[Token] = []
    at = 0
    while at < len(action):
        match = _TOKEN.match(action, at)
        if match is None or match.lastgroup is None:
            raise TemplateError(f"uses {{{{ {action} }}}}, which is no Go template")
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


# --- the tree -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Text:
    text: str


@dataclass(slots=True)
class _Operand:
    """A literal, a variable, dot, or a pipeline in brackets, followed by fields."""

    kind: str  # literal, variable, dot, pipe, function
    value: Any
    fields: tuple[str, ...] = ()


@dataclass(slots=True)
class _Pipe:
    """Commands joined by `|`, and the variables it is assigned to."""

    commands: list[list[_Operand]]
    action: str
    names: tuple[str, ...] = ()
    declares: bool = False


@dataclass(slots=True)
class _Branch:
    """if, with, range."""

    kind: str
    pipe: _Pipe
    body: list[_Node] = field(default_factory=list)
    other: list[_Node] = field(default_factory=list)


@dataclass(slots=True)
class _Leave:
    """break or continue."""

    kind: str


_Node = _Text | _Pipe | _Branch | _Leave
_KEYWORDS = frozenset({"if", "else", "end", "range", "with", "define", "template", "block", "break", "continue"})


class _Parser:
    """Reads one action."""

    def __init__(self, action: str, variables: Sequence[str]) -> None:
        self.action = action
        self.tokens = _tokens(action)
        self.variables = variables
        self.at = 0

    def refused(self) -> TemplateError:
        return TemplateError(f"uses {{{{ {self.action} }}}}, which this version does not evaluate")

    def next(self) -> Token:
        self.skip()
        return self.tokens[self.at] if self.at < len(self.tokens) else _END

    def skip(self) -> None:
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "space":
            self.at += 1

    def take(self) -> Token:
        token = self.next()
        self.at += 1
        return token

    def pipe(self) -> _Pipe:
        """Read the whole rest of the action."""
        made = _Pipe([], self.action)
        start = self.at
        names = self._names()
        if names is None:
            self.at = start
        else:
            made.names, made.declares = names
        made.commands = self._commands(closing=_END)
        return made

    def _names(self) -> tuple[tuple[str, ...], bool] | None:
        names: list[str] = []
        while True:
            kind, text = self.take()
            if kind != "variable":
                return None
            names.append(text)
            mark = self.take()
            if mark == ("mark", ","):
                continue
            if mark in (("mark", ":="), ("mark", "=")):
                return tuple(names), mark[1] == ":="
            return None

    def _commands(self, closing: Token) -> list[list[_Operand]]:
        commands: list[list[_Operand]] = []
        while True:
            operands: list[_Operand] = []
            while self.next() not in (closing, ("mark", "|"), _END):
                operands.append(self._operand(first=not operands))
            if not operands:
                raise self.refused()
            commands.append(operands)
            token = self.take()
            if token == closing:
                return commands
            if token != ("mark", "|"):
                raise self.refused()

    def _operand(self, *, first: bool) -> _Operand:  # noqa: C901, PLR0912 -- one branch per kind of token
        kind, text = self.take()
        if kind == "string":
            made = _Operand("literal", text[1:-1] if text[0] == "`" else _unquoted(text))
        elif kind == "char":
            made = _Operand("literal", _rune(text))
        elif kind == "number":
            made = _Operand("literal", _number(text))
        elif kind == "variable":
            if text not in self.variables:
                raise TemplateError(f"uses {{{{ {self.action} }}}}: {text} is not defined")
            made = _Operand("variable", text)
        elif kind == "field":
            made = _Operand("dot", None, (text[1:],))
        elif kind == "dot":
            made = _Operand("dot", None)
        elif (kind, text) == ("mark", "("):
            made = _Operand("pipe", _Pipe(self._commands(("mark", ")")), self.action))
        elif kind == "word" and text in ("true", "false", "nil"):
            made = _Operand("literal", {"true": True, "false": False, "nil": None}[text])
        elif kind == "word" and text not in _KEYWORDS:
            if not first and text not in FUNCTIONS:
                raise self.refused()
            return _Operand("function", text)
        else:
            raise self.refused()
        fields = list(made.fields)
        while self.at < len(self.tokens) and self.tokens[self.at][0] == "field":  # no space between
            fields.append(self.tokens[self.at][1][1:])
            self.at += 1
        made.fields = tuple(fields)
        return made


def _parse(source: str) -> list[_Node]:  # noqa: C901, PLR0912 -- one branch per keyword
    root: list[_Node] = []
    # (where nodes go, the branch that is open, names of variables at its begin)
    stack: list[tuple[list[_Node], _Branch | None, int]] = [(root, None, 1)]
    variables = ["$"]
    for piece in _pieces(source):
        into = stack[-1][0]
        if not piece.is_action:
            if piece.text:
                into.append(_Text(piece.text))
            continue
        parser = _Parser(piece.text, variables)
        kind, word = parser.next()
        if kind != "word" or word not in _KEYWORDS:
            pipe = parser.pipe()
            if pipe.declares:
                variables += pipe.names
            into.append(pipe)
        elif word in ("if", "with", "range"):
            parser.take()
            before = len(variables)
            branch = _Branch(word, parser.pipe())
            if branch.pipe.declares:
                variables += branch.pipe.names
            into.append(branch)
            stack.append((branch.body, branch, before))
        elif word == "else":
            _, opened, before = stack.pop()
            if opened is None:
                raise parser.refused()
            parser.take()
            stack.append((opened.other, opened, before))
            following = parser.take()
            if following in (("word", "if"), ("word", "with")):
                nested = _Branch(following[1], parser.pipe())
                if nested.pipe.declares:
                    variables += nested.pipe.names
                opened.other.append(nested)
                stack[-1] = (nested.body, nested, before)
            elif following != _END:
                raise parser.refused()
        elif word == "end":
            _, opened, before = stack.pop()
            if opened is None:
                raise parser.refused()
            del variables[before:]
        elif word in ("break", "continue") and any(one is not None and one.kind == "range" for _, one, _ in stack):
            into.append(_Leave(word))
        else:
            raise parser.refused()
    if len(stack) > 1:
        raise TemplateError("has an if, with or range without its end")
    return root


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL)


def _unquoted(text: str) -> str:
    """A Go string literal's value."""

    def one(found: re.Match[str]) -> str:
        for group, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
            if found[group]:
                code = int(found[group], base)
                if code > 0x10FFFF or (group in (1, 4) and code > 0x7F):  # noqa: PLR2004 - a byte is no character
                    raise TemplateError(f"holds the string {text}, which is no text")
                return chr(code)
        if found[5] not in _ESCAPES:
            raise TemplateError(f"holds the string {text}, which Go refuses")
        return _ESCAPES[found[5]]

    return _ESCAPE.sub(one, text[1:-1])


def _rune(text: str) -> int:
    value = _unquoted(text)
    if len(value) != 1:
        raise TemplateError(f"holds {text}, which is no character")
    return ord(value)


def _number(text: str) -> int | float:
    plain = text.replace("_", "")
    if re.fullmatch(r"[+-]?0[xX][0-9a-fA-F]+", plain):
        return int(plain, 16)
    if re.fullmatch(r"[+-]?0[0-7]+", plain):
        return int(plain, 8)
    return int(plain) if re.fullmatch(r"[+-]?\d+", plain) else float(plain)


# --- evaluation ---------------------------------------------------------------------------------------------------


class _Break(Exception):
    """Leaves the range."""


class _Continue(Exception):
    """Goes on with the next of the range."""


class _Evaluation:
    """Evaluates one text over its data."""

    def __init__(self, data: Any, *, strict: bool, budget: Budget) -> None:
        self.data = data
        self.strict = strict
        self.budget = budget
        self.steps = 0
        self.size = 0
        self.parts: list[str] = []
        self.weights: dict[int, tuple[Any, int]] = {}  # by identity; the value is kept, so that no other gets its id
        self.variables: list[tuple[str, Any]] = [("$", data)]

    def step(self) -> None:
        self.steps += 1
        self.budget.steps -= 1
        if self.steps > MAX_STEPS or self.budget.steps < 0:
            raise TemplateError(f"takes more than {MAX_STEPS} steps, or all of its set more than {MAX_STEPS_TOGETHER}")

    def weight(self, value: Any) -> int:
        """Characters and values of `value` written out, as far as anybody need know: MAX_WEIGHT is too many."""
        if isinstance(value, str):
            return len(value)
        if not isinstance(value, dict | list | tuple):
            return 1
        if id(value) not in self.weights:
            self.weights[id(value)] = (value, 1)  # of what holds itself
            weight = 1
            for inner in value.values() if isinstance(value, dict) else value:
                self.step()
                weight += self.weight(inner)
                if weight > MAX_WEIGHT:
                    break
            self.weights[id(value)] = (value, weight)
        return self.weights[id(value)][1]

    def write(self, text: str) -> None:
        self.size += len(text)
        if self.size > MAX_OUTPUT:
            raise TemplateError(f"writes more than {MAX_OUTPUT} characters")
        self.parts.append(text)

    def run(self, nodes: Sequence[_Node], dot: Any) -> None:
        for node in nodes:
            self.step()
            if isinstance(node, _Text):
                self.write(node.text)
            elif isinstance(node, _Pipe):
                value = self.pipe(node, dot)
                if not node.names:
                    self.write("<no value>" if value is None else printed(value))
            elif isinstance(node, _Leave):
                raise _Break if node.kind == "break" else _Continue
            else:
                depth = len(self.variables)
                self.branch(node, dot)
                del self.variables[depth:]

    def branch(self, node: _Branch, dot: Any) -> None:
        if node.kind == "range":
            self.range(node, dot)
            return
        value = self.pipe(node.pipe, dot)
        inside = value if node.kind == "with" else dot
        self.run(*((node.body, inside) if is_true(value) else (node.other, dot)))

    def range(self, node: _Branch, dot: Any) -> None:
        names = node.pipe.names
        pairs = self.pairs(node.pipe, dot)
        if not pairs:
            self.run(node.other, dot)
        for key, one in pairs:
            self.step()
            depth = len(self.variables)
            if names:
                self.variables += zip(names, (one,) if len(names) == 1 else (key, one), strict=True)
            try:
                self.run(node.body, one)
            except _Continue:
                pass
            except _Break:
                break
            finally:
                del self.variables[depth:]

    def pairs(self, pipe: _Pipe, dot: Any) -> list[tuple[Any, Any]]:
        """What a range goes through, with keys or indexes."""
        value = self.pipe(pipe, dot, assign=False)
        if value is None:
            return []
        if isinstance(value, Mapping):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, list | tuple):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            if value > MAX_STEPS:
                raise TemplateError(f"takes more than {MAX_STEPS} steps")
            return [(one, one) for one in range(value)]
        raise TemplateError(f"ranges over {{{{ {pipe.action} }}}}, which is no list or mapping")

    def pipe(self, pipe: _Pipe, dot: Any, *, assign: bool = True) -> Any:
        value: Any = None
        for index, command in enumerate(pipe.commands):
            value = self.command(command, dot, (value,) if index else (), pipe.action)
        if assign and pipe.names:
            if pipe.declares:
                self.variables.append((pipe.names[0], value))
            else:
                for index in range(len(self.variables) - 1, -1, -1):
                    if self.variables[index][0] == pipe.names[0]:
                        self.variables[index] = (pipe.names[0], value)
                        break
        return value

    def command(self, command: Sequence[_Operand], dot: Any, piped: tuple[Any, ...], action: str) -> Any:
        first, *rest = command
        if first.kind == "literal" and first.value is None:
            raise TemplateError(f"uses {{{{ {action} }}}}, where nil is no command")
        if first.kind != "function":
            if rest or piped:
                raise TemplateError(f"uses {{{{ {action} }}}}, which gives arguments to what is no function")
            return self.operand(first, dot, action)
        name = str(first.value)
        if name in ("and", "or"):
            return self.logic(name, rest, dot, piped, action)
        function = FUNCTIONS.get(name)
        if function is None:
            raise TemplateError(f"uses the function {name} in {{{{ {action} }}}}, which this version does not evaluate")
        arguments = [self.operand(one, dot, action) for one in rest]
        given = sum(map(self.weight, (*arguments, *piped)))
        if given > MAX_WEIGHT:
            raise TemplateError(f"uses {{{{ {action} }}}}, which is given more than {MAX_WEIGHT} characters and values")
        try:
            made = function(*arguments, *piped)
        except TemplateError as error:
            raise TemplateError(f"uses {{{{ {action} }}}}: {error}") from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, ArithmeticError) as error:
            raise TemplateError(f"uses {{{{ {action} }}}}, whose arguments {name} does not take") from error
        if isinstance(made, dict | list):
            self.weights[id(made)] = (made, 1 + given)
        return made

    def logic(self, name: str, rest: Sequence[_Operand], dot: Any, piped: tuple[Any, ...], action: str) -> Any:
        """`and` and `or` stop at the first value that decides."""
        value: Any = None
        for operand in rest:
            value = self.operand(operand, dot, action)
            if is_true(value) != (name == "and"):
                return value
        return piped[0] if piped else value

    def operand(self, operand: _Operand, dot: Any, action: str) -> Any:
        self.step()
        if operand.kind == "literal":
            value = operand.value
        elif operand.kind == "dot":
            value = dot
        elif operand.kind == "variable":
            value = next(one for name, one in reversed(self.variables) if name == operand.value)
        elif operand.kind == "pipe":
            value = self.pipe(operand.value, dot, assign=False)
        else:  # a function without arguments
            value = self.command([operand], dot, (), action)
        for name in operand.fields:
            if not isinstance(value, Mapping):
                raise TemplateError(f"uses {{{{ {action} }}}}, which the generator does not set")
            if name not in value:
                if self.strict:
                    raise TemplateError(f"uses {{{{ {action} }}}}, which the generator does not set")
                value = None
                continue
            value = value[name]
        return value


def render(source: str, data: Mapping[str, Any], *, strict: bool, budget: Budget | None = None) -> str:
    """Execute a Go template over `data`. `strict` is missingkey=error. TemplateError for all that goes wrong.

    As in Go, a key that is missing without `strict` is written as `<no value>`.
    """
    if "{{" not in source:
        return source
    evaluation = _Evaluation(data, strict=strict, budget=budget or Budget())
    try:
        evaluation.run(_parse(source), data)
    except RecursionError as error:
        raise TemplateError("is nested too deeply to be meant") from error
    except (_Break, _Continue) as error:
        raise TemplateError("leaves a range where there is none") from error
    return "".join(evaluation.parts)


def is_true(value: Any) -> bool:
    """Go's truth (template.IsTrue): false, zero, nil, and what is empty are not."""
    return bool(value)
