"""What an object refers to, which pods it makes, and what its controller makes: readings of parsed objects.

Layer 0: no I/O, no verdict. Nothing here trusts the shape of what it is given; what has the wrong type is left out, and
is another rule's finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from releasegate import k8s

# --- what an object refers to ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reference:
    """One place of an object that names another object, or a key inside it.

    `pointer` is where the name stands. `key` is what the other object has to hold (a key of its data, a port of a
    Service), and `key_pointer` where that stands; None: any. `namespace` None is the object's own. `optional`: the
    cluster accepts that it is missing.
    """

    pointer: str
    kind: str
    name: str
    key: str | None = None
    key_pointer: str | None = None
    namespace: str | None = None
    optional: bool = False


PodSpecs = Sequence[tuple[str, Mapping[str, Any]]]


def references(body: Mapping[str, Any], specs: PodSpecs) -> Iterator[Reference]:
    """Yield every reference of an object to another by name, where Kubernetes (or the kind's controller) needs it.

    `specs` are its `k8s.pod_specs`. Names that a controller fills in later (`{{inputs.parameters.x}}` of Argo Workflows) are no references yet.
    """
    kind, group = body.get("kind"), k8s.group_of(body.get("apiVersion"))
    for pointer, spec in specs:
        yield from _of_pod(spec, pointer)
    if isinstance(kind, str):
        reader = _READERS.get((group, kind))
        if reader is not None:
            yield from reader(body)


def _reference(value: Any, pointer: str, kind: str, *, field: str = "name", **more: Any) -> Iterator[Reference]:
    """The reference in a mapping that names its target in `field`; nothing where it names none."""
    name = value.get(field) if isinstance(value, Mapping) else None
    if isinstance(name, str) and name and "{{" not in name:
        yield Reference(k8s.join(pointer, field), kind, name, **more)


def _mappings(value: Any, pointer: str, *path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(pointer, item) of the mappings in the list at `path` below a value."""
    for token in path:
        value = value.get(token) if isinstance(value, Mapping) else None
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if isinstance(item, Mapping):
                yield k8s.join(pointer, *path, index), item


def _of_pod(spec: Mapping[str, Any], pointer: str) -> Iterator[Reference]:
    # The API server copies the deprecated serviceAccount to and from serviceAccountName: one of them is enough.
    field = "serviceAccountName" if spec.get("serviceAccountName") else "serviceAccount"
    yield from _reference(spec, pointer, "ServiceAccount", field=field)
    for at, secret in _mappings(spec, pointer, "imagePullSecrets"):
        yield from _reference(secret, at, "Secret")
    for part in ("containers", "initContainers", "ephemeralContainers", "sidecars"):
        for at, container in _mappings(spec, pointer, part):
            yield from _of_container(container, at)
    for part in ("container", "script"):  # Argo Workflows: one container per template
        if isinstance(spec.get(part), Mapping):
            yield from _of_container(spec[part], k8s.join(pointer, part))
    for at, volume in _mappings(spec, pointer, "volumes"):
        yield from _of_volume(volume, at)


_KINDS = {"secret": "Secret", "configMap": "ConfigMap"}


def _of_container(container: Mapping[str, Any], pointer: str) -> Iterator[Reference]:
    for at, entry in _mappings(container, pointer, "envFrom"):
        for word, kind in _KINDS.items():
            source = entry.get(f"{word}Ref")
            yield from _reference(source, k8s.join(at, f"{word}Ref"), kind, optional=_optional(source))
    for at, entry in _mappings(container, pointer, "env"):
        value_from = entry.get("valueFrom")
        if not isinstance(value_from, Mapping):
            continue
        for word, kind in _KINDS.items():
            source = value_from.get(f"{word}KeyRef")
            if isinstance(source, Mapping):
                here = k8s.join(at, "valueFrom", f"{word}KeyRef")
                key = source.get("key")
                key = key if isinstance(key, str) and "{{" not in key else None
                yield from _reference(
                    source, here, kind, key=key, key_pointer=k8s.join(here, "key"), optional=_optional(source)
                )


def _of_volume(volume: Mapping[str, Any], pointer: str) -> Iterator[Reference]:
    for word, kind in _KINDS.items():
        field = "secretName" if word == "secret" else "name"
        yield from _of_items(volume.get(word), k8s.join(pointer, word), kind, field)
    claim = volume.get("persistentVolumeClaim")
    yield from _reference(claim, k8s.join(pointer, "persistentVolumeClaim"), "PersistentVolumeClaim", field="claimName")
    for at, source in _mappings(volume, pointer, "projected", "sources"):
        for word, kind in _KINDS.items():
            yield from _of_items(source.get(word), k8s.join(at, word), kind, "name")
    driver = volume.get("csi")
    if isinstance(driver, Mapping):
        secret = driver.get("nodePublishSecretRef")
        yield from _reference(secret, k8s.join(pointer, "csi", "nodePublishSecretRef"), "Secret")


def _of_items(source: Any, pointer: str, kind: str, field: str) -> Iterator[Reference]:
    """A Secret or ConfigMap as files: the object, and each key that is picked from it."""
    if not isinstance(source, Mapping):
        return
    optional = _optional(source)
    yield from _reference(source, pointer, kind, field=field, optional=optional)
    for at, item in _mappings(source, pointer, "items"):
        key = item.get("key")
        if isinstance(key, str):
            more = {"key": key, "key_pointer": k8s.join(at, "key")}
            yield from _reference(source, pointer, kind, field=field, optional=optional, **more)


def _optional(source: Any) -> bool:
    return isinstance(source, Mapping) and source.get("optional") is True


def _of_account(body: Mapping[str, Any]) -> Iterator[Reference]:
    for at, secret in _mappings(body, "", "imagePullSecrets"):
        yield from _reference(secret, at, "Secret")


def _of_scaler(body: Mapping[str, Any], field: str = "scaleTargetRef") -> Iterator[Reference]:
    spec = body.get("spec")
    target = spec.get(field) if isinstance(spec, Mapping) else None
    if isinstance(target, Mapping):
        kind = target.get("kind") or "Deployment"  # KEDA's default; autoscaling/v2 requires it
        if isinstance(kind, str):
            yield from _reference(target, k8s.join("/spec", field), kind)


def _of_vertical_scaler(body: Mapping[str, Any]) -> Iterator[Reference]:
    yield from _of_scaler(body, "targetRef")


# docs of the AWS Load Balancer Controller, "Ingress annotations", actions: the service name is that of an annotation.
_ACTION = "use-annotation"


def _of_ingress(body: Mapping[str, Any]) -> Iterator[Reference]:
    spec = body.get("spec")
    if not isinstance(spec, Mapping):
        return
    yield from _of_backend(spec.get("defaultBackend"), "/spec/defaultBackend")
    for at, rule in _mappings(spec, "/spec", "rules"):
        for path_at, path in _mappings(rule, at, "http", "paths"):
            yield from _of_backend(path.get("backend"), k8s.join(path_at, "backend"))
    if not ingress_makes_certificate(body):
        for at, entry in _mappings(spec, "/spec", "tls"):
            yield from _reference(entry, at, "Secret", field="secretName")


def _of_backend(backend: Any, pointer: str) -> Iterator[Reference]:
    service = backend.get("service") if isinstance(backend, Mapping) else None
    port = service.get("port") if isinstance(service, Mapping) else None
    if not isinstance(port, Mapping):
        port = {}
    if port.get("name") == _ACTION:
        return
    field = "name" if "name" in port else "number"
    yield from _reference(
        service,
        k8s.join(pointer, "service"),
        "Service",
        key=None if port.get(field) is None else str(port[field]),
        key_pointer=k8s.join(pointer, "service", "port", field),
    )


def _of_route(body: Mapping[str, Any]) -> Iterator[Reference]:
    for at, rule in _mappings(body, "", "spec", "rules"):
        for backend_at, backend in _mappings(rule, at, "backendRefs"):
            if backend.get("group") in (None, "") and backend.get("kind") in (None, "Service"):
                namespace = backend.get("namespace")
                port = backend.get("port")
                yield from _reference(
                    backend,
                    backend_at,
                    "Service",
                    namespace=namespace if isinstance(namespace, str) else None,
                    key=None if port is None else str(port),
                    key_pointer=k8s.join(backend_at, "port"),
                )


def _of_binding(body: Mapping[str, Any]) -> Iterator[Reference]:
    role = body.get("roleRef")
    if isinstance(role, Mapping) and role.get("kind") == "Role":
        yield from _reference(role, "/roleRef", "Role")
    for at, subject in _mappings(body, "", "subjects"):
        namespace = subject.get("namespace")
        if subject.get("kind") == "ServiceAccount" and (namespace is None or isinstance(namespace, str)):
            yield from _reference(subject, at, "ServiceAccount", namespace=namespace)


_ROUTES = ("HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute")
_READERS = {
    ("", "ServiceAccount"): _of_account,
    ("autoscaling", "HorizontalPodAutoscaler"): _of_scaler,
    ("keda.sh", "ScaledObject"): _of_scaler,
    ("autoscaling.k8s.io", "VerticalPodAutoscaler"): _of_vertical_scaler,
    ("networking.k8s.io", "Ingress"): _of_ingress,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _of_binding,
    ("rbac.authorization.k8s.io", "RoleBinding"): _of_binding,
    **{("gateway.networking.k8s.io", kind): _of_route for kind in _ROUTES},
}


# --- what an object selects -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selector:
    """One label selector that has to pick something: `picks` is "pods" or "services".

    `pointer` is where the labels stand. `namespaces` are those it looks into: () its own, None all. `ports` are
    (pointer, name) of named ports that what is picked has to have.
    """

    pointer: str
    labels: Mapping[str, str]
    expressions: tuple[Mapping[str, Any], ...] = ()
    picks: str = "pods"
    namespaces: tuple[str, ...] | None = ()
    ports: tuple[tuple[str, str], ...] = ()

    @property
    def everything(self) -> bool:
        """An empty selector picks all there is."""
        return not self.labels and not self.expressions

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is picked (apimachinery labels.Requirement.Matches)."""
        return all(labels.get(key) == value for key, value in self.labels.items()) and all(
            _meets(labels, one) for one in self.expressions
        )


def _meets(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    key, values = expression.get("key"), expression.get("values")
    values = values if isinstance(values, list | tuple) else ()
    match expression.get("operator"):
        case "In":
            return labels.get(str(key)) in values
        case "NotIn":
            return labels.get(str(key)) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return True  # an unknown operator is schema/valid's finding


def selectors(body: Mapping[str, Any]) -> Iterator[Selector]:
    """Yield the selectors of an object that pick pods or Services; one that picks everything is none."""
    kind, group = body.get("kind"), k8s.group_of(body.get("apiVersion"))
    spec = body.get("spec")
    if not isinstance(spec, Mapping):
        return
    if (group, kind) == ("", "Service"):
        labels = _strings(spec.get("selector"))
        if labels and spec.get("type") != "ExternalName":
            ports = [
                (k8s.join(at, "targetPort"), port.get("targetPort")) for at, port in _mappings(spec, "/spec", "ports")
            ]
            yield Selector("/spec/selector", labels, ports=_named(ports))
    elif kind in ("PodDisruptionBudget", "NetworkPolicy") and group in ("policy", "networking.k8s.io"):
        field = "selector" if kind == "PodDisruptionBudget" else "podSelector"
        yield from _label_selector(spec.get(field), k8s.join("/spec", field))
    elif group == "monitoring.coreos.com" and kind in ("ServiceMonitor", "PodMonitor"):
        pods = kind == "PodMonitor"
        ports = [
            (k8s.join(at, "port"), endpoint.get("port"))
            for at, endpoint in _mappings(spec, "/spec", "podMetricsEndpoints" if pods else "endpoints")
        ]
        yield from _label_selector(
            spec.get("selector"),
            "/spec/selector",
            picks="pods" if pods else "services",
            namespaces=_namespaces(spec.get("namespaceSelector")),
            ports=_named(ports),
        )


def _label_selector(value: Any, pointer: str, **more: Any) -> Iterator[Selector]:
    if isinstance(value, Mapping):
        expressions = tuple(one for _, one in _mappings(value, pointer, "matchExpressions"))
        made = Selector(k8s.join(pointer, "matchLabels"), _strings(value.get("matchLabels")), expressions, **more)
        if not made.everything:
            yield made


def _namespaces(value: Any) -> tuple[str, ...] | None:
    """What a namespaceSelector of the Prometheus operator says (NamespaceSelector: any, matchNames)."""
    if not isinstance(value, Mapping):
        return ()
    if value.get("any") is True:
        return None
    names = value.get("matchNames")
    return tuple(one for one in names if isinstance(one, str)) if isinstance(names, list | tuple) else ()


def _named(ports: Sequence[tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((pointer, port) for pointer, port in ports if isinstance(port, str) and not port.isdigit())


def _strings(value: Any) -> dict[str, str]:
    return {k: v for k, v in value.items() if isinstance(v, str)} if isinstance(value, Mapping) else {}


# --- the pods an object makes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods that one template makes: their labels, and the names of their containers' ports."""

    labels: Mapping[str, str]
    ports: frozenset[str]


# Labels that controllers put on pods: kubernetes.io/docs/reference/labels-annotations-taints, and the Argo Rollouts
# and Job controllers. Which value they have is not known before the pod runs.
RUNTIME_LABELS = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-completion-index",
        "batch.kubernetes.io/job-name",
        "controller-revision-hash",
        "controller-uid",
        "job-name",
        "pod-template-generation",
        "pod-template-hash",
        "rollouts-pod-template-hash",
        "statefulset.kubernetes.io/pod-name",
    }
)


def pods(body: Mapping[str, Any], specs: PodSpecs) -> Iterator[Pods]:
    """Yield what each pod template of an object makes. `specs` are its `k8s.pod_specs`."""
    for pointer, spec in specs:
        above = pointer.rpartition("/")[0]
        try:
            metadata = k8s.resolve(body, f"{above}/metadata")
        except KeyError:
            metadata = {}
        labels = _strings(metadata.get("labels")) if isinstance(metadata, Mapping) else {}
        names = frozenset(
            port["name"]
            for part in ("containers", "initContainers")
            for at, container in _mappings(spec, pointer, part)
            for _, port in _mappings(container, at, "ports")
            if isinstance(port.get("name"), str)
        )
        yield Pods(labels, names)


# --- what an object makes -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Made:
    """An object that is there because of another. `keys` None: what it holds is not known.

    `namespaces`: () that of its maker, None any. `numbered`: a number follows `name` (the claims of a StatefulSet).
    `only_keys`: it adds keys to an object that somebody else makes.
    """

    kind: str
    name: str
    keys: frozenset[str] | None = None
    namespaces: tuple[str, ...] | None = ()
    numbered: bool = False
    only_keys: bool = False


def made(body: Mapping[str, Any]) -> Iterator[Made]:
    """Yield the object itself, and what its controller makes from it."""
    kind, group = body.get("kind"), k8s.group_of(body.get("apiVersion"))
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(kind, str) or not isinstance(name, str):
        return
    yield Made(kind, name, _keys_of(body) if group == "" else None)
    maker = _MAKERS.get((group, kind))
    if maker is not None:
        yield from maker(body, name)
    for made_kind, pointer in _DOCUMENTED.get((group, kind), ()):
        for _, value in k8s.matches(body, pointer):
            if isinstance(value, str) and value:
                yield Made(made_kind, value)


def _keys_of(body: Mapping[str, Any]) -> frozenset[str] | None:
    """What the object holds: keys of a ConfigMap or Secret, ports (names and numbers) of a Service."""
    kind = body.get("kind")
    if kind == "Service":
        spec = body.get("spec")
        if not isinstance(spec, Mapping) or spec.get("type") == "ExternalName":
            return None
        ports = [port for _, port in _mappings(spec, "", "ports")]
        return frozenset(
            str(port[field]) for port in ports for field in ("name", "port") if port.get(field) is not None
        )
    if kind == "ConfigMap":
        return frozenset((*_part(body, "data"), *_part(body, "binaryData")))
    if kind == "Secret":
        # A token controller fills these in (kubernetes.io/docs/concepts/configuration/secret, "Secret types").
        if body.get("type") == "kubernetes.io/service-account-token":
            return None
        return frozenset((*_part(body, "data"), *_part(body, "stringData")))
    return None


def _part(value: Any, *path: str) -> Mapping[str, Any]:
    for token in path:
        value = value.get(token) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _from_external_secret(body: Mapping[str, Any], name: str) -> Iterator[Made]:
    spec = _part(body, "spec")
    target = _part(spec, "target")
    policy = target.get("creationPolicy")
    if policy == "None":  # external-secrets.io, API reference, ExternalSecretTarget: None and Merge never create it
        return
    made_kind = str(_part(target, "manifest").get("kind") or "Secret")
    inner = _text(target.get("name")) or name
    yield Made(made_kind, inner, _external_keys(spec, target), only_keys=policy == "Merge")


def _external_keys(spec: Mapping[str, Any], target: Mapping[str, Any]) -> frozenset[str] | None:
    """The keys an ExternalSecret writes; None where they are decided by what the store holds."""
    template = _part(target, "template")
    if template.get("templateFrom"):
        return None
    fetched = {_text(entry.get("secretKey")) for _, entry in _mappings(spec, "", "data")}
    if template.get("data") and template.get("mergePolicy") != "Merge":
        return frozenset(_part(template, "data"))
    if spec.get("dataFrom"):
        return None
    return frozenset({*fetched, *_part(template, "data")})


def _from_cluster_external_secret(body: Mapping[str, Any], name: str) -> Iterator[Made]:
    spec = _part(body, "spec")
    inner = _text(spec.get("externalSecretName")) or name
    namespaces = spec.get("namespaces")
    listed = (
        tuple(one for one in namespaces if isinstance(one, str))
        if isinstance(namespaces, list) and not spec.get("namespaceSelector") and not spec.get("namespaceSelectors")
        else None
    )
    for one in _from_external_secret({"spec": _part(spec, "externalSecretSpec")}, inner):
        yield replace(one, namespaces=listed)


def _from_certificate(body: Mapping[str, Any], _name: str) -> Iterator[Made]:
    secret = _text(_part(body, "spec").get("secretName"))
    if secret:
        yield Made("Secret", secret)


CERTIFICATE_ANNOTATIONS = (  # cert-manager.io/docs/usage/ingress, "Supported Annotations"
    "cert-manager.io/issuer",
    "cert-manager.io/cluster-issuer",
    "kubernetes.io/tls-acme",
)


def ingress_makes_certificate(body: Mapping[str, Any]) -> bool:
    """Whether cert-manager's ingress-shim makes the Secrets that the Ingress names under `tls`."""
    annotations = _part(body, "metadata", "annotations")
    return any(annotations.get(key) not in (None, "", "false") for key in CERTIFICATE_ANNOTATIONS)


def _from_ingress(body: Mapping[str, Any], _name: str) -> Iterator[Made]:
    if ingress_makes_certificate(body):
        for _, entry in _mappings(body, "", "spec", "tls"):
            if _text(entry.get("secretName")):
                yield Made("Secret", entry["secretName"])


def _from_sealed_secret(body: Mapping[str, Any], name: str) -> Iterator[Made]:
    spec = _part(body, "spec")
    keys = frozenset((*_part(spec, "encryptedData"), *_part(spec, "template", "data")))
    yield Made("Secret", _text(_part(spec, "template", "metadata").get("name")) or name, keys)


def _from_stateful_set(body: Mapping[str, Any], name: str) -> Iterator[Made]:
    for _, claim in _mappings(body, "", "spec", "volumeClaimTemplates"):
        template = _text(_part(claim, "metadata").get("name"))
        if template:
            yield Made("PersistentVolumeClaim", f"{template}-{name}-", numbered=True)


def _from_secret_provider(body: Mapping[str, Any], _name: str) -> Iterator[Made]:
    for _, entry in _mappings(body, "", "spec", "secretObjects"):
        if _text(entry.get("secretName")):
            keys = frozenset(_text(one.get("key")) for _, one in _mappings(entry, "", "data"))
            yield Made("Secret", entry["secretName"], keys)


def _from_cnpg_cluster(_body: Mapping[str, Any], name: str) -> Iterator[Made]:
    # cloudnative-pg.io/documentation, "Connecting from an application" and "Certificates".
    for end in ("app", "superuser", "ca", "server", "replication"):
        yield Made("Secret", f"{name}-{end}")
    for end in ("rw", "ro", "r"):
        yield Made("Service", f"{name}-{end}")


def _from_bundle(_body: Mapping[str, Any], name: str) -> Iterator[Made]:
    # cert-manager.io/docs/trust/trust-manager: the target has the Bundle's name, in every namespace it selects.
    yield Made("ConfigMap", name, namespaces=None)
    yield Made("Secret", name, namespaces=None)


_MAKERS = {
    ("apps", "StatefulSet"): _from_stateful_set,
    ("bitnami.com", "SealedSecret"): _from_sealed_secret,
    ("cert-manager.io", "Certificate"): _from_certificate,
    ("external-secrets.io", "ClusterExternalSecret"): _from_cluster_external_secret,
    ("external-secrets.io", "ExternalSecret"): _from_external_secret,
    ("networking.k8s.io", "Ingress"): _from_ingress,
    ("postgresql.cnpg.io", "Cluster"): _from_cnpg_cluster,
    ("secrets-store.csi.x-k8s.io", "SecretProviderClass"): _from_secret_provider,
    ("trust.cert-manager.io", "Bundle"): _from_bundle,
}

# Controllers whose documentation says which field names what they make. Vault Secrets Operator: API reference,
# Destination. 1Password operator: usage guide. Infisical, Doppler, Bitwarden operators: their CRD examples.
# Azure Key Vault to Kubernetes: "akv secret". Strimzi: KafkaUser. RabbitMQ operators: default-user Secret. ECK: "-es-".
_DOCUMENTED: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("secrets.hashicorp.com", "VaultStaticSecret"): (("Secret", "/spec/destination/name"),),
    ("secrets.hashicorp.com", "VaultDynamicSecret"): (("Secret", "/spec/destination/name"),),
    ("secrets.hashicorp.com", "VaultPKISecret"): (("Secret", "/spec/destination/name"),),
    ("secrets.hashicorp.com", "HCPVaultSecretsApp"): (("Secret", "/spec/destination/name"),),
    ("onepassword.com", "OnePasswordItem"): (("Secret", "/metadata/name"),),
    ("secrets.infisical.com", "InfisicalSecret"): (("Secret", "/spec/managedSecretReference/secretName"),),
    ("secrets.doppler.com", "DopplerSecret"): (("Secret", "/spec/managedSecret/name"),),
    ("k8s.bitwarden.com", "BitwardenSecret"): (("Secret", "/spec/secretName"),),
    ("spv.no", "AzureKeyVaultSecret"): (("Secret", "/spec/output/secret/name"),),
    ("isindir.github.com", "SopsSecret"): (("Secret", "/spec/secretTemplates/*/name"),),
    ("kafka.strimzi.io", "KafkaUser"): (("Secret", "/metadata/name"),),
}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
