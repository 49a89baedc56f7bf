"""The excerpt of a file shows the line that is at fault, under its own number, and no value nobody asked for."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from releasegate.evaluate import Cause
from releasegate.model import CaseId, Finding, Manifest, Place, Status
from releasegate.report.terminal import _entry, _snippet
from releasegate.report.text import REDACTED, neighbour, without_secret


def excerpt(root: Path, text: str, line: int, column: int | None = None) -> list[str]:
    (root / "values.yaml").write_text(text, encoding="utf-8")
    place = Place(path="values.yaml", line=line, column=column)
    case = CaseId(rule="images/no-mutable-tag", environment="prod", release="api")
    finding = Finding(message="m", help="h", change="c", place=place)
    cause = Cause(
        id="x",
        rule=case.rule,
        message="m",
        help="h",
        place=place,
        status=Status.NEW,
        entries=((case, finding),),
        cases=(case,),
    )
    return [click.unstyle(one) for one in _snippet(cause, place, root)]


def test_the_line_above_is_shown_without_its_value(tmp_path: Path) -> None:
    shown = excerpt(tmp_path, "database:\n  url: postgres://admin:hunter2@db\n  tag: latest\n", 3, 8)
    assert shown == ["  2 |   url: …", "  3 |   tag: latest", "    |        ^^^^^^"]


def test_a_line_separator_inside_a_value_moves_no_line(tmp_path: Path) -> None:
    shown = excerpt(tmp_path, 'note: "a\u2028b"\nname: api\r\ntag: latest\r\n', 3)
    assert shown == ["  2 | name: api", "  3 | tag: latest"]


def test_the_first_line_has_none_above(tmp_path: Path) -> None:
    assert excerpt(tmp_path, "tag: latest\n", 1, 6) == ["  1 | tag: latest", "    |      ^^^^^^"]


def test_a_line_at_fault_that_is_a_secret_shows_its_key(tmp_path: Path) -> None:
    assert excerpt(tmp_path, "dbPassword: 12345\n", 1) == [f"  1 | dbPassword: {REDACTED}"]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  repository: registry.acme.example/api", "  repository: registry.acme.example/api"),
        ("    - name: DB_PASSWORD", "    - name: DB_PASSWORD"),
        ("      value: hunter2", "      value: …"),
        ("  image:", "  image:"),
        ("# was hunter2 before", "# …"),
        ("  - hunter2", "  - …"),
        ("    a continued hunter2", "     …"),
        ('{"password": "hunter2"}', " …"),
        ('  "token": "hunter2",', '  "token": …'),
        ("", ""),
    ],
)
def test_what_may_be_shown_of_a_neighbour(line: str, shown: str) -> None:
    assert neighbour(line) == shown


@pytest.mark.parametrize("key", ["password", "apiKey", "GITHUB_TOKEN", "client-secret", "private_key"])
def test_keys_that_say_secret(key: str) -> None:
    assert without_secret(f"  {key}: hunter2 # note") == f"  {key}: {REDACTED}"


@pytest.mark.parametrize("line", ["secretName: vault-db", "  name: token", "tag: latest", "tokenPath: /var/run"])
def test_lines_that_only_name_a_secret_are_shown(line: str) -> None:
    assert without_secret(line) == line


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("url: postgres://api:hunter22@db:5432/api", f"url: postgres://api:{REDACTED}@db:5432/api"),
        ('args: ["--smtp-password=hunter22", "-v"]', f'args: ["--smtp-password={REDACTED}", "-v"]'),
        (f"setting: ghp_{'a1' * 18}", f"setting: {REDACTED}"),
        ("url: https://example.org:8080/a", "url: https://example.org:8080/a"),
        ("image: registry.acme.example:5000/api:1.7.3", "image: registry.acme.example:5000/api:1.7.3"),
    ],
)
def test_secrets_inside_a_line(line: str, shown: str) -> None:
    assert without_secret(line) == shown


def test_a_password_written_into_a_template_is_not_printed_with_its_line(tmp_path: Path) -> None:
    template = "env:\n  - name: DATABASE_PASSWORD\n    value: hunter2-s3cret\n"
    (tmp_path / "deployment.yaml").write_text(template)
    container = {"name": "api", "env": [{"name": "DATABASE_PASSWORD", "value": "hunter2-s3cret"}]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "api"}, "spec": {"containers": [container]}}
    finding = Finding(
        message="DATABASE_PASSWORD holds hunter2-s3cret in plain text",
        help="use a Secret",
        change="x",
        manifest=Manifest(body=body, text="", template="deployment.yaml"),
        place=Place(path="deployment.yaml", line=3),
    )
    cause = Cause(
        id="1", rule="a/b", message=finding.message, help="", place=finding.place, status=Status.NEW,
        entries=((CaseId(rule="a/b", environment="prod", release="api"), finding),),
    )  # fmt: skip
    shown = "\n".join(_entry(cause, tmp_path))
    assert "deployment.yaml:3" in shown
    assert "hunter2" not in shown
