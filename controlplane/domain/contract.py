"""Labels, taints and annotations that users' manifests and tools rely on.

All but the annotations below are those of the Go Module Controller V2; they are part of the product's contract and must
not change.
"""

COMPONENT = "virtual-kubelet.koupleless.io/component"
ENV = "virtual-kubelet.koupleless.io/env"
COMPONENT_VNODE = "vnode"
COMPONENT_VNODE_LEASE = "vnode-lease"
COMPONENT_MODULE = "module"
COMPONENT_REPLICA = "module-controller"
"""On the member leases of our replicas."""
STRATEGY = "virtual-kubelet.koupleless.io/strategy"
STRATEGY_PEER = "peer"
REPLICAS_CONTROL = "virtual-kubelet.koupleless.io/replicas-control"
REPLICAS_CONTROL_OTHERS = "true"
"""Somebody else sets the replicas of this Deployment."""

BASE_NAME = "base.koupleless.io/name"
BASE_VERSION = "base.koupleless.io/version"
BASE_CLUSTER_NAME = "base.koupleless.io/cluster-name"
BASE_HOST_NAME = "base.koupleless.io/host-name"
BASE_TUNNEL_PORT = "base.koupleless.io/tunnel-port"

TAINT_VIRTUAL_NODE = "schedule.koupleless.io/virtual-node"
TAINT_NODE_ENV = "schedule.koupleless.io/node-env"

LEASE_NAMESPACE = "kube-node-lease"
MEMBER_LEASE_PREFIX = "module-controller-"
"""A replica's member lease is named this and its CLIENT_ID."""

KUBELET_SERVICE = "virtual-kubelet.koupleless.io/kubelet-proxy-service"
"""Service: true on the one through which the API server reaches our kubelet API."""
BASE_CONTAINER = "base.koupleless.io/container-name"
BASE_CONTAINER_DEFAULT = "base"
"""Pod of a base: the container whose log is that of the modules, and what it is called without the label."""

BIZ_VERSION_ENV = "BIZ_VERSION"

TRACE_ID = "trace.koupleless.io/id"
"""Label or annotation of a Pod or Deployment: goes along with what is reported of it."""

ANNOTATION_BASE_ADDRESS = "base.koupleless.io/address"
"""Node: ip:port of the base, so that a restarted replica knows where to ask."""
ANNOTATION_TUNNEL = "base.koupleless.io/tunnel"
"""Node: tunnel that last showed life of the base, for the same reason."""
ANNOTATION_OWNED_MODULES = "module.koupleless.io/installed"
"""VNode Lease: JSON object of the modules that this controller installed there. Earlier versions had it on the Node."""
ANNOTATION_INSTALL_STRATEGY = "module.koupleless.io/install-strategy"
"""Pod: installOnly or uninstallThenInstall."""
ANNOTATION_REQUEST_ID = "module.koupleless.io/request-id"
ANNOTATION_REQUESTED_BY = "module.koupleless.io/requested-by"
"""Pod: request_id of the tooling call that created it."""
ANNOTATION_REPLICA_ADDRESS = "module-controller.koupleless.io/address"
"""Member lease: host:port of the replica's gRPC server; empty when it does not know how others reach it."""
ANNOTATION_REPLICA_INSTANCE = "module-controller.koupleless.io/instance"
"""Member lease: random for each start of the process, so that two processes of one name differ."""
ANNOTATION_REPLICA_DRAINING = "module-controller.koupleless.io/draining"
"""Member lease: true while the replica should give its bases away and take none."""
ANNOTATION_REPLICA_TUNNELS = "module-controller.koupleless.io/tunnels"
"""Member lease: the tunnels of which gateways are connected to the replica, separated by commas."""
