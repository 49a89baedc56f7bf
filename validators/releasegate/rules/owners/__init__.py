"""Is whoever has to approve a change asked for it?"""

from __future__ import annotations

from releasegate.discover.owners import Located, locate, tree_path
from releasegate.model import Place
from releasegate.rules import Evidence


def located(evidence: Evidence) -> Located:
    """The CODEOWNERS file of the judged tree, read once for all cases of a run."""
    return evidence.shared.once("owners", lambda: locate(evidence.shared.top))


def place(evidence: Evidence, path: str, line: int | None = None, column: int | None = None) -> Place:
    """The place of a line of a file that is named from the top of the repository."""
    return Place(path=tree_path(path, evidence.repo.tree.prefix), line=line, column=column)
