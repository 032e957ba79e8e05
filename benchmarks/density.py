"""Whether a module costs more where a base has many: M on each base, then ten times as many on a tenth of them."""

from collections.abc import Mapping, Sequence

from benchmarks import targets
from benchmarks.figures import Figure
from benchmarks.modules import plan
from benchmarks.onboarding import OURS
from benchmarks.progress import say
from benchmarks.rollout import Work, cores_at_rest, delete, roll_out, settled_nodes
from benchmarks.stage import Line, identities


async def measure(line: Line, *, modules: int, rounds: int) -> list[Figure]:
    """Return the CPU time for a module in either case, over all rounds; raises Failed, ClusterError."""
    bases = line.stage.bases
    await settled_nodes(line)
    rest = await cores_at_rest(line)
    spent: dict[int, list[Mapping[str, float]]] = {bases: [], bases // targets.DENSER: []}
    for number in range(rounds):
        for some, costs in spent.items():
            work = Work(plan(identities(bases)[:some], modules * bases), [])
            say(f"round {number + 1} of {rounds}: {work.count // some} modules on each of {some} bases")
            costs.append((await roll_out(line, work, rest)).cpu)
            await delete(line, work, rest)
    return figures(modules, spent[bases], spent[bases // targets.DENSER])


def figures(modules: int, few: Sequence[Mapping[str, float]], many: Sequence[Mapping[str, float]]) -> list[Figure]:
    """Return the means of either case, and the multiple that many modules on a base make of few."""
    found = []
    for name in OURS:
        one, other = (sum(cost[name] for cost in costs) / len(costs) for costs in (few, many))
        found += [
            Figure(f"CPU of {name} per module, {modules} on each base", one, "ms"),
            Figure(f"CPU of {name} per module, {modules * targets.DENSER} on each base", other, "ms"),
            Figure(f"CPU of {name}, multiple with ten times as many", other / one, "1", targets.DENSE_MULTIPLE),
        ]
    return found
