"""schema/valid beside other judges: kubeconform, kubernetes-validate, a real API server, real CRDs.

The law: nothing that `kubeconform -strict` refuses is accepted, and what is refused beyond it is of a named class that
the API server refuses too.
"""

from __future__ import annotations

import copy
import functools
import gzip
import json
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import platformdirs
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from releasegate import yamlio
from releasegate.config import Config
from releasegate.model import Finding, Manifest, Repo, Tree
from releasegate.rules import Evidence, Shared, catalogue
from releasegate.schemas import MissingSchema, Problem, Schemas, add, bundle, crd, own

HERE = Path(__file__).parent
VALID = [document.value for document in yamlio.documents((HERE.parent / "data" / "manifests.yaml").read_text("utf-8"))]
SHARED = HERE.parents[1].parent / "shared" / "data"
KUBECONFORM = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"
NEWEST = "1.37"
# What schema/valid refuses and kubeconform with the same schemas does not.
BEYOND = {"x-kubernetes-list-map-keys", "format"}

REPO = Repo(tree=Tree(root="/", files=()), environments=(), releases=())

Path_ = tuple[str | int, ...]


# --- judges -----------------------------------------------------------------------------------------------------------


@functools.cache
def schemas(version: str = NEWEST) -> Schemas:
    return Schemas.load(version)


def problems(body: Any, known: Schemas | None = None) -> list[Problem]:
    """What is red about it: advice is not."""
    found = (known or schemas()).problems(Manifest(body=body, text=""))
    assert not isinstance(found, MissingSchema), found
    return [problem for problem in found if not problem.advice]


@pytest.fixture(scope="session")
def kubeconform() -> Path:
    """The locked kubeconform: RELEASEGATE_KUBECONFORM, PATH, or built once into the user's cache."""
    told = os.environ.get("RELEASEGATE_KUBECONFORM") or shutil.which("kubeconform")
    if told:
        return Path(told)
    folder = Path(platformdirs.user_cache_dir("releasegate")) / "oracles" / KUBECONFORM.rpartition("@")[2]
    if not (folder / "kubeconform").exists():
        go = shutil.which("go")
        assert go, "kubeconform is not there and cannot be built: put it on PATH, or name it in RELEASEGATE_KUBECONFORM"
        environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-mod=mod"}
        subprocess.run([go, "install", KUBECONFORM], env=environment, check=True, timeout=600)
    return folder / "kubeconform"


@pytest.fixture(scope="session")
def judge(kubeconform: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[int, str | None]]:
    """`judge(bodies)` -> for each index what `kubeconform -strict` says against it, None where it is valid."""
    exported = tmp_path_factory.mktemp("schemas")
    for version in ("1.34", NEWEST):
        bundle.export(version, exported)

    def run(bodies: list[Any], version: str = NEWEST) -> dict[int, str | None]:
        folder = tmp_path_factory.mktemp("objects")
        for index, body in enumerate(bodies):
            (folder / f"{index}.json").write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")
        command = [str(kubeconform), "-strict", "-n", "4", "-output", "json", "-verbose"]
        command += ["-kubernetes-version", f"{version}.0", "-schema-location", str(exported), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        rows = json.loads(done.stdout)["resources"]
        said = {int(Path(row["filename"]).stem): None if row["status"] == "statusValid" else row["msg"] for row in rows}
        assert len(said) == len(bodies), done.stderr
        assert not [text for text in said.values() if text and "could not find schema" in text]
        return said

    return run


# --- single faults ----------------------------------------------------------------------------------------------------


def places(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every value below a document with its path."""
    entries: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key), entry
        yield from places(entry, (*path, key))


def faults(value: Any) -> Iterator[tuple[str, Any]]:
    """Values to put in the place of `value`, each with the name of the fault."""
    yield "null", None
    match value:
        case bool():
            yield "bool as string", str(value).lower()
            yield "bool as number", int(value)
        case int() | float():
            yield "number as string", str(value)
            yield "huge", 2**40
            yield "beyond 64 bits", 2**70
            yield "fraction", value + 0.5
            yield "whole float", float(value)
            yield "number as list", [value]
        case str():
            yield "empty string", ""
            yield "string as number", 7
            yield "string as bool", True
            yield "string as list", [value]
            yield "string as map", {"value": value}
            yield "other text", value + " x"
            yield "upper case", value.upper()
        case list():
            yield "empty list", []
            yield "list as map", {str(index): entry for index, entry in enumerate(value)}
            yield "list as string", "x"
            yield "entry twice", [*value, copy.deepcopy(value[-1])] if value else ["x"]
            yield "null entry", [*value, None]
        case dict():
            yield "empty map", {}
            yield "map as list", [value]
            yield "map as string", "x"
            yield "unknown field", {**value, "unknownField": "x"}
            yield "unknown empty field", {**value, "unknownField": None}
            if value:
                first = next(iter(value))
                yield "misspelled field", {f"{first}x" if key == first else key: entry for key, entry in value.items()}


def replaced(body: Any, path: Path_, new: Any) -> Any:
    changed = copy.deepcopy(body)
    holder = changed
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = new
    return changed


def removed(body: Any, path: Path_) -> Any:
    changed = copy.deepcopy(body)
    holder = changed
    for part in path[:-1]:
        holder = holder[part]
    del holder[path[-1]]
    return changed


def mutants(body: Any) -> Iterator[tuple[str, Any]]:
    """Every single-fault mutant of a document that keeps its apiVersion and kind, each with what was done."""
    for name, new in faults(body):
        if isinstance(new, dict) and "apiVersion" in new and "kind" in new:
            yield f"{name} at the root", new
    for path, value in places(body):
        if path in {("apiVersion",), ("kind",)}:
            continue
        yield f"removed {path}", removed(body, path)
        for name, new in faults(value):
            yield f"{name} at {path}", replaced(body, path, new)


@functools.cache
def sample(count: int) -> list[tuple[str, Any]]:
    """`count` mutants of the valid manifests, the same ones in each run."""
    everything = [(f"{body['kind']}: {name}", mutant) for body in VALID for name, mutant in mutants(body)]
    return random.Random(20260131).sample(everything, count)  # noqa: S311 - which faults, not a secret


# --- kubeconform ------------------------------------------------------------------------------------------------------


def test_what_is_valid_is_valid_for_kubeconform_and_for_us_in_every_version(
    judge: Callable[..., dict[int, str | None]],
) -> None:
    for version in ("1.34", NEWEST):
        assert set(judge(VALID, version).values()) == {None}
        assert [found for body in VALID if (found := problems(body, schemas(version)))] == []


@pytest.fixture(scope="session")
def judged(judge: Callable[..., dict[int, str | None]]) -> dict[int, str | None]:
    """What kubeconform says about the sample."""
    return judge([mutant for _, mutant in sample(3000)])


def test_nothing_that_kubeconform_refuses_is_accepted(judged: dict[int, str | None]) -> None:
    accepted = [
        (name, judged[index])
        for index, (name, mutant) in enumerate(sample(3000))
        if judged[index] and not problems(mutant)
    ]
    assert accepted == []
    refused = sum(text is not None for text in judged.values())
    assert refused > 1000, "the corpus holds too few faults to tell anything"


def test_what_is_refused_beyond_kubeconform_is_of_a_named_class(judged: dict[int, str | None]) -> None:
    beyond = {
        name: found
        for index, (name, mutant) in enumerate(sample(3000))
        if judged[index] is None and (found := problems(mutant))
    }
    others = {name: found for name, found in beyond.items() if not {one.keyword for one in found} <= BEYOND}
    assert others == {}
    assert beyond, "the corpus holds no fault of a named class"


def test_a_key_written_twice_is_refused_where_kubeconform_refuses_it(kubeconform: Path, tmp_path: Path) -> None:
    exported = bundle.export(NEWEST, tmp_path / "schemas").parent
    rule = next(one for one in catalogue() if one.id == "schema/valid")
    evidence = Evidence(
        repo=REPO,
        config=Config(),
        environment=None,
        release=None,
        renders=(),
        shared=Shared(REPO.tree),
        schemas=schemas(),
    )
    chosen = random.Random(7)  # noqa: S311 - which line, not a secret
    texts = []
    for body in VALID:
        lines = yaml.safe_dump(body, sort_keys=False).splitlines(keepends=True)
        simple = [at for at, line in enumerate(lines) if re.match(r" *[A-Za-z]+: [^|>&*\[{]+$", line)]
        picked = chosen.sample(simple, min(4, len(simple)))
        texts += ["".join([*lines[: at + 1], *lines[at:]]) for at in picked]
    for index, text in enumerate(texts):
        (tmp_path / f"{index}.yaml").write_text(text, encoding="utf-8")
    command = [str(kubeconform), "-strict", "-kubernetes-version", f"{NEWEST}.0", "-schema-location", str(exported)]
    done = subprocess.run([*command, *map(str, sorted(tmp_path.glob("*.yaml")))], capture_output=True, check=False)
    refused = done.stdout.count(b"already set in map")
    assert refused == len(texts) > 100
    for text in texts:
        (document,) = yamlio.documents(text)
        manifest = Manifest(body=document.value, text=document.text, problems=document.problems)
        assert any(isinstance(one, Finding) for one in rule.check(manifest, evidence)), text


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_two_faults_in_one_object_are_both_found_where_kubeconform_finds_either(
    data: st.DataObject, judge: Callable[..., dict[int, str | None]]
) -> None:
    batch = []
    for _ in range(25):
        body = data.draw(st.sampled_from(VALID))
        for _ in range(2):
            path, value = data.draw(
                st.sampled_from([one for one in places(body) if one[0][0] not in {"apiVersion", "kind"}])
            )
            body = replaced(body, path, data.draw(st.sampled_from([new for _, new in faults(value)])))
        batch.append(body)
    said = judge(batch)
    assert [body for index, body in enumerate(batch) if said[index] and not problems(body)] == []


# --- kubernetes-validate ----------------------------------------------------------------------------------------------


def second_opinion(body: Any) -> str | None:
    try:
        kubernetes_validate.validate(body, NEWEST, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{error.message} at {list(error.absolute_path)}"
    return None


def test_valid_manifests_are_valid_for_kubernetes_validate() -> None:
    assert [said for body in VALID if (said := second_opinion(body))] == []


def test_what_kubernetes_validate_refuses_is_refused() -> None:
    # Its schemas write int-or-string as oneOf two nullable types, so null matches both and is refused there. The API
    # server takes it (Go decodes null as unset), and so do we.
    accepted = [
        (name, said)
        for name, mutant in sample(3000)[:100]  # it takes 15 to 100 ms for each
        if (said := second_opinion(mutant))
        and not said.startswith("None is valid under each of")
        and not problems(mutant)
    ]
    assert accepted == []


# --- a real API server ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def verdicts() -> list[dict[str, Any]]:
    path = SHARED / "apiserver-verdicts.jsonl.gz"
    if not path.exists():
        pytest.skip("../shared is not beside the project")
    with gzip.open(path) as lines:
        return [json.loads(line) for line in lines]


def test_at_most_three_in_a_thousand_of_what_a_real_api_server_takes_are_refused(
    verdicts: list[dict[str, Any]],
) -> None:
    taken = [row for row in verdicts if row["accepted"]]
    refused = [(row["kind"], row["path"], row["op"]) for row in taken if problems(row["doc"])]
    assert len(refused) <= 0.003 * len(taken), refused


def test_what_a_real_api_server_cannot_decode_is_refused(verdicts: list[dict[str, Any]]) -> None:
    undecodable = [row for row in verdicts if row["code"] == 400 and "namespace" not in row["message"]]
    assert len(undecodable) > 500
    assert [(row["kind"], row["path"], row["op"]) for row in undecodable if not problems(row["doc"])] == []


def test_nothing_of_the_real_corpus_that_kubeconform_refuses_is_accepted(
    verdicts: list[dict[str, Any]], judge: Callable[..., dict[int, str | None]]
) -> None:
    # Whole CRDs of a megabyte take most of the time and say nothing new after the first fifty.
    crds = [row for row in verdicts if row["kind"] == crd.KIND][:50]
    rows = crds + [row for row in verdicts if row["kind"] != crd.KIND]
    said = judge([row["doc"] for row in rows])
    counts = Counter((said[index] is None, not problems(row["doc"])) for index, row in enumerate(rows))
    assert counts[False, True] == 0
    assert counts[False, False] > 500


# --- real CRDs, as an oracle of the schemas shipped --------------------------------------------------------------------

EXAMPLES: list[dict[str, Any]] = [
    document.value for document in yamlio.documents((HERE.parent / "data" / "custom.yaml").read_text("utf-8"))
]


@pytest.fixture(scope="session")
def real() -> Schemas:
    folder = SHARED / "crds"
    if not folder.exists():
        pytest.skip("../shared is not beside the project")
    crds = [
        Manifest(body=document.value, text="")
        for path in sorted(folder.glob("*.yaml"))
        for document in yamlio.documents(path.read_text("utf-8"))
    ]
    return Schemas.load(NEWEST, crds=crds)


def test_every_shipped_schema_has_an_example() -> None:
    assert {(body["apiVersion"], body["kind"]) for body in EXAMPLES} == set(own.kinds())


def test_the_examples_are_valid_for_the_shipped_schemas() -> None:
    assert [found for body in EXAMPLES if (found := problems(body))] == []


def test_the_examples_are_valid_for_the_real_crds(real: Schemas) -> None:
    assert [found for body in EXAMPLES if (found := problems(body, real))] == []


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: str(body["metadata"]["name"]))
def test_a_single_fault_is_refused_by_the_shipped_schema_as_by_the_real_crd(body: Any, real: Schemas) -> None:
    differing = [
        name
        for name, mutant in mutants(body)
        if bool(problems(mutant)) != bool(problems(mutant, real)) and not known_difference(name)
    ]
    assert differing == []


def known_difference(name: str) -> bool:
    """Parts that the shipped schemas leave open, because only the CRD documents them."""
    return any(
        part in name
        for part in ("'tlsConfig'", "'oauth2'", "'scmProvider'", "'matrix', 'generators'", "'merge', 'generators'")
    )


def test_kubeconform_reads_what_schemas_add_writes_and_refuses_nothing_that_is_accepted(
    real: Schemas, kubeconform: Path, tmp_path: Path
) -> None:
    add.add(add.Repo(tmp_path), sorted({body["kind"] for body in EXAMPLES}), str(SHARED / "crds"))
    known = Schemas.load(NEWEST, locations=[add.LAYOUT], root=tmp_path)
    chosen = [(name, mutant) for body in EXAMPLES for name, mutant in mutants(body)]
    folder = tmp_path / "objects"
    folder.mkdir()
    for index, (_, mutant) in enumerate(chosen):
        (folder / f"{index}.json").write_text(json.dumps(mutant), encoding="utf-8")
    command = [str(kubeconform), "-strict", "-n", "4", "-output", "json", "-verbose", "-kubernetes-version"]
    command += [f"{NEWEST}.0", "-schema-location", str(tmp_path / add.LAYOUT), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    rows = {int(Path(row["filename"]).stem): row for row in json.loads(done.stdout)["resources"]}
    refused = {index for index, row in rows.items() if row["status"] != "statusValid"}
    assert len(rows) == len(chosen)
    assert len(refused) > len(chosen) / 2
    assert not [row["msg"] for row in rows.values() if "could not find schema" in row["msg"]]
    for judge_here in (known, real):
        assert [chosen[index][0] for index in sorted(refused) if not problems(chosen[index][1], judge_here)] == []


def test_no_field_that_a_real_crd_has_is_unknown_to_the_shipped_schema(real: Schemas) -> None:
    missing = [
        f"{kind}: {path}"
        for (api_version, kind), entry in own.kinds().items()
        for path in unknown_fields(entry.schema or {}, real._crds[api_version, kind].schema or {}, "")
    ]
    assert missing == []


def unknown_fields(shipped: Mapping[str, Any], genuine: Mapping[str, Any], path: str) -> Iterator[str]:
    if shipped.get("x-kubernetes-preserve-unknown-fields"):
        return
    ours = shipped.get("properties", {})
    for name, entry in genuine.get("properties", {}).items():
        if not path and name in {"apiVersion", "kind", "metadata"}:
            continue
        if name not in ours:
            yield f"{path}.{name}"
        else:
            yield from unknown_fields(ours[name], entry, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(shipped.get(key), Mapping) and isinstance(genuine.get(key), Mapping):
            yield from unknown_fields(shipped[key], genuine[key], f"{path}[]")
