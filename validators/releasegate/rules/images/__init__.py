"""Does every image name one build for ever?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from releasegate import k8s
from releasegate.model import Manifest, Rendered
from releasegate.rules import Evidence


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """One place of a rendered object that names an image."""

    manifest: Manifest
    image: k8s.ImageUse

    @property
    def where(self) -> str:
        """`container app of Deployment api`, for messages."""
        image = self.image
        if image.role == "field":
            part = f"field {image.pointer}"
        else:
            part = f"{_ROLES[image.role]} {image.container or 'without name'}"
        return f"{part} of {self.manifest.kind} {self.manifest.name}"


_ROLES = {
    "container": "container",
    "initContainer": "init container",
    "ephemeralContainer": "ephemeral container",
    "volume": "image volume",
}


def uses(evidence: Evidence) -> Sequence[Use]:
    """Every use of an image in the render: pod specs of any kind, image volumes, fields of custom resources."""
    fields = evidence.config.images_fields
    return [use for rendered in evidence.rendered for use in _uses(rendered, fields)]


def _uses(rendered: Rendered, fields: Mapping[str, Sequence[str]]) -> Sequence[Use]:
    """The uses in one render; those of the last one are kept, since the rules ask for them one after the other."""
    if not _last or _last[0] is not rendered or _last[1] is not fields:
        found = [Use(manifest, image) for manifest in rendered.manifests for image in k8s.images(manifest.body, fields)]
        _last[:] = rendered, fields, found
    return cast("Sequence[Use]", _last[2])


_last: list[object] = []
