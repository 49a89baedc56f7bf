"""Which Prometheus servers a render holds, and which files each of them sees.

A server is a container that is started with `--config.file`, or that runs the official image; or a Prometheus object of the
operator. What is mounted from elsewhere (a claim, a Secret, a ConfigMap that is not rendered) is not known, and
nothing is said about it.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releasegate import k8s
from releasegate.discover.files import single_level
from releasegate.model import Manifest, Rendered

_CONFIG_FILE = "--config.file"
_DEFAULT_CONFIG = "/etc/prometheus/prometheus.yml"  # of the image's own command line (Dockerfile)
_IMAGES = re.compile(r"(?:^|/)(?:prom|prometheus)/prometheus$")
_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, eq=False)
class MountedFile:
    """A key of a rendered ConfigMap that a container sees as a file."""

    path: str
    manifest: Manifest
    rendered: Rendered
    pointer: str
    text: str

    @property
    def key(self) -> str:
        """The key that holds it."""
        return k8s.split(self.pointer)[-1]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Server:
    """One Prometheus. `pointer` is where its version is written: its image, or the operator's `version`.

    `files` are those it certainly sees; `unknown` the mount paths nobody here can look into. `official`: its image
    brings no rule files of its own.
    """

    manifest: Manifest
    rendered: Rendered
    pointer: str
    value: str
    version: tuple[int, int, int] | None
    config: str | None = None
    files: Mapping[str, MountedFile] = field(default_factory=dict)
    mounts: Sequence[str] = ()
    unknown: Sequence[str] = ()
    official: bool = False

    def matches(self, pattern: str) -> list[MountedFile] | None:
        """The files that an entry of `rule_files` matches; None where that cannot be known."""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self.config or "/"), pattern))
        wanted = single_level(path)
        found = [file for name, file in self.files.items() if wanted.fullmatch(name)]
        if found:
            return found
        folder = _fixed(path)
        if any(_inside(mount, folder) for mount in self.unknown):
            return None  # something is mounted below the folder
        around = [mount for mount in self.mounts if _inside(folder, mount) or _inside(path, mount)]
        if not around:
            return [] if self.official else None
        return None if max(around, key=len) in self.unknown else []


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _fixed(pattern: str) -> str:
    fixed: list[str] = []
    for part in posixpath.dirname(pattern).split("/"):
        if any(char in part for char in "*?[\\"):
            break
        fixed.append(part)
    return "/".join(fixed) or "/"


def servers(renders: Iterable[Rendered]) -> list[Server]:
    """Every Prometheus in the renders of one environment."""
    renders = list(renders)
    maps: dict[tuple[str, str | None, str], tuple[Manifest, Rendered]] = {}
    for rendered in renders:
        for manifest in rendered.manifests:
            if manifest.kind == "ConfigMap" and manifest.name:
                maps[(cluster_of(rendered), namespace_of(manifest, rendered), manifest.name)] = manifest, rendered
    found: list[Server] = []
    for rendered in renders:
        for manifest in rendered.manifests:
            if manifest.kind == "Prometheus" and k8s.group_of(manifest.api_version) == "monitoring.coreos.com":
                found += _operated(manifest, rendered)
            else:
                for pointer, spec in k8s.pod_specs(manifest.body):
                    found += _in_pod(manifest, rendered, pointer, spec, maps)
    return found


def texts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield (pointer, text) of each key of a ConfigMap: `data`, and what of `binaryData` is base64 of UTF-8.

    A container sees both as files (https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-object).
    """
    for name in ("data", "binaryData"):
        held = manifest.body.get(name)
        for key, value in held.items() if isinstance(held, Mapping) else ():
            text = value if name == "data" else _decoded(value)
            if isinstance(text, str):
                yield k8s.join("", name, key), text


def _decoded(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        # As Go's decoder: line breaks inside are skipped, nothing else is.
        return base64.b64decode(re.sub(r"[\r\n]", "", value), validate=True).decode("utf-8-sig")
    except ValueError:
        return None  # a picture; or no base64, which schema/valid and the API server refuse


def namespace_of(manifest: Manifest, rendered: Rendered) -> str | None:
    """Where the object ends up."""
    return manifest.namespace or rendered.release.namespace


def cluster_of(rendered: Rendered) -> str:
    """The destination cluster, one spelling each; "" where no Application names one."""
    application = rendered.release.application
    if application is None:
        return ""
    told = application.destination.get("server") or application.destination.get("name") or ""
    # argo-cd docs/operator-manual/declarative-setup.md: the cluster Argo CD runs in, by address and by name.
    return "" if told in {"https://kubernetes.default.svc", "in-cluster"} else str(told)


def _operated(manifest: Manifest, rendered: Rendered) -> Iterator[Server]:
    spec = manifest.body.get("spec")
    for key in ("version", "image"):
        value = spec.get(key) if isinstance(spec, Mapping) else None
        if isinstance(value, str):
            version = version_of(value if key == "version" else _tag(value))
            yield Server(manifest=manifest, rendered=rendered, pointer=f"/spec/{key}", value=value, version=version)
            return


def _in_pod(
    manifest: Manifest,
    rendered: Rendered,
    pointer: str,
    spec: Mapping[str, Any],
    maps: Mapping[tuple[str, str | None, str], tuple[Manifest, Rendered]],
) -> Iterator[Server]:
    volumes = {str(one.get("name")): one for one in _mappings(spec.get("volumes"))}
    for index, container in enumerate(_list(spec.get("containers"))):
        if not isinstance(container, Mapping):
            continue
        image = container.get("image")
        image = image if isinstance(image, str) else ""
        official = _IMAGES.search(_repository(image)) is not None
        told = _config_file(container)
        if told is None and not official:
            continue
        files: dict[str, MountedFile] = {}
        mounts: list[str] = []
        unknown: list[str] = []
        for mount in _mappings(container.get("volumeMounts")):
            path = posixpath.normpath(str(mount.get("mountPath") or "/"))
            mounts.append(path)
            volume = volumes.get(str(mount.get("name")), {})
            seen = _files_of(volume, cluster_of(rendered), namespace_of(manifest, rendered), maps)
            if seen is None:
                unknown.append(path)
                continue
            inside = str(mount.get("subPath") or "")
            for name, (holder, owner, pointer_of, text) in seen.items():
                at = path if name == inside else posixpath.join(path, name) if not inside else None
                if at is not None:
                    files[at] = MountedFile(at, holder, owner, pointer_of, text)
        yield Server(
            manifest=manifest,
            rendered=rendered,
            pointer=k8s.join(pointer, "containers", index, "image"),
            value=image,
            version=version_of(_tag(image)) if official else None,
            config=told or _DEFAULT_CONFIG,
            files=files,
            mounts=mounts,
            unknown=unknown,
            official=official,
        )


_Seen = dict[str, tuple[Manifest, Rendered, str, str]]


def _files_of(
    volume: Mapping[str, Any],
    cluster: str,
    namespace: str | None,
    maps: Mapping[tuple[str, str | None, str], tuple[Manifest, Rendered]],
) -> _Seen | None:
    """The files of a volume; None where not all of it is rendered here."""
    sources: list[Any] = []
    if isinstance(volume.get("configMap"), Mapping):
        sources = [volume["configMap"]]
    elif isinstance(volume.get("projected"), Mapping):
        sources = [one.get("configMap") for one in _mappings(volume["projected"].get("sources"))]
    if not sources:
        return None
    made: _Seen = {}
    for source in sources:
        held = maps.get((cluster, namespace, str(source.get("name")))) if isinstance(source, Mapping) else None
        if held is None:
            return None
        manifest, rendered = held
        keys = {k8s.split(at)[-1]: (at, text) for at, text in texts(manifest)}
        items = _mappings(source.get("items"))
        for key, path in [(str(one.get("key")), str(one.get("path"))) for one in items] or [(key, key) for key in keys]:
            if key in keys:
                made[posixpath.normpath(path)] = manifest, rendered, *keys[key]
    return made


def _config_file(container: Mapping[str, Any]) -> str | None:
    words = [str(one) for key in ("command", "args") for one in _list(container.get(key))]
    for number, word in enumerate(words):
        if word.startswith(f"{_CONFIG_FILE}="):
            return posixpath.normpath(word.partition("=")[2])
        if word == _CONFIG_FILE and number + 1 < len(words):
            return posixpath.normpath(words[number + 1])
    return None


def _repository(image: str) -> str:
    try:
        return k8s.ImageRef.parse(image).name
    except ValueError:
        return ""


def _tag(image: str) -> str:
    try:
        return k8s.ImageRef.parse(image).tag or ""
    except ValueError:
        return ""


def version_of(text: str) -> tuple[int, int, int] | None:
    """(3, 16, 0) of "v3.16.0" or "3.16.0-distroless"; None for what is no version."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found is not None else None


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in _list(value) if isinstance(one, Mapping)]
