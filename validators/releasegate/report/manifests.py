"""What `releasegate render` prints: the judged manifests, Secret values redacted."""

from __future__ import annotations

from releasegate import yamlio
from releasegate.model import Rendered
from releasegate.report.text import redacted


def text(rendered: Rendered) -> str:
    """Return the render as a YAML stream, each document under the file it comes from."""
    parts = []
    for manifest in rendered.manifests:
        shown = redacted(manifest.body)
        whole = shown is manifest.body and not manifest.within
        body = manifest.text.strip("\n") if whole else yamlio.dump(shown).strip("\n")
        parts.append(f"---\n# Source: {manifest.template or manifest.path}\n{body}\n")
    return "".join(parts)
