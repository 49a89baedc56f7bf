"""One YAML document -> the objects it holds. Used wherever manifests are read: renders, plain files, lint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from releasegate import k8s, yamlio
from releasegate.model import Manifest

CRD_KIND = "CustomResourceDefinition"


def manifests_of(
    document: yamlio.Document, *, template: str | None = None, path: str | None = None
) -> list[Manifest] | str:
    """Return the objects of one YAML document (a List is expanded), or what it is instead of an object."""
    if not isinstance(document.value, Mapping):
        return f"a {type(document.value).__name__}"
    whole = Manifest(
        body=document.value,
        text=document.text,
        template=template,
        path=path,
        line=document.line,
        problems=document.problems,
    )
    expanded = k8s.expand_lists(document.value)
    if len(expanded) == 1 and expanded[0][1] is document.value:
        return [whole]
    return [
        replace(whole, body=body, within=pointer, problems=document.problems if index == 0 else ())
        for index, (pointer, body) in enumerate(expanded)
        if isinstance(body, Mapping)
    ]
