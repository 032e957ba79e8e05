"""The examples are released by kustomize, and in the way of Argo CD and Flux."""

import pytest
import yaml

from tests.integration.verbs.conftest import URL_1, URL_2, V1, V2, Scene, needs_revisions
from tests.servers.kubeapi import Json

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]

ARGO_CD: Json = {
    "annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/biz1"},
    "labels": {"app.kubernetes.io/instance": "shop"},
}
FLUX: Json = {
    "labels": {"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}
}


def kustomization(scene: Scene, obj: Json, *images: Json) -> None:
    """Write a folder for kustomize: a manifest, and images in place of those in it."""
    (scene.folder / "deployment.yaml").write_text(yaml.safe_dump(obj))
    content = {"resources": ["deployment.yaml"], "images": list(images)}
    (scene.folder / "kustomization.yaml").write_text(yaml.safe_dump(content))


def built(scene: Scene, image: str, **override: str) -> str:
    """Return the image that kustomize makes of one."""
    obj = scene.example()
    obj["spec"]["template"]["spec"]["containers"][0]["image"] = image
    kustomization(scene, obj, override)
    spec = yaml.safe_load(scene.kubectl("kustomize", "."))["spec"]["template"]["spec"]
    return str(spec["containers"][0]["image"])


def test_what_kustomize_makes_of_urls(scene: Scene) -> None:
    """As docs/releases.md says."""
    port = "https://repo.example:8443/biz1-0.0.1.jar"
    fragment = "https://repo.example/biz1.jar#bizVersion=0.0.2"
    assert built(scene, URL_1, name=URL_1, newName=URL_2) == URL_2
    assert built(scene, "biz1", name="biz1", newName=URL_2) == URL_2
    assert built(scene, "biz1", name="biz1", newName=fragment) == fragment
    assert built(scene, "biz1", name="biz1", newName=port) == port
    # What stands behind a port counts as a tag, and is kept.
    assert built(scene, port, name=port, newName=URL_2) == f"{URL_2}:8443/biz1-0.0.1.jar"
    assert built(scene, URL_1, name=URL_1, newTag="0.0.2") == f"{URL_1}:0.0.2"


def test_a_release_by_kustomize(scene: Scene) -> None:
    needs_revisions(scene)
    obj = scene.example()
    obj["spec"]["template"]["spec"]["containers"][0]["image"] = "biz1"
    for url, module in ((URL_1, V1), (URL_2, V2)):
        kustomization(scene, obj, {"name": "biz1", "newName": url})
        scene.kubectl("apply", "-k", ".")
        scene.released(module)


def marked(obj: Json, marks: Json) -> Json:
    """Return an object with what a tool marks its objects with."""
    meta: Json = obj["metadata"]
    both = {kind: {**meta.get(kind, {}), **marks.get(kind, {})} for kind in ("labels", "annotations")}
    return {**obj, "metadata": {**meta, **both}}


@pytest.mark.parametrize(
    ("manager", "marks"),
    [("argocd-controller", ARGO_CD), ("kustomize-controller", FLUX)],
    ids=["argo cd", "flux"],
)
def test_a_release_by_server_side_apply(scene: Scene, manager: str, marks: Json) -> None:
    options = ("--server-side", "--force-conflicts", f"--field-manager={manager}")
    for version, module in (("0.0.1", V1), ("0.0.2", V2)):
        obj = marked(scene.example(version=version), marks)
        scene.apply(obj, *options)
        scene.released(module)
        # Nothing of ours, and no controller, has changed what the tool owns: it sees no drift.
        assert scene.kubectl("diff", *options, "-f", "-", stdin=yaml.safe_dump(obj)) == ""
    scene.kubectl("delete", "deployment/biz1", "--cascade=foreground", "--timeout=60s")
    assert [base.modules() for base in scene.bases] == [{}, {}]
