"""Stands for the volumes of a kubelet: folders of this machine with tokens of service accounts and ConfigMaps."""

import http
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers.cluster import KubeCluster
from tests.servers.kubeapi import ApiError, Json


@dataclass(frozen=True, slots=True)
class Volumes:
    """The volumes of one Pod, with a folder each in folder: empty ones, and projected tokens and ConfigMaps."""

    cluster: KubeCluster
    pod: Json
    folder: Path

    def mount(self, container: Json) -> Mapping[str, str]:
        """Return the folder of each path at which a container has a volume; raises ApiError, OSError."""
        for name in self._names():
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name, source in self._sources("serviceAccountToken"):
            token = self._token(source["audience"], source["expirationSeconds"])
            (self.folder / name / source["path"]).write_text(token)
        self.refresh()
        return {mount["mountPath"]: str(self.folder / mount["name"]) for mount in container.get("volumeMounts", [])}

    def refresh(self) -> None:
        """Write what changed in ConfigMaps, each file at once; raises ApiError, OSError."""
        for name, source in self._sources("configMap"):
            data = self._data(source["name"])
            for item in source["items"]:
                file = self.folder / name / item["path"]
                if item["key"] not in data:
                    assert source["optional"], "the Pod would not start"
                elif not file.exists() or file.read_text() != data[item["key"]]:
                    new = file.with_name(f"..{file.name}")
                    new.write_text(data[item["key"]])
                    new.replace(file)

    def _names(self) -> Iterator[str]:
        for volume in self.pod["spec"].get("volumes", []):
            assert volume.keys() <= {"name", "emptyDir", "projected"}, "no Pod of ours has others"
            yield volume["name"]

    def _sources(self, kind: str) -> Iterator[tuple[str, Json]]:
        for volume in self.pod["spec"].get("volumes", []):
            for source in volume.get("projected", {}).get("sources", []):
                if kind in source:
                    yield volume["name"], source[kind]

    def _token(self, audience: str, seconds: int) -> str:
        meta = self.pod["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        spec = {"audiences": [audience], "expirationSeconds": seconds, "boundObjectRef": bound}
        account = f"{self._namespace}/serviceaccounts/{self.pod['spec']['serviceAccountName']}"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self.cluster.api.create(f"{account}/token", request)["status"]["token"])

    def _data(self, config_map: str) -> Mapping[str, str]:
        try:
            found = self.cluster.api.get(f"{self._namespace}/configmaps/{config_map}")
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return {}
            raise
        return dict(found.get("data", {}))

    @property
    def _namespace(self) -> str:
        return f"/api/v1/namespaces/{self.pod['metadata']['namespace']}"
