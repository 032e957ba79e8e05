"""Three control planes on one cluster, with relays that can be cut; one stage for all tests of this folder."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.everything import Bases, Namespace, manifest, ready
from tests.programs import ControlPlane, HttpGateway, MqttGateway, Programs, eventually
from tests.servers.cleaning import SYSTEM_NAMESPACE
from tests.servers.cluster import CONTROL_PLANE, KubeCluster
from tests.servers.fetch import Unavailable
from tests.servers.fixtures import not_run
from tests.servers.kubeapi import ApiError, Json
from tests.servers.mosquitto import Mosquitto
from tests.servers.relay import Relay

REPLICAS = ("cp-0", "cp-1", "cp-2")
HTTP_BASES, MQTT_BASES = 8, 4
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Replica:
    """A control plane and its relays: api to the API server, tunnel from the gateways."""

    def __init__(self, name: str, cluster: KubeCluster, programs: Programs, stack: ExitStack, **environ: str) -> None:
        self.name = name
        self.api = stack.enter_context(Relay(int(cluster.url.rpartition(":")[2])))
        kubeconfig = Path(programs.folder / f"{name}.kubeconfig")
        original = cluster.kubeconfig(CONTROL_PLANE).read_text()
        kubeconfig.write_text(original.replace(cluster.url, f"https://127.0.0.1:{self.api.port}"))
        self.grpc = programs.port()
        self.tunnel = stack.enter_context(Relay(self.grpc))
        self.control_plane = ControlPlane(
            programs,
            name,
            CLUSTER="kubernetes",
            NAMESPACE=SYSTEM_NAMESPACE,
            KUBECONFIG=str(kubeconfig),
            IS_CLUSTER="true",
            LOG_LEVEL="debug",
            GRPC_PORT=str(self.grpc),
            ADVERTISE_ADDRESS=self.address,
            **environ,
        )
        self.server = self.control_plane.server

    @property
    def address(self) -> str:
        """Where gateways reach it."""
        return f"127.0.0.1:{self.tunnel.port}"


class Stage(Namespace):
    """All programs, twelve bases with a module each, and the state that tests check."""

    def __init__(self, cluster: KubeCluster, broker: Mosquitto, programs: Programs, stack: ExitStack) -> None:
        super().__init__(cluster.api, "default")
        self.cluster = cluster
        self.programs = programs
        self.stack = stack
        self.replicas = {name: Replica(name, cluster, programs, stack) for name in REPLICAS}
        addresses = ",".join(replica.address for replica in self.replicas.values())
        self.gateways = [HttpGateway(programs, addresses, name, LOG_LEVEL="debug") for name in ("http-0", "http-1")]
        self.mqtt = MqttGateway(programs, addresses, broker.port, LOG_LEVEL="debug")
        self._broker = broker
        self._bases: list[Bases] = []

    def start(self) -> None:
        """Start everything; return when all bases are Nodes with a module each."""
        for replica in self.replicas.values():
            replica.server.start()
        for replica in self.replicas.values():
            replica.control_plane.start()
        for gateway in self.all_gateways:
            gateway.start()
        for number, gateway in enumerate(self.gateways):
            self._start_bases(f"h{number}", HTTP_BASES // 2, "--controller", gateway.url, "--tunnel", "http")
        broker = ("--broker", "127.0.0.1", "--mqtt-port", str(self._broker.port), "--heartbeats-survive")
        self._start_bases("m", MQTT_BASES, "--tunnel", "mqtt", *broker, "--reconnect-longest", "3")
        eventually(lambda: len(self.ready_nodes()) == len(self.nodes), within=90, what="all Nodes Ready")
        for node in self.nodes:
            self.install(node, "biz1")
        self.wait_all_ready(within=90)

    def _start_bases(self, identity: str, count: int, *arguments: str) -> None:
        options = ("--env", "dev", "--heartbeat-interval", "2", "--count", str(count), *arguments)
        self._bases.append(Bases(self.programs, identity, *options, count=count).start())

    def extra_base(self) -> Bases:
        """Start one more base, which other tests ignore."""
        options = (
            "--env",
            "dev",
            "--heartbeat-interval",
            "2",
            "--controller",
            self.gateways[0].url,
            "--tunnel",
            "http",
        )
        return Bases(self.programs, "mortal", *options, count=1).start()

    @property
    def all_gateways(self) -> list[HttpGateway | MqttGateway]:
        """The gateways of both kinds."""
        return [*self.gateways, self.mqtt]

    @property
    def nodes(self) -> list[str]:
        """Names of the Nodes of all bases."""
        return [node for bases in self._bases for node in bases.nodes]

    def ready_nodes(self) -> dict[str, str]:
        """Return the UID of each Ready Node."""
        return {n["metadata"]["name"]: n["metadata"]["uid"] for n in self.api.items("/api/v1/nodes") if ready(n)}

    def install(self, node: str, module: str) -> None:
        """Create a Pod for a module on a base."""
        pod = manifest("biz1.yaml", name=f"{module}.{node}")
        (container,) = pod["spec"]["containers"]
        container |= {"name": module, "image": f"https://repo.example/{module}-0.0.1.jar"}
        pod["spec"]["nodeName"] = node
        self.apply(pod)

    def wait_all_ready(self, within: float = 60.0) -> None:
        """Return when all Nodes, and the module that each base always has, are Ready."""
        eventually(lambda: len(self.ready_nodes()) == len(self.nodes), within=within, what="all Nodes Ready")
        eventually(lambda: self.pods_ready("biz1"), within=within, what="a module on each base")

    def pods_ready(self, module: str) -> bool:
        """Whether the module's Pod is Ready on each base."""
        pods = {pod["metadata"]["name"]: pod for pod in self.pods()}
        return all(ready(pods.get(f"{module}.{node}")) for node in self.nodes)

    def leases(self) -> dict[str, Json]:
        """Return the specification of each VNode lease."""
        return {lease["metadata"]["name"]: lease["spec"] for lease in self.api.items(LEASES)}

    def owned(self) -> Counter[str]:
        """Return how many VNodes each replica owns."""
        return Counter(str(spec.get("holderIdentity", "")) for spec in self.leases().values())

    def owner(self, node: str) -> Replica:
        """Return the replica that owns a VNode."""
        return self.replicas[self.leases()[node]["holderIdentity"]]

    def settled(self, *names: str) -> bool:
        """Whether exactly these replicas own all VNodes, evenly."""
        owned = self.owned()
        return set(owned) == set(names) and max(owned.values()) <= -(-len(self.nodes) // len(names)) + 1

    def wait_settled(self, *names: str, within: float = 60.0) -> None:
        """Return when exactly these replicas, by default all, own all VNodes, evenly."""
        names = names or REPLICAS
        eventually(lambda: self.settled(*names), within=within, what=f"VNodes shared by {names}; {self.owned()}")

    def wait_even(self, within: float = 60.0) -> None:
        """Return when all replicas own as many VNodes of each tunnel, to one: then none has a reason to move."""

        def even() -> bool:
            holders = {node: str(spec.get("holderIdentity", "")) for node, spec in self.leases().items()}
            tunnels = {node: node.startswith("vnode.m-") for node in self.nodes}
            for kind in (True, False):
                load = Counter(dict.fromkeys(REPLICAS, 0))
                load.update(holders[node] for node, tunnel in tunnels.items() if tunnel is kind)
                if set(load) != set(REPLICAS) or max(load.values()) - min(load.values()) > 1:
                    return False
            return True

        eventually(even, within=within, what=f"VNodes of each tunnel shared evenly; {self.owned()}")

    def work(self, module: str) -> None:
        """Install a module on all bases and uninstall it again, which shows that all bases are managed."""
        for node in self.nodes:
            self.install(node, module)
        eventually(lambda: self.pods_ready(module), within=60, what=f"{module} Ready on all bases")
        for node in self.nodes:
            self.delete("Pod", f"{module}.{node}")
        gone = {f"{module}.{node}" for node in self.nodes}
        eventually(
            lambda: not gone & {pod["metadata"]["name"] for pod in self.pods(leaving=True)},
            within=60,
            what=f"{module} gone",
        )

    def orders(self) -> Counter[tuple[str, str, str]]:
        """Return the number of orders that each base got, by base, verb and module."""
        return Counter(
            (identity, verb, module)
            for bases in self._bases
            for identity in bases.identities
            for verb, module in bases.orders(identity)
        )

    @contextmanager
    def undisturbed(self, *, ready: bool = True) -> Iterator[None]:
        """Assert that throughout no Node or Pod of biz1 is deleted, not Ready, or touched at its base."""
        watcher = _Watcher(self, ready=ready)
        with watcher:
            yield
        assert not watcher.seen, watcher.seen[:5]
        again = [order for order, times in self.orders().items() if order[2] == "biz1:0.0.1" and times != 1]
        assert not again, f"ordered again: {again}"
        assert not [order for order in self.orders() if order[1:] == ("uninstall", "biz1:0.0.1")]

    def restore(self) -> None:
        """Restore everything that a test stopped."""
        for replica in self.replicas.values():
            replica.api.mend()
            replica.tunnel.mend()
            replica.control_plane.start()
        for gateway in self.all_gateways:
            gateway.start()
        self.wait_settled()


class _Watcher:
    """Watches Nodes and Pods all the time; a cluster that does not answer is no finding."""

    def __init__(self, stage: Stage, *, ready: bool) -> None:
        self.seen: list[str] = []
        self._stage = stage
        self._ready = ready
        self._before = self._look()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> dict[str, tuple[str, bool]]:
        objects = [*self._stage.api.items("/api/v1/nodes"), *self._stage.pods(leaving=True)]
        named = {obj["metadata"]["name"]: (obj["metadata"]["uid"], ready(obj)) for obj in objects}
        return {name: found for name, found in named.items() if name.startswith(("vnode.", "biz1."))}

    def _run(self) -> None:
        while not self._ended.wait(0.3):
            try:
                now = self._look()
            except (OSError, ApiError):
                continue
            for name, (uid, _) in self._before.items():
                found = now.get(name)
                if found is None or found[0] != uid:
                    self.seen.append(f"{name} is gone or another one")
                elif self._ready and not found[1]:
                    self.seen.append(f"{name} is not Ready")


@pytest.fixture(scope="package")
def shared(kube_cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Everything, running."""
    kube_cluster.clean()
    try:
        broker = Mosquitto()
    except Unavailable as error:
        not_run("mosquitto", str(error))
    with ExitStack() as stack:
        stack.enter_context(broker)
        programs = stack.enter_context(Programs(tmp_path_factory.mktemp("shards")))
        stage = Stage(kube_cluster, broker, programs, stack)
        stage.start()
        yield stage


@pytest.fixture
def stage(shared: Stage) -> Iterator[Stage]:
    """The stage in its normal state before a test, and restored after it."""
    shared.wait_settled()
    shared.wait_all_ready()
    try:
        yield shared
    finally:
        shared.restore()
