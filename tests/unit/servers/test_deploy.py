"""What deploy/ ships agrees with itself and with the programs."""

from __future__ import annotations

from typing import Any

import yaml

from service.settings import ALL_VARIABLES
from tests.servers import rbac
from tests.servers.rbac import SHIPPED


def shipped(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SHIPPED.parent / name).read_text()))


def test_every_binding_gets_the_user_beside_the_service_account() -> None:
    bindings = [obj for obj in rbac.objects(SHIPPED.read_text(), "somebody") if obj["kind"].endswith("Binding")]
    assert len(bindings) == 2
    for binding in bindings:
        assert [subject["name"] for subject in binding["subjects"]] == ["module-controller", "somebody"]


def test_collections_are_in_the_objects_namespace() -> None:
    paths = {obj["kind"]: rbac.collection(obj) for obj in shipped("rbac.yaml")}
    assert paths["ServiceAccount"] == "/api/v1/namespaces/koupleless-system/serviceaccounts"
    assert paths["Role"] == "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-node-lease/roles"
    assert paths["ClusterRole"] == "/apis/rbac.authorization.k8s.io/v1/clusterroles"


def test_roles_name_every_verb_and_resource() -> None:
    for obj in shipped("rbac.yaml"):
        for rule in obj.get("rules", []):
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_the_deployment_uses_the_shipped_account_and_known_variables() -> None:
    deployment, service = shipped("module-controller.yaml")
    pod = deployment["spec"]["template"]
    account = next(obj for obj in shipped("rbac.yaml") if obj["kind"] == "ServiceAccount")
    assert pod["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert deployment["metadata"]["namespace"] == account["metadata"]["namespace"]
    (container,) = pod["spec"]["containers"]
    assert {variable["name"] for variable in container["env"]} <= ALL_VARIABLES
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
