"""The informer of the Services before our kubelet API."""

from __future__ import annotations

from controlplane.app.ports import Clock
from controlplane.cluster import fields
from controlplane.cluster.api import SERVICES, ApiServer, Json
from controlplane.cluster.informer import ObjectInformer
from controlplane.cluster.selector import Selector
from controlplane.domain.contract import ENV, KUBELET_SERVICE
from controlplane.domain.endpoint import Service, ServicePort


def kubelet_services(api: ApiServer, namespace: str, clock: Clock) -> ObjectInformer[Service]:
    """Return the informer of the labelled Services of a namespace."""
    selector = Selector({KUBELET_SERVICE: "true"})
    return ObjectInformer(api, SERVICES, service, selector=selector, namespace=namespace, clock=clock)


def service(obj: Json) -> Service:
    """View a Service."""
    meta, spec = fields.mapping(obj, "metadata"), fields.mapping(obj, "spec")
    return Service(
        namespace=fields.text(meta, "namespace"),
        name=fields.text(meta, "name"),
        uid=fields.text(meta, "uid"),
        resource_version=fields.text(meta, "resourceVersion"),
        cluster_ip=fields.text(spec, "clusterIP"),
        env=fields.words(meta, "labels").get(ENV, ""),
        ports=tuple(_port(each) for each in fields.objects(spec, "ports")),
    )


def _port(obj: Json) -> ServicePort:
    target = obj.get("targetPort")
    return ServicePort(
        name=fields.text(obj, "name"),
        port=fields.integer(obj, "port") or 0,
        target=str(target) if isinstance(target, int | str) else "",
        protocol=fields.text(obj, "protocol") or "TCP",
    )
