"""deploy/kubernetes against Kubernetes' own schemas, the settings, the image and each other."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

import kubernetes_validate
import pytest

from components import __version__
from components.engines.alone import KEY_VARIABLE, read_arguments
from components.profiles.loader import load_pair
from components.settings import Settings
from tests.unit.deploy.read import (
    DEPLOY,
    KUBERNETES,
    PAIR,
    ROOT,
    SECRETS,
    check_app,
    compose,
    manifest,
    manifests,
    pod_of,
    settings_named,
)

WORKLOADS = [
    ("StatefulSet", "app"),
    ("StatefulSet", "postgres"),
    ("Deployment", "engine-base"),
    ("Deployment", "engine-candidate"),
    ("Deployment", "proxy"),
]
ENGINES = ("engine-base", "engine-candidate")
VERSIONS = ("1.30", "1.37")


def container(kind: str, name: str) -> dict[str, Any]:
    (only,) = pod_of(kind, name)["containers"]
    return dict(only)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_what_kubernetes_accepts(version: str) -> None:
    assert len(manifests()) == 18
    for one in manifests():
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_refuse_a_misspelt_field() -> None:
    broken = deepcopy(manifest("Deployment", "proxy"))
    broken["spec"]["replica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_everything_is_in_one_namespace() -> None:
    assert {one["metadata"].get("namespace") for one in manifests() if one["kind"] != "Namespace"} == {"diptych"}


def test_the_app_starts_with_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    app = container("StatefulSet", "app")
    environment = {entry["name"]: entry.get("value", "$SECRET") for entry in app["env"]}
    settings = check_app(app["args"], environment, monkeypatch)
    assert settings.refusal() is None
    assert not settings.public
    assert settings.pair == PAIR
    assert settings.database_url == "postgresql://diptych:secret@postgres:5432/diptych"
    mounts = {mount["mountPath"]: mount for mount in app["volumeMounts"]}
    assert {"/data", settings.shared_dir, f"/app/profiles/pairs/{PAIR}.yaml"} == set(mounts)
    assert app["ports"] == [{"name": "http", "containerPort": settings.port}]
    assert manifest("Ingress", "diptych")["spec"]["rules"][0]["host"] == settings.allowed_hosts


def test_a_password_is_known_before_it_is_put_together() -> None:
    names = [entry["name"] for entry in container("StatefulSet", "app")["env"]]
    assert ("POSTGRES_PASSWORD", "DIPTYCH_DATABASE_URL") in set(pairwise(names)), "$(NAME) reads earlier ones only"


def test_every_variable_is_a_setting() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in KUBERNETES)
    assert settings_named(text) <= set(Settings.model_fields)


def test_no_service_makes_a_setting() -> None:
    """Kubernetes would give every pod DIPTYCH_PORT=tcp://… for a Service called diptych."""
    for kind, name in WORKLOADS:
        assert pod_of(kind, name)["enableServiceLinks"] is False
    assert all(one["metadata"]["name"] != "diptych" for one in manifests() if one["kind"] == "Service")


def test_the_engines_are_those_of_the_pair() -> None:
    served = {}
    for name in ENGINES:
        engine = container("Deployment", name)
        assert engine["command"] == compose()["services"][name]["entrypoint"]
        assert engine["args"] == compose()["services"][name]["command"]
        assert KEY_VARIABLE in {entry["name"] for entry in engine["env"]}
        given = read_arguments(engine["args"])
        assert manifest("Service", name)["spec"]["ports"] == [{"name": "http", "port": given.port}]
        served[f"http://{name}:{given.port}/v1"] = given.engine
    text = (DEPLOY / f"{PAIR}.yaml").read_text(encoding="utf-8")
    assert all(f'url: "{url}", served_model: {engine}' in text for url, engine in served.items())
    assert load_pair(ROOT / "profiles", "embedded")


def test_probes_ask_what_answers_under_a_name_that_is_let_in() -> None:
    app = container("StatefulSet", "app")
    asked = {kind: app[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: get["path"] for kind, get in asked.items()} == {
        "startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz",
    }  # fmt: skip
    assert all(get["httpHeaders"] == [{"name": "Host", "value": "localhost"}] for get in asked.values())


def test_secrets_come_from_a_secret() -> None:
    for kind, name in WORKLOADS:
        for entry in container(kind, name).get("env", []):
            if entry["name"] in SECRETS:
                assert entry["valueFrom"]["secretKeyRef"]["name"] == "diptych", (name, entry["name"])
    assert all(one["kind"] != "Secret" for one in manifests())


@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_pods_have_no_more_rights_than_they_need(kind: str, name: str) -> None:
    pod, one = pod_of(kind, name), container(kind, name)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert one["securityContext"]["allowPrivilegeEscalation"] is False
    assert one["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert "memory" in one["resources"]["limits"]
    assert not pod.get("hostNetwork")
    assert not pod.get("hostPID")


def test_our_image_has_the_apps_version_and_its_user() -> None:
    ours = {("StatefulSet", "app"), *(("Deployment", name) for name in ENGINES)}
    for kind, name in ours:
        assert container(kind, name)["image"].endswith(f"/diptych:{__version__}")
        assert pod_of(kind, name)["securityContext"]["runAsUser"] == 1000
    for name in ("postgres", "proxy"):
        kind = "StatefulSet" if name == "postgres" else "Deployment"
        assert container(kind, name)["image"] == compose()["services"][name]["image"]


def test_nothing_can_be_reached_that_is_not_allowed() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in manifests() if one["kind"] == "NetworkPolicy"}
    assert policies["nobody-by-default"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, caller in {"app": "proxy", "engines": "app", "postgres": "app"}.items():
        (rule,) = policies[name]["ingress"]
        assert rule["from"] == [{"podSelector": {"matchLabels": {"app": caller}}}]
    for one in manifests():
        if one["kind"] == "Service":
            assert one["spec"].get("type", "ClusterIP") == "ClusterIP", "only the Ingress leads in"


def test_the_apps_stand_on_one_node_and_the_proxy_knows_each() -> None:
    spec = manifest("StatefulSet", "app")["spec"]
    (term,) = spec["template"]["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"] == spec["selector"]
    environment = {entry["name"]: entry["value"] for entry in container("Deployment", "proxy")["env"]}
    assert environment["APPS"].split() == [f"app-{number}.app:7860" for number in range(spec["replicas"])]
    assert manifest("Service", "app")["spec"]["publishNotReadyAddresses"] is True
