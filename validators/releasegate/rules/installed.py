"""Rules from installed packages: entry points of the group `releasegate.rules`, each named by the id of its rule.

    [project.entry-points."releasegate.rules"]
    "labels/team" = "acme_rules.labels.team"

The module is written as our own are (`@rule`, a docstring that is the page). Never from the checked repo: what can be
imported is what whoever runs the check installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from releasegate.rules import Rule, registered
from releasegate.usage import UsageError

GROUP = "releasegate.rules"
ID = re.compile(r"[a-z]+/[a-z0-9]+(?:-[a-z0-9]+)*")
RESERVED = ("expect/", "policies/")


def load(ours: Iterable[Rule]) -> Iterator[Rule]:
    """Yield the rule of each entry point, sorted by id.

    Raises UsageError for one that cannot be imported, is no rule, or has an id that `ours` or another package has: a rule
    that somebody installed and that is not there would be a check that checks less than they believe.
    """
    taken = {one.id: "releasegate" for one in ours}
    for point in sorted(_points(), key=lambda one: (one.name, one.value)):
        origin = _origin(point)
        if point.name in taken:
            raise _refused(point, f"{taken[point.name]} has a rule of that id: rename the module and the entry point")
        taken[point.name] = origin
        yield replace(_rule(point), origin=origin)


def _points() -> Iterable[EntryPoint]:
    """The entry points; one that a path lists twice counts once."""
    return {(one.name, one.value, _origin(one)): one for one in entry_points(group=GROUP)}.values()


def _rule(point: EntryPoint) -> Rule:
    if not ID.fullmatch(point.name) or point.name.startswith(RESERVED):
        raise _refused(point, 'its name is no id: write "category/name", lower case, words joined by -')
    try:
        point.load()
    except (Exception, SystemExit) as error:
        raise _refused(point, f"{type(error).__name__}: {error}") from error
    rule = registered(point.module)
    if rule is None:
        raise _refused(point, f"{point.module} holds no function under @rule")
    if rule.id != point.name:
        raise _refused(point, f"{point.module} is the rule {rule.id}: the last two parts of the module are its id")
    if not rule.doc.strip():
        raise _refused(point, "its function has no docstring, which is its page")
    return rule


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unnamed package"


def _refused(point: EntryPoint, why: str) -> UsageError:
    return UsageError(
        f"the rule {point.name} of the installed package {_origin(point)} cannot be used ({point.value}): {why}. "
        "Mend the package or uninstall it"
    )
