"""Going back as migration.md has it loses nothing over MQTT, nor with bases whose heartbeats come every 120 s."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.everything import ready
from tests.integration.docs.migrating import HTTP, MQTT, VNODE, Operator, operator
from tests.integration.docs.original import DEAD_AFTER, LEASE_EVERY, LEASES, find
from tests.integration.docs.shell import check, run
from tests.integration.docs.stage import USERS, blocks_of, stage
from tests.programs import eventually
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.unit.docs.pages import section

pytestmark = [pytest.mark.kubernetes, pytest.mark.mosquitto, pytest.mark.timeout(600)]

WITHIN = 150.0
SECTION = "Going back"
SETTLED = DEAD_AFTER + 15
"""Seconds after which the original has removed what it counts as dead."""
LEASE = f"{LEASES}/{VNODE}"
SELECTOR = "virtual-kubelet.koupleless.io/component=vnode-lease,virtual-kubelet.koupleless.io/env=dev"


@pytest.mark.parametrize(
    ("environ", "heartbeats"),
    [
        pytest.param(HTTP, ("--heartbeat-interval", "120"), id="http-every-120-s"),
        pytest.param(MQTT, ("--heartbeat-interval", "10"), id="mqtt"),
    ],
)
def test_node_pod_and_module_stay(tmp_path: Path, environ: Mapping[str, str], heartbeats: tuple[str, ...]) -> None:
    try:
        with stage(tmp_path) as clean, operator(clean, environ, *heartbeats) as moving:
            ours_runs(moving, environ)
            node, pod = moving.node(), moving.deploy_module()
            blocks = [block for block in blocks_of("migration.md") if section(block) == SECTION]
            assert any(SELECTOR in block.text for block in blocks)
            for block in blocks:
                if "/heartbeat" not in block.text or environ is HTTP:
                    check(block, clean.environ(), clean.folder, within=WITHIN, here=moving.here())
                moving.check_untouched(node, pod)
            time.sleep(SETTLED)
            moving.check_untouched(node, pod)
            assert ready(moving.node())
            assert ready(moving.pod())
    except Unavailable as error:
        not_run("kubernetes", str(error))


def test_without_its_heartbeats_the_original_removes_what_it_takes(tmp_path: Path) -> None:
    """Shows why the page has its order, and that the stand-in removes what the original removes."""
    try:
        with stage(tmp_path) as clean, operator(clean, HTTP, "--heartbeat-interval", "120") as moving:
            ours_runs(moving, HTTP)
            moving.deploy_module()
            for command in (
                "kubectl -n koupleless-system delete deployment module-controller --wait",
                "kubectl -n koupleless-system wait --for=delete pod --all --timeout=60s",
                f"kubectl -n kube-node-lease delete leases -l {SELECTOR}",
                "kubectl apply -f original",
            ):
                run(command, clean.environ(), clean.folder, within=WITHIN)
            eventually(lambda: moving.node() is None, within=30, what="the Node is removed")
            eventually(lambda: moving.pod() is None, within=150, what="Kubernetes deletes the Pod")
    except Unavailable as error:
        not_run("kubernetes", str(error))


def test_a_base_that_was_away_comes_back_to_the_original(tmp_path: Path) -> None:
    """Our Lease of a base that went away with a module stays, with nobody as its holder."""
    try:
        with stage(tmp_path) as clean, operator(clean, HTTP) as moving:
            ours_runs(moving, HTTP)
            moving.deploy_module()
            moving.base.control("deactivate")
            eventually(lambda: moving.node() is None, within=60, what="the Node is removed")
            lease = find(clean.cluster.api, LEASE)
            assert lease is not None
            assert lease["spec"]["holderIdentity"] == ""
            run("kubectl delete service module-controller", clean.environ(), clean.folder, within=WITHIN)
            run("kubectl apply -f original", clean.environ(), clean.folder, within=WITHIN)
            eventually(lambda: moving.original.process is not None, within=30, what="the original runs")
            run(
                "kubectl -n koupleless-system delete deployment module-controller --cascade=foreground",
                clean.environ(),
                clean.folder,
                within=WITHIN,
            )
            moving.base.control("start")
            eventually(lambda: moving.original.knows(VNODE), within=30, what="the original knows the base")
            time.sleep(LEASE_EVERY)
            assert moving.original.failure is None
            run(f"kubectl -n kube-node-lease delete leases -l {SELECTOR}", clean.environ(), clean.folder, within=WITHIN)
            eventually(lambda: ready(moving.node()), within=30, what="the original has taken the base")
            assert moving.original.failure is None
    except Unavailable as error:
        not_run("kubernetes", str(error))


def ours_runs(moving: Operator, environ: Mapping[str, str]) -> None:
    """Have our controller manage the base, behind the Service that the original once had."""
    place = moving.stage
    deployment = place.folder / "deploy" / "module-controller.yaml"
    objects = list(yaml.safe_load_all(deployment.read_text(encoding="utf-8")))
    (container,) = objects[0]["spec"]["template"]["spec"]["containers"]
    login = {**environ, "MQTT_USERNAME": "gateway", "MQTT_PASSWORD": USERS["gateway"]} if environ is MQTT else {}
    container["env"] += [{"name": name, "value": value} for name, value in login.items() if name != "ENV"]
    deployment.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    service = "kubectl create service externalname module-controller --external-name "
    for command in (
        "kubectl apply -f deploy/rbac.yaml",
        "kubectl apply -f deploy/module-controller.yaml",
        f"{service} module-controller.koupleless-system.svc.cluster.local",
        "kubectl -n koupleless-system rollout status deployment/module-controller --timeout=120s",
    ):
        run(command, place.environ(), place.folder, within=WITHIN)
    moving.base.start()
    eventually(lambda: ready(moving.node()), within=60, what="our Node is Ready")
