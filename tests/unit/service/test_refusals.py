"""What a refusal says of a request."""

from service.refusals import LONGEST_TEXT, RequestRefused


def test_a_refusal_that_quotes_all_of_a_request_is_cut() -> None:
    refusal = RequestRefused(400, "malformed", f"Invalid isoformat string: {'9' * 60_000}")
    assert len(refusal.text) == len(str(refusal)) == LONGEST_TEXT
