"""Argo CD's build environment: `$ARGOCD_APP_NAME` and its like in values files, parameters and file parameters.

Sources of the facts: argo-cd docs/user-guide/build-environment.md, reposerver/repository/repository.go (newEnv),
pkg/apis/application/v1alpha1/types.go (Env.Envsubst), Go's os.Expand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# os.Expand: `${name}`, `$name`, one of the shell's special characters; `${}` and an open `${` are eaten.
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<open>\{)|(?P<special>[*#$@!?\-0-9])|(?P<plain>[A-Za-z0-9_]+))")


class UnknownValue(Exception):
    """A variable whose value the cluster knows and git does not: `str()` is its name."""


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """The variables of one source. A value of None is not known from git."""

    known: Mapping[str, str | None]

    @classmethod
    def of(
        cls, *, name: str, namespace: str, project: str, source: Mapping[str, object], revision: str | None
    ) -> BuildEnvironment:
        """The variables for an Application's source. `namespace` is the destination's, `revision` a whole sha."""

        def said(key: str) -> str:
            value = source.get(key)
            return value if isinstance(value, str) else ""

        return cls(
            {
                "ARGOCD_APP_NAME": name,
                "ARGOCD_APP_NAMESPACE": namespace,
                "ARGOCD_APP_PROJECT_NAME": project or "default",
                "ARGOCD_APP_REVISION": revision,
                "ARGOCD_APP_REVISION_SHORT": revision and revision[:7],
                "ARGOCD_APP_REVISION_SHORT_8": revision and revision[:8],
                "ARGOCD_APP_SOURCE_PATH": said("path"),
                "ARGOCD_APP_SOURCE_REPO_URL": said("repoURL"),
                "ARGOCD_APP_SOURCE_TARGET_REVISION": said("targetRevision"),
            }
        )

    def substituted(self, text: str) -> str:
        """Replace the variables; unknown names become empty, `$$` a dollar. UnknownValue for what git does not know."""
        if "$" not in text:
            return text

        def one(found: re.Match[str]) -> str:
            if found["special"] == "$" or found["braced"] == "$":
                return "$"
            name = found["braced"] or found["plain"] or ""
            value = self.known.get(name, "")
            if value is None:
                raise UnknownValue(name)
            return value

        return _VARIABLE.sub(one, text)


def is_build_variable(text: str) -> bool:
    """Whether a text begins with a variable of Argo CD, or with an escaped dollar."""
    return re.match(r"\$\{?ARGOCD_APP_|\$\$|\$\{?KUBE_(?:VERSION|API_VERSIONS)\b", text) is not None
