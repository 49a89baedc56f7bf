"""Write docs/rules.md from the rules' docstrings. `make docs` runs it; CI fails when the page is not what it writes."""

from __future__ import annotations

from pathlib import Path

from releasegate.report import page
from releasegate.rules import catalogue

PAGE = Path(__file__).parents[1] / "docs" / "rules.md"
HEAD = "<!-- made by `make docs` from the rules' docstrings; edit those -->\n\n# Rules\n\n"


def main() -> None:
    """Write the page."""
    index = "".join(f"- [`{one.id}`](#{one.id.replace('/', '')}): {one.summary}\n" for one in catalogue())
    PAGE.write_text(HEAD + index + "".join(f"\n{page.markdown(one)}" for one in catalogue()), encoding="utf-8")


if __name__ == "__main__":
    main()
