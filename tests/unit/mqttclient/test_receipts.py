"""PUBACKs are sent in the order in which messages came."""

from hypothesis import given
from hypothesis import strategies as st

from mqttclient.receipts import Acknowledgements, Receipt


@given(st.permutations(range(8)), st.integers(0, 8))
def test_acknowledgements_keep_the_order_of_messages(order: list[int], settled: int) -> None:
    sent: list[int] = []
    queue = Acknowledgements(sent.append)
    receipts: list[Receipt] = [queue.received(mid) for mid in range(8)]
    for number in order[:settled]:
        receipts[number].settle()
        receipts[number].settle()
        assert sent == list(range(len(sent)))
        assert all(receipts[mid].done for mid in sent)
    first_open = next((mid for mid in range(8) if not receipts[mid].done), 8)
    assert sent == list(range(first_open))
    assert len(queue) == 8 - first_open
