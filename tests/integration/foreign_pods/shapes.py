"""DaemonSets as monitoring, logging and networks ship them: what decides where their Pods go, and what they ask for."""

from tests.servers.kubeapi import Json

EVERYTHING = [{"operator": "Exists"}]


def daemon_set(name: str, spec: Json, container: Json) -> Json:
    """Return a DaemonSet that tolerates everything."""
    labels = {"app.kubernetes.io/name": name}
    containers = [{"name": name, "image": f"registry.example/{name}:1", **container}]
    template = {
        "metadata": {"labels": labels},
        "spec": {"tolerations": EVERYTHING, "containers": containers, **spec},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def host_paths(**paths: str) -> list[Json]:
    """Return volumes."""
    return [{"name": name, "hostPath": {"path": path}} for name, path in paths.items()]


SHAPES = {
    # kube-prometheus: manifests/nodeExporter-daemonset.yaml
    "node-exporter": daemon_set(
        "node-exporter",
        {
            "hostNetwork": True,
            "hostPID": True,
            "priorityClassName": "system-cluster-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "securityContext": {"runAsGroup": 65534, "runAsNonRoot": True, "runAsUser": 65534},
            "volumes": host_paths(sys="/sys", root="/"),
        },
        {
            "ports": [{"name": "https", "containerPort": 9100, "hostPort": 9100}],
            "resources": {"requests": {"cpu": "102m", "memory": "180Mi"}},
        },
    ),
    # fluent-bit: the chart of the fluent project, with tolerations for all Nodes
    "fluent-bit": daemon_set(
        "fluent-bit",
        {
            "volumes": [*host_paths(varlog="/var/log"), {"name": "config", "configMap": {"name": "fluent-bit"}}],
            "serviceAccountName": "fluent-bit",
            "automountServiceAccountToken": False,
        },
        {
            "ports": [{"name": "http", "containerPort": 2020}],
            "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
        },
    ),
    # kubeadm: cmd/kubeadm/app/phases/addons/proxy/manifests.go
    "kube-proxy": daemon_set(
        "kube-proxy",
        {
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "volumes": host_paths(modules="/lib/modules"),
        },
        {"command": ["/usr/local/bin/kube-proxy"], "securityContext": {"privileged": True}},
    ),
    # cilium: install/kubernetes/cilium/templates/cilium-agent/daemonset.yaml
    "cilium": daemon_set(
        "cilium",
        {
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "terminationGracePeriodSeconds": 1,
            "initContainers": [{"name": "mount-cgroup", "image": "registry.example/cilium:1"}],
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "cilium"}},
                            "topologyKey": "kubernetes.io/hostname",
                        }
                    ]
                }
            },
            "volumes": host_paths(run="/var/run/cilium"),
        },
        {"ports": [{"name": "peer", "containerPort": 4244, "hostPort": 4244}]},
    ),
}


def deployment(name: str, replicas: int) -> Json:
    """Return a Deployment that tolerates everything and requires VNodes."""
    labels = {"app": name}
    spec = {
        "tolerations": EVERYTHING,
        "nodeSelector": {"type": "virtual-kubelet"},
        "containers": [{"name": name, "image": "registry.example/web:1"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
