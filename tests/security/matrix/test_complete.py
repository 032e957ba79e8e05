"""No port and no call is missing from the matrix."""

from controlplane.rpc.access.rules import RULES
from tests.listening import listening
from tests.security.matrix.doors import CALLS, DOORS
from tests.security.matrix.table import rows


def test_each_port_of_each_program_has_rows() -> None:
    tried = {(DOORS[row.door].program, DOORS[row.door].variable) for row in rows()}
    assert tried == {(program, variable) for program, variables in listening().items() for variable in variables}


def test_each_call_and_each_door_has_rows() -> None:
    assert {call.method for call in CALLS.values()} == RULES.keys()
    tried = {row.door for row in rows()}
    assert tried >= CALLS.keys()
    # Where tokens of this machine count, the calls of each kind are enough.
    assert {door for door in DOORS if not door.endswith(" on one machine")} <= tried
