"""Messages of the contract for tests; enum values are named without their prefix."""

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from koupleless.tunnel.v1 import tunnel_pb2 as pb


def millis(changed_at: int) -> Timestamp:
    return Timestamp(seconds=changed_at // 1000, nanos=changed_at % 1000 * 1_000_000)


def module(
    name: str,
    version: str = "1",
    state: str = "ACTIVATED",
    changed_at: int | None = None,
    reason: str = "",
    message: str = "",
) -> pb.Module:
    return pb.Module(
        name=name,
        version=version,
        state=pb.ModuleState.Value(f"MODULE_STATE_{state}"),
        changed_at=None if changed_at is None else millis(changed_at),
        reason=reason,
        message=message,
    )


def reply(
    code: str = "SUCCESS",
    client_code: str = "UNSPECIFIED",
    message: str = "",
    modules: Iterable[pb.Module] = (),
) -> pb.Reply:
    return pb.Reply(
        code=pb.ReplyCode.Value(f"REPLY_CODE_{code}"),
        client_code=pb.ClientCode.Value(f"CLIENT_CODE_{client_code}"),
        message=message,
        modules=modules,
    )


def health(
    state: str = "UNSPECIFIED",
    metaspace: tuple[int, int, int] | None = None,
    java_version: str = "",
    cpus: int = 0,
    usage: pb.Usage | None = None,
) -> pb.Health:
    used, committed, most = metaspace or (0, 0, 0)
    return pb.Health(
        state=pb.BaseState.Value(f"BASE_STATE_{state}"),
        metaspace=pb.Metaspace(used_bytes=used, committed_bytes=committed, max_bytes=most) if metaspace else None,
        java_version=java_version,
        cpus=cpus,
        usage=usage,
    )


def heartbeat(
    base: str,
    name: str = "",
    version: str = "",
    cluster_name: str = "",
    *,
    host_name: str = "",
    ip: str = "",
    port: int = 0,
    state: str = "UNSPECIFIED",
) -> pb.Report:
    content = pb.Heartbeat(
        name=name,
        version=version,
        cluster_name=cluster_name,
        host_name=host_name,
        address=pb.Address(ip=ip, port=port),
        state=pb.BaseState.Value(f"BASE_STATE_{state}"),
    )
    return pb.Report(base_id=base, heartbeat=content)


def modules(base: str, *listed: pb.Module, epoch: int = 1) -> pb.Report:
    return pb.Report(base_id=base, modules=pb.Modules(complete=True, modules=listed, epoch=epoch))


def query(base: str, query_id: str = "", name: str = "", version: str = "", cluster_name: str = "") -> pb.Report:
    asked = pb.BaselineQuery(query_id=query_id, name=name, version=version, cluster_name=cluster_name)
    return pb.Report(base_id=base, baseline_query=asked)


def result(order_id: str, base: str = "b") -> pb.Report:
    return pb.Report(base_id=base, order_result=pb.OrderResult(order_id=order_id, reply=reply()))


def seconds(value: float) -> Duration:
    return Duration(seconds=int(value), nanos=round(value % 1 * 1e9))


def address(ip: str, port: int = 1238) -> pb.Address:
    return pb.Address(ip=ip, port=port)


def watch(base: str = "a", ip: str = "10.0.0.1", port: int = 1238, *, fence: int = 1, epoch: int = 1) -> pb.Watch:
    """Return a Watch with intervals of 15 s for modules, 30 s for health, 10 s for the health of a silent base."""
    return pb.Watch(
        base_id=base,
        fence=fence,
        address=address(ip, port),
        epoch=epoch,
        modules_interval=seconds(15),
        health_interval=seconds(30),
        silent_health_interval=seconds(10),
    )


def order(
    order_id: str,
    verb: pb.Verb.ValueType = pb.VERB_INSTALL,
    *names: str,
    base: str = "b",
    fence: int = 1,
    ip: str = "10.0.0.1",
    port: int = 0,
    timeout: float = 60.0,
) -> pb.Order:
    return pb.Order(
        order_id=order_id,
        fence=fence,
        base_id=base,
        address=address(ip, port),
        verb=verb,
        modules=[pb.OrderModule(name=name, version="1") for name in names],
        timeout=seconds(timeout),
    )
