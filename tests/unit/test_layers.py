"""Data flows one way: a lower layer imports nothing from a higher one. Read from the imports themselves."""

from __future__ import annotations

import ast
from pathlib import Path

import releasegate

PACKAGE = Path(releasegate.__file__).parent
LAYERS = {
    "model": 0,
    "k8s": 0,
    "references": 0,
    "yamlio": 0,
    "yamlplain": 0,
    "manifests": 1,
    "config": 1,
    "cache": 1,
    "process": 1,
    "git": 1,
    "tools": 1,
    "schemas": 2,
    "chartreads": 2,
    "chartvalues": 2,
    "discover": 2,
    "render": 2,
    "prometheuses": 2,
    "rulefiles": 2,
    "sources": 2,
    "usage": 3,
    "rules": 3,
    "evaluate": 4,
    "run": 5,
    "lint": 5,
    "lintplain": 5,
    "report": 5,
    "scaffold": 5,
    "testing": 5,
    "check": 6,
    "nodes": 6,
    "plugin": 6,
    "cli": 6,
    "__main__": 7,
}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _part(name: str) -> str | None:
    first, _, rest = name.partition(".")
    return rest.split(".")[0] if first == "releasegate" and rest else None


def test_every_module_has_a_layer() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert modules - {"__init__"} == set(LAYERS)


def test_no_module_imports_a_higher_layer() -> None:
    upward = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py" or path.parent != PACKAGE
        for name in _imports(path)
        if (part := _part(name)) in LAYERS
        and LAYERS[part] > LAYERS[path.relative_to(PACKAGE).parts[0].removesuffix(".py")]
    ]
    assert upward == []


def test_one_module_starts_processes() -> None:
    starters = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] in {"subprocess", "multiprocessing"} for name in _imports(path))
    }
    assert starters == {"process.py"}


def test_no_private_module_of_pytest_is_imported() -> None:
    private = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if any(name.split(".")[0] == "_pytest" for name in _imports(path))
    ]
    assert private == []
