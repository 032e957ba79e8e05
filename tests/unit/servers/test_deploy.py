"""Manifests in deploy/ agree with each other and with the programs; tests/integration/deploy applies them."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.kubelet.settings import CA_CONFIG_MAP, TLS_SECRET
from controlplane.settings import ControlPlaneSettings
from modulecontroller.configuration import PROGRAMS, VARIABLES, survey
from modulecontroller.settings import PROGRAM_NAMES
from service.settings import names
from simulatedbase.options import Options
from tests.servers import manifests, rbac
from tests.servers.kubeapi import Json
from tests.servers.rbac import SHIPPED

DEPLOY = SHIPPED.parent
ROOT = DEPLOY.parent
KUBELET = DEPLOY / "kubelet"
CERTIFICATES = DEPLOY / "sharded" / "grpc-certificates.yaml"
FORMS = (
    "module-controller.yaml",
    "pod.yaml",
    "sharded",
    "sharded-1.20",
    "mosquitto/mosquitto.yaml",
    "simulated-bases.yaml",
)
NAMESPACE = "koupleless-system"
_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)


def shipped(form: str) -> list[Json]:
    return manifests.load(DEPLOY / form)


def containers(form: str) -> Iterator[tuple[str, Json]]:
    for name, spec in manifests.pod_specs(shipped(form)):
        (container,) = spec["containers"]
        yield name, container


def ours() -> list[tuple[str, str, Json]]:
    return [
        (form, name, container)
        for form in FORMS
        for name, container in containers(form)
        if container["image"].startswith("module-controller") and container["command"][0] in PROGRAMS
    ]


def environ(form: str, container: Json) -> dict[str, str]:
    """Return the variables of a container; those that the cluster sets have a likely value."""
    maps = {obj["metadata"]["name"]: obj.get("data", {}) for obj in shipped(form) if obj["kind"] == "ConfigMap"}
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        variables |= maps[source["configMapRef"]["name"]]
    for variable in container["env"]:
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
        variables[variable["name"]] = variable.get("value", "10.1.2.3" if field == "status.podIP" else "some-pod-1")
    return variables


def test_every_binding_gets_the_user_beside_the_service_account() -> None:
    bindings = [obj for obj in rbac.objects(SHIPPED.read_text(), "somebody") if obj["kind"].endswith("Binding")]
    assert bindings
    for binding in bindings:
        assert [subject["name"] for subject in binding["subjects"]] == ["module-controller", "somebody"]


def test_collections_are_in_the_objects_namespace() -> None:
    paths = {obj["kind"]: manifests.collection(obj) for obj in [*shipped("rbac.yaml"), *shipped("sharded")]}
    assert paths["ServiceAccount"] == "/api/v1/namespaces/koupleless-system/serviceaccounts"
    assert paths["ClusterRole"] == "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    assert paths["NetworkPolicy"] == "/apis/networking.k8s.io/v1/namespaces/koupleless-system/networkpolicies"


def test_roles_name_every_verb_and_resource() -> None:
    for obj in shipped("rbac.yaml"):
        for rule in obj.get("rules", []):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_the_page_lists_the_same_permissions() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Permissions")[2]
    table = page.partition("For the [kubelet API]")[0]
    listed = {(where, resource, verbs) for where, resource, verbs in _ROW.findall(table) if resource != "resources"}
    granted = {
        (
            f"`{namespace}`" if (namespace := role["metadata"].get("namespace")) else "cluster",
            f"{rule['apiGroups'][0]}/{resource}" if rule["apiGroups"][0] == "apps" else resource,
            ", ".join(rule["verbs"]),
        )
        for role in shipped("rbac.yaml")
        for rule in role.get("rules", [])
        for resource in rule["resources"]
    }
    assert listed == granted


def test_every_file_is_a_part_of_a_form() -> None:
    alone = (
        "rbac.yaml",
        "tools.yaml",
        "admission-policy.yaml",
        "flow-control.yaml",
        "kubelet/exec.yaml",
        "kubelet/signed.yaml",
    )
    known = {DEPLOY / name for name in alone}
    known |= {DEPLOY / form for form in FORMS}
    for form in (*FORMS, "kubelet"):
        if (DEPLOY / form).is_dir():
            kustomization = yaml.safe_load((DEPLOY / form / "kustomization.yaml").read_text())
            patches = [patch["path"] for patch in kustomization.get("patchesJson6902", [])]
            known |= {DEPLOY / form / name for name in ["kustomization.yaml", *kustomization["resources"], *patches]}
    assert set(DEPLOY.rglob("*.yaml")) == {path for path in known if path.suffix == ".yaml"}


@pytest.mark.parametrize("path", [CERTIFICATES, KUBELET / "certificates.yaml"])
def test_the_objects_for_certificates_are_empty_and_all_that_may_be_written(path: Path) -> None:
    objects = manifests.load(path)
    stored = {obj["kind"].lower() + "s": obj for obj in objects if obj["kind"] in ("Secret", "ConfigMap")}
    assert not any({"data", "stringData", "type"} & set(obj) for obj in stored.values())
    rules = [rule for obj in objects for rule in obj.get("rules", [])]
    assert [rule["resources"][0] for rule in rules if "patch" in rule["verbs"]] == list(stored)
    for rule in rules:
        (resource,) = rule["resources"]
        # That of signed.yaml is only looked for.
        seen = ["module-controller-kubelet-signed"] if rule["verbs"] == ["get"] else []
        assert rule["resourceNames"] in (seen, [stored[resource]["metadata"]["name"]])
        assert set(rule["verbs"]) <= {"get", "patch"}


def selector_of(obj: Json) -> dict[str, str]:
    """Return the labels by which an object selects Pods, none when it selects no Pods."""
    spec, found = obj.get("spec", {}), {}
    match obj["kind"]:
        case "Service":
            found = spec["selector"]
        case "Deployment" | "PodDisruptionBudget":
            found = spec["selector"]["matchLabels"]
        case "NetworkPolicy":
            found = spec["podSelector"]["matchLabels"]
    return dict(found)


@pytest.mark.parametrize("form", FORMS)
def test_every_selector_selects_pods(form: str) -> None:
    objects = shipped(form)
    labels = [obj["metadata"]["labels"] for obj in objects if obj["kind"] == "Pod"]
    labels += [obj["spec"]["template"]["metadata"]["labels"] for obj in objects if obj["kind"] == "Deployment"]
    for obj in objects:
        if selector := selector_of(obj):
            assert any(selector.items() <= each.items() for each in labels), obj["metadata"]["name"]


@pytest.mark.parametrize("form", FORMS)
def test_named_ports_exist(form: str) -> None:
    for name, container in containers(form):
        ports = {port["name"] for port in container["ports"]}
        probes = [container[probe] for probe in ("livenessProbe", "readinessProbe")]
        assert {(probe.get("httpGet") or probe["tcpSocket"])["port"] for probe in probes} <= ports, name
    every = {port["name"] for _, container in containers(form) for port in container["ports"]}
    for obj in shipped(form):
        if obj["kind"] == "Service":
            assert {port["targetPort"] for port in obj["spec"]["ports"]} <= every
        if obj["kind"] == "NetworkPolicy":
            assert {port["port"] for rule in obj["spec"]["ingress"] for port in rule["ports"]} <= every


@pytest.mark.parametrize("form", FORMS)
def test_everything_is_in_one_namespace_with_least_privilege(form: str) -> None:
    objects = [obj for obj in shipped(form) if not obj["kind"].startswith("ClusterRole")]
    assert {obj["metadata"]["namespace"] for obj in objects} == {NAMESPACE}
    for name, spec in manifests.pod_specs(shipped(form)):
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["enableServiceLinks"] is False, name
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["limits"]["memory"], name
        # Only what talks to the API server has a token for it.
        needs = name in ("module-controller", "controlplane")
        assert (spec.get("serviceAccountName") == "module-controller") is needs, name
        if name.endswith("-gateway"):
            assert spec["serviceAccountName"] == name
        assert spec.get("automountServiceAccountToken", True) is needs, name


def test_scalers_and_budgets_name_existing_deployments() -> None:
    objects = shipped("sharded")
    deployments = {obj["metadata"]["name"]: obj for obj in objects if obj["kind"] == "Deployment"}
    scaled = [obj["spec"]["scaleTargetRef"]["name"] for obj in objects if obj["kind"] == "HorizontalPodAutoscaler"]
    assert sorted(scaled) == ["http-gateway", "mqtt-gateway"]
    for name in scaled:
        # An autoscaler and a number of replicas would undo each other with every apply.
        assert "replicas" not in deployments[name]["spec"]
        assert deployments[name]["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    assert deployments["controlplane"]["spec"]["replicas"] == 3
    (budget,) = [obj for obj in objects if obj["kind"] == "PodDisruptionBudget"]
    assert budget["apiVersion"] == "policy/v1"
    (old,) = [obj for obj in shipped("sharded-1.20") if obj["kind"] == "PodDisruptionBudget"]
    assert old == {**budget, "apiVersion": "policy/v1beta1"}


def test_containers_of_our_image_start_its_programs() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    commands = [
        container["command"]
        for form in FORMS
        for _, container in containers(form)
        if container["image"].startswith("module-controller")
    ]
    assert {program for (program,) in commands} == {*PROGRAMS, "simulated-base"}
    assert {program for (program,) in commands} <= scripts.keys()


@pytest.mark.parametrize(("form", "name", "container"), ours(), ids=lambda value: value if type(value) is str else "")
def test_programs_start_with_the_variables_of_their_manifest(
    monkeypatch: pytest.MonkeyPatch, form: str, name: str, container: Json
) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    variables = environ(form, container)
    assert variables.keys() <= VARIABLES | {"XDG_STATE_HOME"}
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    (program,) = container["command"]
    found = survey([program] if program in PROGRAM_NAMES else [])
    assert not found.wrong
    read = {variable for each in PROGRAMS.values() for variable in names(each)}
    assert not read & set(found.unread), f"{form}: {name} sets what it does not read"
    listens = {port["containerPort"] for port in container["ports"]}
    values = {variable.name: variable.value for each in found.programs for variable in each.variables}
    own = {variable.name: variable.value for variable in found.programs[0].variables}
    assert {int(own["HEALTH_PORT"]), int(own["METRICS_PORT"])} <= listens
    if "HTTP_TUNNEL_LISTEN_PORT" in values and name != "mqtt-gateway":
        assert int(values["HTTP_TUNNEL_LISTEN_PORT"]) in listens


def test_simulated_bases_accept_their_arguments() -> None:
    ((_, container),) = containers("simulated-bases.yaml")
    options = Options(container["args"])
    assert options.profile.controller.endswith(".koupleless-system:7777")
    assert options.run.count == 2
    assert options.profile.port == container["ports"][0]["containerPort"]


def test_the_two_forms_are_reached_at_the_same_name() -> None:
    def service(form: str) -> Any:
        services = {obj["metadata"]["name"]: obj for obj in shipped(form) if obj["kind"] == "Service"}
        return {port["name"]: port["port"] for port in services["module-controller"]["spec"]["ports"]}["http-tunnel"]

    assert service("module-controller.yaml") == service("sharded") == 7777


@pytest.mark.parametrize(
    ("form", "name"), [("module-controller.yaml", "module-controller"), ("sharded", "controlplane")]
)
def test_the_kubelet_api_fits_the_deployment_of_either_form(form: str, name: str) -> None:
    (deployment,) = [obj for obj in shipped(form) if obj["kind"] == "Deployment" and obj["metadata"]["name"] == name]
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (port,) = [each for each in container["ports"] if each["name"] == "kubelet"]
    settings = ControlPlaneSettings.model_validate({})
    assert port["containerPort"] == settings.kubelet_proxy_port
    (service,) = manifests.load(KUBELET / "service.yaml")
    labels = template["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    # The first policy that selects a Pod cuts it off from all traffic that it does not name.
    (policy,) = manifests.load(KUBELET / "network-policy.yaml")
    assert policy["spec"]["ingress"] == [{"ports": [{"port": port["name"]}]}]
    policies = {obj["metadata"]["name"]: obj for obj in shipped(form) if obj["kind"] == "NetworkPolicy"}
    policies[policy["metadata"]["name"]] = policy
    selecting = [each for each in policies.values() if selector_of(each).items() <= labels.items()]
    assert len(selecting) == 2, "that for the API server is one more"
    assert "NAMESPACE" in {variable["name"] for variable in container["env"]}, "the Service is looked for there"
    (secret, config_map) = [obj for obj in shipped("kubelet") if obj["kind"] in ("Secret", "ConfigMap")]
    assert (secret["metadata"]["name"], config_map["metadata"]["name"]) == (TLS_SECRET, CA_CONFIG_MAP)


class TestImage:
    LINES = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()

    def instructions(self, instruction: str) -> list[str]:
        return [line.split(maxsplit=1)[1] for line in self.LINES if line.startswith(instruction + " ")]

    def test_copied_files_exist_and_are_not_ignored(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        assert ignored[0] == "*", "files that are not named are left out"
        kept = {line.removeprefix("!").rstrip("/") for line in ignored if line.startswith("!")}
        copied: set[str] = set()
        for line in self.instructions("COPY"):
            words = [word for word in line.split() if not word.startswith("--")]
            if "--from=" not in line:
                copied |= {word.rstrip("/") for word in words[:-1]}
        assert copied == kept
        assert all((ROOT / source).exists() for source in copied)

    def test_every_package_of_the_project_is_copied(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        patterns = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
        copied = {word.rstrip("/") for line in self.instructions("COPY") for word in line.split()}
        # Generated code is in proto/gen.
        assert patterns - {"koupleless"} <= copied
        assert "proto/gen" in copied

    def test_only_pinned_packages_are_installed(self) -> None:
        commands = [command.split() for line in self.instructions("RUN") for command in line.split("&&")]
        installs = [words for words in commands if "pip" in words and "install" in words]
        locks = [words[-1] for words in installs if "--require-hashes" in words]
        assert sorted(locks) == ["requirements-build.lock", "requirements.lock"]
        (own,) = [words for words in installs if "--require-hashes" not in words]
        assert (own[-1], "--no-deps" in own) == (".", True)

    def test_it_runs_as_a_user_other_than_root(self) -> None:
        assert self.instructions("USER")[-1].split(":")[0] == "65532"

    def test_the_base_image_has_a_supported_python(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        versions = {line.split()[0] for line in self.instructions("FROM")}
        assert len(versions) == 1
        (argument,) = self.instructions("ARG")
        version = argument.partition("=")[2]
        assert f"Programming Language :: Python :: {version}" in project["classifiers"]


def test_the_image_installs_from_the_copied_files_alone(tmp_path: Path) -> None:
    """The project is built from the files that the Dockerfile copies; every program of it can be imported."""
    sources = tmp_path / "sources"
    for line in TestImage().instructions("COPY"):
        if "--from=" in line:
            continue
        *names, _ = [word for word in line.split() if not word.startswith("--")]
        for name in names:
            target = sources / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, target)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    site = tmp_path / "site"
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--target", str(site), str(sources)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    modules = ",".join(target.partition(":")[0] for target in scripts.values())
    done = subprocess.run(
        [sys.executable, "-c", f"import {modules}, controlplane; print(controlplane.__file__)"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
