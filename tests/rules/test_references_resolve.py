"""references/resolve: what objects name and select is there."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from releasegate import evaluate, yamlio
from releasegate.config import Config, Producer
from releasegate.model import (
    Application,
    CaseId,
    Environment,
    Finding,
    Level,
    Manifest,
    Outcome,
    Release,
    Rendered,
    Repo,
    Tree,
    Unjudged,
    Unrendered,
    Verdict,
)
from releasegate.rules import Evidence, Shared, catalogue

RULE = next(one for one in catalogue() if one.id == "references/resolve")
Body = Mapping[str, Any]


def yaml(text: str) -> list[Body]:
    return [one.value for one in yamlio.documents(textwrap.dedent(text))]


def release(name: str = "api", namespace: str | None = "shop", server: str = "https://here.example") -> Release:
    """A release; without namespace no Application says where it goes."""
    application = None
    if namespace is not None:
        destination = {"server": server, "namespace": namespace}
        application = Application(name=name, namespace="argocd", project="p", destination=destination, place=None)
    return Release(
        name=name,
        environment="prod",
        helm_release=name,
        namespace=namespace or "default",
        sources=(),
        application=application,
    )


def rendered(*bodies: Body, of: Release | None = None) -> Rendered:
    manifests = tuple(Manifest(body=one, text="", template=f"t/{index}.yaml") for index, one in enumerate(bodies))
    return Rendered(release=of or release(), manifests=manifests)


def evidence(*renders: Rendered | Unrendered, config: Config | None = None) -> Evidence:
    environment = Environment(name="prod", protected=True, kubernetes="1.37", why="test")
    repo = Repo(tree=Tree(root="/", files=()), environments=(environment,), releases=())
    return Evidence(
        repo=repo,
        config=config or Config(),
        environment=environment,
        release=None,
        renders=renders,
        shared=Shared(repo.tree),
    )


def verdict(*renders: Rendered | Unrendered, config: Config | None = None) -> Verdict:
    case = CaseId(rule=RULE.id, environment="prod")
    return evaluate.judge(RULE, case, evidence(*renders, config=config), Level.ON)


def messages(*bodies: Body, config: Config | None = None) -> list[str]:
    return [one.message for one in verdict(rendered(*bodies), config=config).findings]


def pod_of(text: str, labels: str = "app: api", name: str = "api", kind: str = "Deployment") -> Body:
    """A workload whose pod spec is the YAML in `text`."""
    (body,) = yaml(f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n")
    (spec,) = yaml(text)
    return {**body, "spec": {"template": {"metadata": {"labels": yaml(labels)[0]}, "spec": spec}}}


READS_PASSWORD = pod_of(
    """
    containers:
      - name: api
        env:
          - name: PASSWORD
            valueFrom: {secretKeyRef: {name: api-db, key: password}}
    """
)


def made(kind: str, name: str, api_version: str = "v1", **more: Any) -> Body:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **more}


SECRET = made("Secret", "api-db", data={"password": "eA=="})


def test_the_bad_example_of_the_page_is_bad_and_the_good_one_good() -> None:
    bad, good = RULE.doc.split("Bad:", 1)[1].split("Good:", 1)
    assert messages(*yaml(bad)) == ["Service api selects no pod in namespace shop: none has app=ap"]
    assert messages(*yaml(good)) == []
    assert verdict(rendered(*yaml(good))).subjects == 1


# --- what is needed -----------------------------------------------------------------------------------------------------

NEEDS = {
    "a Secret's key in env": ("containers: [{env: [{valueFrom: {secretKeyRef: {name: x, key: k}}}]}]", "Secret"),
    "a ConfigMap's key in env": (
        "containers: [{env: [{valueFrom: {configMapKeyRef: {name: x, key: k}}}]}]",
        "ConfigMap",
    ),
    "all of a Secret": ("containers: [{envFrom: [{secretRef: {name: x}}]}]", "Secret"),
    "all of a ConfigMap": ("initContainers: [{envFrom: [{configMapRef: {name: x}}]}]", "ConfigMap"),
    "a Secret as files": ("volumes: [{secret: {secretName: x}}]", "Secret"),
    "a ConfigMap as files": ("volumes: [{configMap: {name: x}}]", "ConfigMap"),
    "a projected Secret": ("volumes: [{projected: {sources: [{secret: {name: x}}]}}]", "Secret"),
    "a projected ConfigMap": ("volumes: [{projected: {sources: [{configMap: {name: x}}]}}]", "ConfigMap"),
    "a claim": ("volumes: [{persistentVolumeClaim: {claimName: x}}]", "PersistentVolumeClaim"),
    "a pull secret": ("imagePullSecrets: [{name: x}]", "Secret"),
    "an account": ("serviceAccountName: x", "ServiceAccount"),
    "an account by its old name": ("serviceAccount: x", "ServiceAccount"),
    "a secret of a CSI driver": ("volumes: [{csi: {driver: d, nodePublishSecretRef: {name: x}}}]", "Secret"),
}


@pytest.mark.parametrize(("spec", "kind"), NEEDS.values(), ids=list(NEEDS))
def test_what_a_pod_needs_is_there_or_is_a_finding(spec: str, kind: str) -> None:
    workload = pod_of(spec)
    assert messages(workload) == [f"Deployment api needs {kind} x, which nothing makes in namespace shop"]
    data: dict[str, Any] = {"data": {"k": "v"}} if kind in ("Secret", "ConfigMap") else {}
    assert messages(workload, made(kind, "x", **data)) == []


OPTIONAL = {
    "in env": "containers: [{env: [{valueFrom: {secretKeyRef: {name: x, key: k, optional: true}}}]}]",
    "all of it": "containers: [{envFrom: [{configMapRef: {name: x, optional: true}}]}]",
    "as files": "volumes: [{secret: {secretName: x, optional: true, items: [{key: k, path: p}]}}]",
    "projected": "volumes: [{projected: {sources: [{configMap: {name: x, optional: true}}]}}]",
}


@pytest.mark.parametrize("spec", OPTIONAL.values(), ids=list(OPTIONAL))
def test_what_is_optional_may_be_missing(spec: str) -> None:
    assert messages(pod_of(spec)) == []
    assert verdict(rendered(pod_of(spec))).subjects > 0
    assert messages(pod_of(spec.replace("optional: true", "optional: false"))) != []


@pytest.mark.parametrize(
    ("kind", "api_version", "spec"),
    [
        ("CronJob", "batch/v1", {"jobTemplate": {"spec": {"template": {"spec": {"serviceAccountName": "x"}}}}}),
        ("Job", "batch/v1", {"template": {"spec": {"serviceAccountName": "x"}}}),
        ("StatefulSet", "apps/v1", {"template": {"spec": {"serviceAccountName": "x"}}}),
        ("Pod", "v1", {"serviceAccountName": "x"}),
        (
            "Rollout",
            "argoproj.io/v1alpha1",
            {"template": {"spec": {"serviceAccountName": "x", "containers": [{"name": "a"}]}}},
        ),
    ],
)
def test_every_kind_with_pods_is_read(kind: str, api_version: str, spec: Any) -> None:
    assert messages(made(kind, "a", api_version, spec=spec)) == [
        f"{kind} a needs ServiceAccount x, which nothing makes in namespace shop"
    ]


OTHERS = {
    "autoscaler": (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "{scaleTargetRef: {kind: Deployment, name: x}}",
        "Deployment",
    ),
    "KEDA": ("keda.sh/v1alpha1", "ScaledObject", "{scaleTargetRef: {name: x}}", "Deployment"),
    "vertical": (
        "autoscaling.k8s.io/v1",
        "VerticalPodAutoscaler",
        "{targetRef: {kind: StatefulSet, name: x}}",
        "StatefulSet",
    ),
    "ingress backend": (
        "networking.k8s.io/v1",
        "Ingress",
        "{rules: [{http: {paths: [{backend: {service: {name: x}}}]}}]}",
        "Service",
    ),
    "ingress default": ("networking.k8s.io/v1", "Ingress", "{defaultBackend: {service: {name: x}}}", "Service"),
    "ingress certificate": ("networking.k8s.io/v1", "Ingress", "{tls: [{secretName: x}]}", "Secret"),
    "route": ("gateway.networking.k8s.io/v1", "HTTPRoute", "{rules: [{backendRefs: [{name: x}]}]}", "Service"),
}


@pytest.mark.parametrize(("api_version", "kind", "spec", "target"), OTHERS.values(), ids=list(OTHERS))
def test_other_kinds_name_what_is_there(api_version: str, kind: str, spec: str, target: str) -> None:
    body = made(kind, "a", api_version, spec=yaml(spec)[0])
    assert messages(body) == [f"{kind} a needs {target} x, which nothing makes in namespace shop"]
    group = "apps/v1" if target in ("Deployment", "StatefulSet") else "v1"
    assert messages(body, made(target, "x", group)) == []


def test_a_role_binding_names_a_role_and_accounts_that_are_there() -> None:
    binding = made(
        "RoleBinding",
        "a",
        "rbac.authorization.k8s.io/v1",
        roleRef={"kind": "Role", "name": "reader"},
        subjects=[{"kind": "ServiceAccount", "name": "api"}, {"kind": "Group", "name": "people"}],
    )
    assert len(messages(binding)) == 2
    assert (
        messages(binding, made("Role", "reader", "rbac.authorization.k8s.io/v1"), made("ServiceAccount", "api")) == []
    )


def test_a_subject_in_a_namespace_this_repo_puts_nothing_into_is_not_ours() -> None:
    subjects = [{"kind": "ServiceAccount", "name": "api", "namespace": "kube-system"}]
    binding = made("ClusterRoleBinding", "a", "rbac.authorization.k8s.io/v1", subjects=subjects)
    assert verdict(rendered(binding)).outcome is Outcome.NOT_APPLICABLE
    other = rendered(made("ConfigMap", "x"), of=release("system", "kube-system"))
    (found,) = verdict(rendered(binding), other).findings
    assert "in namespace kube-system" in found.message


def test_what_every_namespace_has_is_there() -> None:
    spec = "{serviceAccountName: default, volumes: [{configMap: {name: kube-root-ca.crt, items: [{key: ca.crt}]}}]}"
    assert messages(pod_of(spec)) == []
    assert verdict(rendered(pod_of(spec))).subjects == 3


def test_a_name_that_a_controller_fills_in_later_is_no_reference() -> None:
    assert messages(pod_of("volumes: [{secret: {secretName: '{{inputs.parameters.secret}}'}}]")) == []


# --- keys and ports -------------------------------------------------------------------------------------------------


def test_a_key_that_the_object_does_not_have_is_named_with_the_nearest() -> None:
    (found,) = verdict(rendered(READS_PASSWORD, made("Secret", "api-db", stringData={"pasword": "x"}))).findings
    assert found.message == "Deployment api needs key password of Secret api-db, which has no such key"
    assert found.help == "did you mean pasword?"
    assert found.pointer == "/spec/template/spec/containers/0/env/0/valueFrom/secretKeyRef/key"


def test_a_file_picked_from_a_config_map_is_one_of_its_keys() -> None:
    workload = pod_of("volumes: [{configMap: {name: x, items: [{key: a.yaml, path: a}, {key: b.bin, path: b}]}}]")
    assert messages(workload, made("ConfigMap", "x", data={"a.yaml": ""}, binaryData={"b.bin": ""})) == []
    assert messages(workload, made("ConfigMap", "x", data={"a.yaml": ""})) == [
        "Deployment api needs key b.bin of ConfigMap x, which has no such key"
    ]


def test_an_ingress_names_a_port_of_the_service_by_name_or_number() -> None:
    service = made("Service", "api", spec={"ports": [{"name": "http", "port": 80}]})
    for port, good in (
        ({"name": "http"}, True),
        ({"number": 80}, True),
        ({"name": "web"}, False),
        ({"number": 8080}, False),
    ):
        backend = {"service": {"name": "api", "port": port}}
        ingress = made("Ingress", "a", "networking.k8s.io/v1", spec={"defaultBackend": backend})
        assert (messages(ingress, service) == []) is good


def test_an_action_of_the_load_balancer_controller_is_no_service() -> None:
    backend = {"service": {"name": "redirect", "port": {"name": "use-annotation"}}}
    assert messages(made("Ingress", "a", "networking.k8s.io/v1", spec={"defaultBackend": backend})) == []


def test_keys_of_a_token_secret_are_filled_in_by_the_cluster() -> None:
    token = made("Secret", "api-db", type="kubernetes.io/service-account-token")
    assert messages(READS_PASSWORD, token) == []


# --- producers --------------------------------------------------------------------------------------------------------

EXTERNAL = "external-secrets.io/v1"
PRODUCERS = {
    "ExternalSecret by its name": made("ExternalSecret", "api-db", EXTERNAL, spec={"dataFrom": [{}]}),
    "ExternalSecret by its target": made(
        "ExternalSecret", "x", EXTERNAL, spec={"target": {"name": "api-db"}, "data": [{"secretKey": "password"}]}
    ),
    "ExternalSecret with a template": made(
        "ExternalSecret", "api-db", EXTERNAL, spec={"target": {"template": {"data": {"password": "{{ .a }}"}}}}
    ),
    "ClusterExternalSecret": made(
        "ClusterExternalSecret",
        "x",
        EXTERNAL,
        spec={"externalSecretName": "api-db", "externalSecretSpec": {"dataFrom": [{}]}},
    ),
    "Certificate": made("Certificate", "x", "cert-manager.io/v1", spec={"secretName": "api-db"}),
    "SealedSecret": made("SealedSecret", "api-db", "bitnami.com/v1alpha1", spec={"encryptedData": {"password": "A"}}),
    "Vault": made("VaultStaticSecret", "x", "secrets.hashicorp.com/v1beta1", spec={"destination": {"name": "api-db"}}),
    "secrets store": made(
        "SecretProviderClass",
        "x",
        "secrets-store.csi.x-k8s.io/v1",
        spec={"secretObjects": [{"secretName": "api-db", "data": [{"key": "password"}]}]},
    ),
}


@pytest.mark.parametrize("producer", PRODUCERS.values(), ids=list(PRODUCERS))
def test_what_a_controller_makes_is_there(producer: Body) -> None:
    assert messages(READS_PASSWORD, producer) == []


WRONG_KEY = {
    "ExternalSecret": made("ExternalSecret", "api-db", EXTERNAL, spec={"data": [{"secretKey": "pass"}]}),
    "template replaces": made(
        "ExternalSecret",
        "api-db",
        EXTERNAL,
        spec={"data": [{"secretKey": "password"}], "target": {"template": {"data": {"url": "x"}}}},
    ),
    "SealedSecret": made("SealedSecret", "api-db", "bitnami.com/v1alpha1", spec={"encryptedData": {"pass": "A"}}),
}


@pytest.mark.parametrize("producer", WRONG_KEY.values(), ids=list(WRONG_KEY))
def test_a_controller_makes_the_keys_its_resource_names_and_no_others(producer: Body) -> None:
    assert messages(READS_PASSWORD, producer) == [
        "Deployment api needs key password of Secret api-db, which has no such key"
    ]


def test_an_external_secret_that_merges_adds_keys_and_makes_nothing() -> None:
    spec = {"target": {"creationPolicy": "Merge"}, "data": [{"secretKey": "password"}]}
    merging = made("ExternalSecret", "api-db", EXTERNAL, spec=spec)
    assert len(messages(READS_PASSWORD, merging)) == 1
    assert messages(READS_PASSWORD, merging, made("Secret", "api-db", data={"user": "eA=="})) == []


def test_cert_manager_makes_the_certificate_of_an_annotated_ingress() -> None:
    ingress: dict[str, Any] = {**made("Ingress", "a", "networking.k8s.io/v1", spec={"tls": [{"secretName": "x"}]})}
    assert len(messages(ingress)) == 1
    ingress["metadata"] = {"name": "a", "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"}}
    assert messages(ingress) == []


def test_a_stateful_set_makes_its_claims() -> None:
    claims = made("StatefulSet", "db", "apps/v1", spec={"volumeClaimTemplates": [{"metadata": {"name": "data"}}]})
    reader = "volumes: [{persistentVolumeClaim: {claimName: data-db-0}}]"
    assert messages(pod_of(reader), claims) == []
    assert len(messages(pod_of(reader.replace("db-0", "db-x")), claims)) == 1


def test_a_configured_producer_makes_what_its_pointer_holds() -> None:
    config = Config(producers=(Producer(kind="Vaulted", pointer="/spec/outputs/*/name", makes="Secret"),))
    vaulted = made("Vaulted", "x", "acme.example/v1", spec={"outputs": [{"name": "other"}, {"name": "api-db"}]})
    assert len(messages(READS_PASSWORD, vaulted)) == 1
    assert messages(READS_PASSWORD, vaulted, config=config) == []


def test_external_globs_name_what_comes_from_outside() -> None:
    assert messages(READS_PASSWORD, config=Config(references_external=("Secret/api-*",))) == []
    assert len(messages(READS_PASSWORD, config=Config(references_external=("ConfigMap/api-*", "Secret/web-*")))) == 1


# --- where ------------------------------------------------------------------------------------------------------------


def test_another_release_of_the_namespace_may_make_it_and_one_of_another_namespace_not() -> None:
    reader = rendered(READS_PASSWORD)
    assert verdict(reader, rendered(SECRET, of=release("secrets"))).outcome is Outcome.PASSED
    (found,) = verdict(reader, rendered(SECRET, of=release("secrets", "vault"))).findings
    assert "Secret api-db is in namespace vault" in found.help
    written = {**SECRET, "metadata": {"name": "api-db", "namespace": "shop"}}
    assert verdict(reader, rendered(written, of=release("secrets", "vault"))).outcome is Outcome.PASSED


def test_clusters_tell_namespaces_apart() -> None:
    elsewhere = release("secrets", server="https://there.example")
    assert verdict(rendered(READS_PASSWORD), rendered(SECRET, of=elsewhere)).outcome is Outcome.FAILED


def test_a_release_without_application_may_be_in_any_namespace() -> None:
    afloat = release("secrets", None)
    assert verdict(rendered(READS_PASSWORD), rendered(SECRET, of=afloat)).outcome is Outcome.PASSED
    assert verdict(rendered(READS_PASSWORD, of=afloat), rendered(SECRET)).outcome is Outcome.PASSED
    (found,) = verdict(rendered(READS_PASSWORD, of=afloat)).findings
    assert found.message == "Deployment api needs Secret api-db, which nothing makes"


def test_a_release_that_is_not_rendered_makes_missing_into_not_judged() -> None:
    remote = Unrendered(
        release=release("vault"), reason="chart vault 1 of https://x is a remote chart", remedy="releasegate fetch",
        broken=False, group="is a remote chart",
    )  # fmt: skip
    judged = verdict(rendered(READS_PASSWORD, pod_of("serviceAccountName: x")), remote)
    assert judged.outcome is Outcome.NOT_EVALUATED
    assert judged.findings == ()
    assert {one.group for one in judged.unjudged} == {"is a remote chart"}
    said = [one.reason for one in judged.unjudged if "may need" in one.reason]
    (reason,) = said
    assert reason == (
        "prod/vault is not rendered (chart vault 1 of https://x is a remote chart), and 2 references may need what it "
        "makes: Deployment api needs Secret api-db, which nothing makes in namespace shop"
    )


def test_a_release_of_another_namespace_that_is_not_rendered_clouds_nothing() -> None:
    remote = Unrendered(release=release("vault", "vault"), reason="r", remedy="m", broken=False)
    assert len(verdict(rendered(READS_PASSWORD), remote).findings) == 1


def test_a_wrong_key_of_a_rendered_object_is_wrong_whatever_else_is_rendered() -> None:
    remote = Unrendered(release=release("vault"), reason="r", remedy="m", broken=False)
    wrong = made("Secret", "api-db", data={"x": "eA=="})
    assert len(verdict(rendered(READS_PASSWORD, wrong), remote).findings) == 1


def test_one_missing_object_is_one_cause_whoever_needs_it_and_wherever() -> None:
    others = [
        pod_of("containers: [{envFrom: [{secretRef: {name: api-db}}]}]", name=f"w{number}") for number in range(3)
    ]
    judged = verdict(rendered(READS_PASSWORD, *others), rendered(READS_PASSWORD, of=release("b", "other")))
    assert len(judged.findings) == 5
    (cause,) = evaluate.causes([judged], {})
    assert len(cause.entries) == 5


def test_the_nearest_name_is_suggested() -> None:
    (found,) = verdict(rendered(READS_PASSWORD, made("Secret", "api-bd"))).findings
    assert found.help.startswith("did you mean Secret api-bd?")
    assert 'external = ["Secret/api-db"]' in found.help


# --- selectors --------------------------------------------------------------------------------------------------------


def service(selector: Mapping[str, str] | None = None, **more: Any) -> Body:
    return made("Service", "api", spec={"selector": selector if selector is not None else {"app": "api"}, **more})


PORT = "containers: [{name: api, ports: [{name: http, containerPort: 8080}]}]"


def test_a_service_selects_a_pod_of_its_namespace() -> None:
    assert messages(service(), pod_of(PORT)) == []
    assert messages(service(), pod_of(PORT, "app: web")) == [
        "Service api selects no pod in namespace shop: none has app=api"
    ]
    other = rendered(pod_of(PORT), of=release("b", "other"))
    assert verdict(rendered(service()), other).outcome is Outcome.FAILED


def test_a_service_that_selects_nothing_is_told_the_nearest_workload() -> None:
    wanted = service({"app": "api", "tier": "web"})
    (found,) = verdict(rendered(wanted, pod_of(PORT, "{app: api, tier: wbe}"), pod_of(PORT, "app: x"))).findings
    assert found.pointer == "/spec/selector/tier"
    assert found.help.startswith("the nearest, Deployment api, has tier=wbe")


@pytest.mark.parametrize(
    "body",
    [service({}), service(type="ExternalName", externalName="x.example"), made("Service", "api", spec={})],
)
def test_a_service_that_selects_nothing_on_purpose_is_no_subject(body: Body) -> None:
    assert verdict(rendered(body)).outcome is Outcome.NOT_APPLICABLE


def test_a_named_target_port_is_a_port_of_a_container() -> None:
    assert messages(service(ports=[{"port": 80, "targetPort": "http"}]), pod_of(PORT)) == []
    assert messages(service(ports=[{"port": 80, "targetPort": 9}]), pod_of(PORT)) == []
    assert messages(service(ports=[{"port": 80, "targetPort": "web"}]), pod_of(PORT)) == [
        "Service api names port web, which nothing it selects has: Deployment api"
    ]


def test_labels_that_a_controller_adds_match_any_pod() -> None:
    wanted = {"app": "api", "statefulset.kubernetes.io/pod-name": "api-0"}
    assert messages(service(wanted), pod_of(PORT, kind="StatefulSet")) == []


def test_pods_of_an_operator_are_known_by_its_domain_or_the_name_of_the_resource() -> None:
    cluster = made("Cluster", "db", "postgresql.cnpg.io/v1")
    assert messages(service({"cnpg.io/cluster": "db"}), cluster) == []
    assert messages(service({"postgres": "db"}), cluster) == []
    assert len(messages(service({"postgres": "other"}), cluster)) == 1
    assert len(messages(service({"app": "db"}), made("PodMonitor", "db", "monitoring.coreos.com/v1"))) == 1


def test_pods_made_outside_this_repo_are_named_by_a_label() -> None:
    assert (
        messages(service({"app": "legacy-1", "x": "y"}), config=Config(references_external=("Pod/app=legacy-*",))) == []
    )


SELECTING = {
    "PodDisruptionBudget": ("policy/v1", {"selector": {"matchLabels": {"app": "api"}}}),
    "NetworkPolicy": ("networking.k8s.io/v1", {"podSelector": {"matchLabels": {"app": "api"}}}),
    "PodMonitor": ("monitoring.coreos.com/v1", {"selector": {"matchLabels": {"app": "api"}}}),
}


@pytest.mark.parametrize("kind", SELECTING)
def test_other_kinds_select_a_pod(kind: str) -> None:
    api_version, spec = SELECTING[kind]
    body = made(kind, "a", api_version, spec=spec)
    assert messages(body) == [f"{kind} a selects no pod in namespace shop: none has app=api"]
    assert messages(body, pod_of(PORT)) == []


def test_an_empty_selector_is_no_subject() -> None:
    policy = made("NetworkPolicy", "deny", "networking.k8s.io/v1", spec={"podSelector": {}})
    assert verdict(rendered(policy)).outcome is Outcome.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("operator", "values", "picks"),
    [
        ("In", ["api", "web"], True),
        ("In", ["web"], False),
        ("NotIn", ["web"], True),
        ("NotIn", ["api"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
    ],
)
def test_expressions_are_read_as_the_api_server_reads_them(operator: str, values: Any, picks: bool) -> None:  # noqa: FBT001
    expression = {"key": "app", "operator": operator, **({} if values is None else {"values": values})}
    budget = made("PodDisruptionBudget", "a", "policy/v1", spec={"selector": {"matchExpressions": [expression]}})
    assert (messages(budget, pod_of(PORT)) == []) is picks


def test_a_service_monitor_selects_services_with_the_port_in_the_namespaces_it_names() -> None:
    def monitor(port: str = "metrics", **more: Any) -> Rendered:
        spec = {"selector": {"matchLabels": {"app": "api"}}, "endpoints": [{"port": port}], **more}
        body = made("ServiceMonitor", "m", "monitoring.coreos.com/v1", spec=spec)
        return rendered(body, of=release("monitoring", "monitoring"))

    target = {
        **service(ports=[{"name": "metrics", "port": 9102}]),
        "metadata": {"name": "api", "labels": {"app": "api"}},
    }
    shop = rendered(target, pod_of(PORT))
    named: dict[str, Any] = {"namespaceSelector": {"matchNames": ["shop"]}}
    assert verdict(monitor(**named), shop).findings == ()
    assert verdict(monitor(namespaceSelector={"any": True}), shop).findings == ()
    assert [one.message for one in verdict(monitor(), shop).findings] == [
        "ServiceMonitor m selects no Service in namespace monitoring: none has app=api"
    ]
    assert [one.message for one in verdict(monitor("metric", **named), shop).findings] == [
        "ServiceMonitor m names port metric, which nothing it selects has: Service api"
    ]
    not_ours = verdict(monitor(namespaceSelector={"matchNames": ["kube-system"]}))
    assert not_ours.outcome is Outcome.NOT_APPLICABLE


def test_the_api_server_is_a_service_that_nobody_renders() -> None:
    spec = {
        "selector": {"matchLabels": {"component": "apiserver", "provider": "kubernetes"}},
        "namespaceSelector": {"matchNames": ["default"]},
    }
    body = made("ServiceMonitor", "m", "monitoring.coreos.com/v1", spec=spec)
    default = rendered(made("ConfigMap", "x"), of=release("d", "default"))
    assert verdict(rendered(body, of=release("monitoring", "monitoring")), default).findings == ()


# --- laws -------------------------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])
kinds = st.sampled_from(["Secret", "ConfigMap", "ServiceAccount", "PersistentVolumeClaim"])
FIELDS = {
    "Secret": "containers: [{envFrom: [{secretRef: {name: NAME}}]}]",
    "ConfigMap": "volumes: [{configMap: {name: NAME}}]",
    "ServiceAccount": "serviceAccountName: NAME",
    "PersistentVolumeClaim": "volumes: [{persistentVolumeClaim: {claimName: NAME}}]",
}
objects = st.lists(st.builds(made, kinds, names), max_size=8)
needs = st.lists(st.tuples(kinds, names), min_size=1, max_size=6)


def missing(wanted: Sequence[tuple[str, str]], there: Sequence[Body]) -> set[str]:
    pods = [pod_of(FIELDS[kind].replace("NAME", name), name=f"w{at}") for at, (kind, name) in enumerate(wanted)]
    found = list(RULE.check(RULE.subjects(e := evidence(rendered(*pods, *there))), e))
    assert not any(isinstance(one, Unjudged) for one in found)
    return {one.change for one in found if isinstance(one, Finding)}


@settings(deadline=None)
@given(needs, objects, objects)
def test_adding_an_object_never_makes_a_resolved_reference_unresolved(
    wanted: list[tuple[str, str]], there: list[Body], more: list[Body]
) -> None:
    assert missing(wanted, [*there, *more]) <= missing(wanted, there)


@settings(deadline=None)
@given(needs, objects)
def test_what_is_missing_is_what_is_needed_and_not_there(wanted: list[tuple[str, str]], there: list[Body]) -> None:
    has = {(one["kind"], one["metadata"]["name"]) for one in there}
    assert missing(wanted, there) == {f"{kind} {name} is missing" for kind, name in wanted if (kind, name) not in has}


@settings(deadline=None)
@given(needs, objects)
def test_removing_an_object_that_is_needed_always_shows(wanted: list[tuple[str, str]], there: list[Body]) -> None:
    kind, name = wanted[0]
    left = [one for one in there if (one["kind"], one["metadata"]["name"]) != (kind, name)]
    assert f"{kind} {name} is missing" in missing(wanted, left)


FIELD_NAMES = (  # noqa: SIM905
    "spec selector matchLabels matchExpressions ports template containers env valueFrom secretKeyRef name key volumes "
    "configMap items rules tls backendRefs subjects"
).split()
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELD_NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
any_kind = st.sampled_from(
    [
        ("apps/v1", "Deployment"),
        ("v1", "Service"),
        ("v1", "Pod"),
        ("v1", "ConfigMap"),
        ("networking.k8s.io/v1", "Ingress"),
        ("policy/v1", "PodDisruptionBudget"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
        ("external-secrets.io/v1", "ExternalSecret"),
        ("external-secrets.io/v1", "ClusterExternalSecret"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("apps/v1", "StatefulSet"),
    ]
)


@settings(deadline=None)
@given(any_kind, json_values)
def test_whatever_an_object_holds_the_rule_does_not_break(kind: tuple[str, str], spec: Any) -> None:
    more = spec if isinstance(spec, dict) else {}
    judged = verdict(rendered({**more, **made(kind[1], "a", kind[0], spec=spec)}))
    assert judged.outcome is not Outcome.NOT_EVALUATED, judged.reason
