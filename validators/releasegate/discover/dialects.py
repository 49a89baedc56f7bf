"""The two template dialects of ApplicationSets: fasttemplate's `{{name}}`, and Go templates with `goTemplate: true`.

Sources of the facts: argo-cd applicationset/utils/utils.go (Replace, deeplyReplace); docs/operator-manual/
applicationset/{Template,GoTemplate}.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from releasegate.discover import gotemplate
from releasegate.discover.gofunctions import TemplateError

Parameters = Mapping[str, Any]
_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_OPTIONS = frozenset({"default", "invalid", "zero", "error"})


class NotEvaluated(Exception):
    """What of an ApplicationSet cannot be evaluated; `remedy` says what to do about it."""

    def __init__(self, reason: str, remedy: str = "write the Applications out, or use a list or git generator") -> None:
        """Keep reason and remedy."""
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the texts of one ApplicationSet are filled in. `strict`: goTemplateOptions has missingkey=error."""

    go: bool
    strict: bool = False
    budget: gotemplate.Budget = field(default_factory=gotemplate.Budget)

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Dialect:
        """The dialect an ApplicationSet's spec asks for; NotEvaluated for an option Go does not have."""
        options = spec.get("goTemplateOptions") or []
        strict = False
        for option in options if isinstance(options, list) else [options]:
            name, _, value = option.partition("=") if isinstance(option, str) else ("", "", "")
            if name != "missingkey" or value not in _OPTIONS:
                raise NotEvaluated(
                    f"goTemplateOptions has {option!r}, which Go refuses",
                    'write goTemplateOptions: ["missingkey=error"]',
                )
            strict = value == "error"
        return cls(go=spec.get("goTemplate") is True, strict=strict)

    def text(self, text: str, parameters: Parameters) -> str:
        """Fill in one text. fasttemplate leaves a name it does not know as it is written; Go may write `<no value>`."""
        if "{{" not in text:
            return text
        if not self.go:
            return _ACTION.sub(lambda found: _fast(found, parameters), text)
        try:
            return gotemplate.render(text, parameters, strict=self.strict, budget=self.budget)
        except TemplateError as error:
            raise NotEvaluated(
                f"its template {error}", "mend the template, set the parameter in the generator, or write it out"
            ) from error

    def value(self, value: Any, parameters: Parameters) -> Any:
        """Fill in every string of a value, keys too."""
        if isinstance(value, str):
            return self.text(value, parameters)
        if isinstance(value, Mapping):
            return {self.text(key, parameters): self.value(one, parameters) for key, one in value.items()}
        if isinstance(value, list):
            return [self.value(one, parameters) for one in value]
        return value


def _fast(found: re.Match[str], parameters: Parameters) -> str:
    value = parameters.get(found[1].strip())
    return value if isinstance(value, str) else found[0]
