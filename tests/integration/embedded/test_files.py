"""The file of the embedded cluster keeps all confirmed writes, and unusable or damaged files are named."""

import asyncio
import contextlib
import resource
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from controlplane.app.ports import NotFound, StorageDamaged, Transient
from controlplane.cluster.api import DEPLOYMENTS, NODES, PODS, Expired, Json
from controlplane.embedded.api.database import CannotOpen
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.cluster import EmbeddedCluster

ROOT = Path(__file__).parents[3]
PAGE = 4096


def node(name: str) -> Json:
    return {"metadata": {"name": name}, "spec": {}}


async def start_writer(path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.embedded.writer", str(path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )


async def test_objects_versions_and_uids_survive_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "cluster.db")
    store = await EmbeddedApiServer.open(path)
    first = await store.create(NODES, node("a"))
    await store.create(NODES, node("b"))
    await store.delete(NODES, "b")
    await store.close()

    store = await EmbeddedApiServer.open(path)
    assert await store.get(NODES, "a") == first
    with pytest.raises(NotFound):
        await store.get(NODES, "b")
    # A version from before the restart cannot be resumed from, the current one can.
    with pytest.raises(Expired):
        await anext(store.watch(NODES, resource_version=first["metadata"]["resourceVersion"]))
    version = (await store.list(NODES)).resource_version
    later = await store.create(NODES, node("c"))
    assert int(later["metadata"]["resourceVersion"]) > int(version)
    event = await anext(store.watch(NODES, resource_version=version))
    assert event.object == later
    await store.close()


async def test_concurrent_writers_see_each_other_and_lose_nothing(tmp_path: Path) -> None:
    store = await EmbeddedApiServer.open(str(tmp_path / "cluster.db"))
    version = (await store.list(NODES)).resource_version
    made = await asyncio.gather(*(store.create(NODES, node(f"n{i}")) for i in range(300)))
    assert len({n["metadata"]["resourceVersion"] for n in made}) == 300
    watch = store.watch(NODES, resource_version=version)
    seen = [(await anext(watch)).object["metadata"]["resourceVersion"] for _ in range(300)]
    assert seen == sorted(seen, key=int)
    outcomes = await asyncio.gather(
        *(
            store.patch(
                NODES,
                "n0",
                {"metadata": {"resourceVersion": made[0]["metadata"]["resourceVersion"], "labels": {"winner": str(i)}}},
            )
            for i in range(20)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, dict) for outcome in outcomes) == 1
    await store.close()


async def test_a_second_process_is_refused_with_a_clear_message(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    writer = await start_writer(path)
    try:
        assert writer.stdout is not None
        await asyncio.wait_for(writer.stdout.readline(), 30)
        with pytest.raises(CannotOpen, match="in use by another process"):
            await EmbeddedApiServer.open(str(path))
    finally:
        writer.kill()
        await writer.communicate()


async def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match="folder that can be written"):
        await EmbeddedApiServer.open(str(tmp_path / "absent" / "cluster.db"))
    text = tmp_path / "text.db"
    text.write_text("no database, but long enough to be looked at " * 100)
    with pytest.raises(CannotOpen, match="no file of an embedded cluster"):
        await EmbeddedApiServer.open(str(text))
    newer = tmp_path / "newer.db"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(CannotOpen, match="format 99"):
        await EmbeddedApiServer.open(str(newer))


async def owners(store: EmbeddedApiServer) -> dict[str, tuple[str, ...]]:
    """The Pods that are not being deleted by name, with the names of their owners."""
    found: dict[str, tuple[str, ...]] = {}
    for pod in (await store.list(PODS)).items:
        if "deletionTimestamp" not in pod["metadata"]:
            references = pod["metadata"]["ownerReferences"]
            found[pod["metadata"]["name"]] = tuple(f"{each['kind']}/{each['name']}" for each in references)
    return found


async def test_a_file_of_format_1_is_taken_over_with_all_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with sqlite3.connect(path) as connection:
        connection.executescript((Path(__file__).parent / "format1.sql").read_text())
    connection.close()
    expected = {
        "web-85pq4pspjn-qhvt9": ("Deployment/web",),
        "web-85pq4pspjn-xwbxl": ("Deployment/web",),
        "web-cwkwphnhjl-dpbvl": ("Deployment/web",),
        "bare-g69qz": (),
        "everywhere-q6j7l": ("DaemonSet/everywhere",),
        "everywhere-qvccn": ("DaemonSet/everywhere",),
    }
    for _ in range(2):
        store = await EmbeddedApiServer.open(str(path))
        running = asyncio.create_task(EmbeddedCluster(store).run())
        await asyncio.sleep(1)
        # The owners of one were gone already: it leaves with its grace, as it would have.
        assert await owners(store) == expected
        assert (await store.get(PODS, "gone-xhlj478bdl-hfwnh", "default"))["metadata"]["deletionTimestamp"]
        running.cancel()
        await asyncio.wait([running])
        await store.close()
    store = await EmbeddedApiServer.open(str(path))
    running = asyncio.create_task(EmbeddedCluster(store).run())
    image = {"containers": [{"name": "biz1", "image": "https://repo.example/biz1-0.0.1.jar"}]}
    await store.patch(DEPLOYMENTS, "web", {"spec": {"template": {"spec": image}}}, namespace="default")
    await asyncio.sleep(1)
    del expected["web-cwkwphnhjl-dpbvl"]
    assert await owners(store) == expected
    running.cancel()
    await asyncio.wait([running])
    await store.close()


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3])
async def test_a_killed_writer_leaves_all_that_was_confirmed(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "cluster.db"
    writer = await start_writer(path)
    assert writer.stdout is not None
    lines = [await asyncio.wait_for(writer.stdout.readline(), 30)]
    await asyncio.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    rest, _ = await writer.communicate()
    lines += [line + b"\n" for line in rest.split(b"\n")[:-1]]
    confirmed = dict(line.decode().split() for line in lines)
    assert writer.returncode == -signal.SIGKILL

    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    store = await EmbeddedApiServer.open(str(path))
    listed = await store.list(NODES)
    kept = {n["metadata"]["name"]: n["metadata"]["resourceVersion"] for n in listed.items}
    assert confirmed.items() <= kept.items()
    assert int(listed.resource_version) >= max(int(version) for version in kept.values())
    assert len(set(kept.values())) == len(kept)
    new = await store.create(NODES, node("after"))
    assert int(new["metadata"]["resourceVersion"]) > int(listed.resource_version)
    await store.close()


def flipped(path: Path, page: int, target: Path, *, whole: bool) -> Path:
    """Copy the file with all bits of a page, or of one byte of it, turned round."""
    data = bytearray(path.read_bytes())
    begin = page * PAGE
    for at in range(begin, begin + PAGE) if whole else (begin + PAGE // 2,):
        data[at] ^= 0xFF
    target.write_bytes(data)
    return target


async def test_a_page_that_was_flipped_is_named_with_the_file_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    store = await EmbeddedApiServer.open(str(path))
    for number in range(100):
        await store.create(NODES, node(f"n{number}"))
    await store.close()
    pages = path.stat().st_size // PAGE
    assert pages > 5
    for page in range(pages):
        bad = flipped(path, page, tmp_path / "bad.db", whole=True)
        with pytest.raises(CannotOpen, match="move it away"):
            await EmbeddedApiServer.open(str(bad))
    for page in range(1, pages):
        bad = flipped(path, page, tmp_path / "bad.db", whole=False)
        try:
            store = await EmbeddedApiServer.open(str(bad))
        except CannotOpen:
            continue
        # The byte was in space that holds nothing, or is another letter of a text now.
        assert len((await store.list(NODES)).items) == 100
        await store.close()


async def test_a_file_that_breaks_while_it_is_used_ends_what_runs_on_it(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    store = await EmbeddedApiServer.open(str(path))
    for number in range(100):
        await store.create(NODES, node(f"n{number}"))
    await store.close()
    store = await EmbeddedApiServer.open(str(path))
    running = asyncio.create_task(EmbeddedCluster(store).run())
    async with asyncio.timeout(30):
        while len(store.subscribers) != 1:  # noqa: ASYNC110 - a list has no event; two while it takes what is there
            await asyncio.sleep(0.01)
    # Another handle writes into the file, as a failing disk does, and SQLite has to read it again.
    data = bytes(byte ^ 0xFF for byte in path.read_bytes()[PAGE:])
    with path.open("r+b") as file:
        file.seek(PAGE)
        file.write(data)
    with contextlib.suppress(Transient):
        await store.read(lambda transaction: transaction._execute("PRAGMA shrink_memory"))
    with pytest.raises(StorageDamaged, match=r"EMBEDDED_DB=.*cluster\.db: the file is damaged"):
        await store.list(NODES)
    with pytest.raises(ExceptionGroup) as ended:
        await running
    assert ended.value.subgroup(StorageDamaged) is not None
    assert "move it away" in (store.trouble() or "")
    await store.close()


async def test_a_full_disk_is_transient_and_nothing_is_half_done(tmp_path: Path) -> None:
    store = await EmbeddedApiServer.open(str(tmp_path / "cluster.db"))
    await store.create(NODES, node("a"))
    large = [node(f"large{i}") for i in range(5)]
    for manifest in large:
        manifest["metadata"]["annotations"] = {"text": "x" * 200_000}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, hard))
    try:
        with pytest.raises(Transient):
            await asyncio.gather(*(store.create(NODES, manifest) for manifest in large))
        before = await store.list(NODES)
        assert "EMBEDDED_DB" in (store.trouble() or "")
        assert "a" in {n["metadata"]["name"] for n in before.items}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    created = await store.create(NODES, node("b"))
    assert store.trouble() is None
    assert int(created["metadata"]["resourceVersion"]) > int(before.resource_version)
    await store.close()
