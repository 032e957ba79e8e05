"""Which modules of the product read bytes or texts from outside: found by what they call and take."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "controlplane",
    "gateways",
    "grpcclient",
    "kubeaccess",
    "mctl",
    "modulecontroller",
    "mqttclient",
    "service",
    "simulatedbase",
)
_CALLS = frozenset(
    """
    b64decode compose compose_all decode fromisoformat from_bytes FromString load_all load_pem_private_key
    load_pem_x509_certificate load_pem_x509_certificates loads MergeFromString model_validate_json parsed
    ParseFromString reader safe_load unpack Unpack unquote urlsafe_b64decode urlsplit validate_json
    """.split()  # noqa: SIM905
)
_BYTES = frozenset({"bytes", "bytearray", "memoryview"})
_TYPES = {
    "controlplane.access": "Json",
    "controlplane.certificates": "Json",
    "controlplane.cluster": "Json",
    "controlplane.embedded.api": "Json",
    "controlplane.kubelet": "Json",
    "controlplane.rpc": "pb.",
    "gateways.arklet": "Json",
    "gateways.session": "pb.ConnectResponse",
    "mctl": "grpc.RpcError",
}
"""By package: how the types begin of what somebody else wrote and was taken apart already."""


@cache
def modules() -> dict[str, str]:
    """Return the modules that read something from outside, by dotted name, each with a sign of it."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if sign := next(_signs(name, ast.parse(path.read_text())), ""):
                found[name] = sign
    return found


def _signs(module: str, tree: ast.Module) -> Iterator[str]:
    types = tuple(types for package, types in _TYPES.items() if module.startswith(f"{package}."))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in _CALLS or (node.func.attr == "load" and ast.unparse(node.func) == "yamltree.load"):
                yield f"line {node.lineno} calls {ast.unparse(node.func)}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for argument in node.args.args:
                kind = ast.unparse(argument.annotation) if argument.annotation is not None else ""
                parses = node.name.startswith("parse") and kind == "str"
                if parses or kind in _BYTES or kind.startswith(types):
                    yield f"line {node.lineno}: {node.name} takes {argument.arg}: {kind}"
