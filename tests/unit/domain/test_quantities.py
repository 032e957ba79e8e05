"""Quantities are read and written as the API server does it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import quantities


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", "0"),
        ("250m", "0.25"),
        ("1.5", "1.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("64Mi", "67108864"),
        ("1.5Gi", "1610612736"),
        ("2k", "2000"),
        ("3M", "3000000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1E", "1000000000000000000"),
        ("12e-1", "1.2"),
        ("100n", "0.0000001"),
        ("-1", "-1"),
    ],
)
def test_quantities_are_numbers(text: str, number: str) -> None:
    assert quantities.parse(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", " 1", "1 Gi", "Mi", "1K", "1ki", "1e", "1e3Mi", "٣", "1_000", "nan", "1e999"])
def test_what_is_no_quantity_is_none(text: str) -> None:
    assert quantities.parse(text) is None


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("0", "0"),
        ("1000", "1k"),
        ("65535", "65535"),
        ("1.5", "1500m"),
        ("1000m", "1"),
        ("0.0001", None),
        ("1e99", None),
        ("1024Gi", "1Ti"),
        ("1.5Gi", "1536Mi"),
        ("1536Ki", "1536Ki"),
        ("1e6", "1M"),
        ("2000E", "2000E"),
        ("-1", None),
        ("much", None),
    ],
)
def test_quantities_are_written_as_the_api_server_stores_them(text: str, stored: str | None) -> None:
    assert quantities.canonical(text) == stored


@given(st.text(max_size=40))
def test_any_text_is_a_quantity_or_none(text: str) -> None:
    number = quantities.parse(text)
    assert number is None or number.is_finite()
