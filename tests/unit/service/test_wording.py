"""Messages of validators are put into plain words."""

import pytest

from service.wording import plain


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Value error, no port", "no port"),
        (
            "Invalid value for '-o': Value error, 'x' is not one of 'y'.",
            "Invalid value for '-o': 'x' is not one of 'y'.",
        ),
        ("Input should be a valid integer, unable to parse string as an integer", "must be a valid integer"),
        ("Input should be a valid boolean, unable to interpret input", "must be a valid boolean"),
        ("Input should be 'a' or 'b'", "must be 'a' or 'b'"),
        ("errors resolving h:1: [field:hostname lookup error:not found]", "errors resolving h:1: not found"),
        ("there is no file; name one", "there is no file; name one"),
    ],
)
def test_terms_of_the_library_are_left_out(raw: str, expected: str) -> None:
    assert plain(raw) == expected
