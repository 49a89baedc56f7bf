"""`make docs`: the pages that are made from code. CI compares them with what is committed."""

from __future__ import annotations

from pathlib import Path

from releasegate.report import page
from releasegate.rules import catalogue

DOCS = Path(__file__).resolve().parents[1] / "docs"
INTRODUCTION = """\
# Rules

Made by `make docs` from the rules themselves; `releasegate explain ID` prints the same. A *fact* is always on. A *policy*
has a level per environment (`on`, `advise`, `off`): `[rules]` and `[environments.<name>] rules` in `releasegate.toml`.
"""


def main() -> None:
    """Write docs/rules.md."""
    rules = [one for one in catalogue() if one.origin is None]  # not what happens to be installed here
    table = "\n".join(f"| [{one.id}](#{one.id.replace('/', '')}) | {one.kind} | {one.summary} |" for one in rules)
    parts = [INTRODUCTION, f"| rule | | keeps |\n|---|---|---|\n{table}\n", *(page.markdown(one) for one in rules)]
    DOCS.mkdir(exist_ok=True)
    (DOCS / "rules.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
