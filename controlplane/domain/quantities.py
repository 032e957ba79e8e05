"""Quantities of Kubernetes ("250m", "64Mi", "1e3") as numbers, and in the form in which the API server stores them.

The official client reads them, and neither writes nor refuses them as the API server does.
"""

import re
from decimal import Decimal

_FORM = re.compile(
    r"(?P<number>[+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}))"
    r"(?P<suffix>[eE][+-]?[0-9]{1,2}|[KMGTPE]i|[numkMGTPE]?)",
    re.ASCII,
)
_BINARY = ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("k", "M", "G", "T", "P", "E")
_SUFFIXES = {
    **{suffix: Decimal(1).scaleb(power) for suffix, power in (("n", -9), ("u", -6), ("m", -3), ("", 0))},
    **{suffix: Decimal(1000**power) for power, suffix in enumerate(_DECIMAL, start=1)},
    **{suffix: Decimal(1024**power) for power, suffix in enumerate(_BINARY, start=1)},
}


def parse(text: str) -> Decimal | None:
    """Return the number that a quantity stands for, None for what is no quantity."""
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    number, suffix = Decimal(form["number"]), form["suffix"]
    if suffix in _SUFFIXES:
        return number * _SUFFIXES[suffix]
    return number.scaleb(int(suffix[1:]))


def canonical(text: str) -> str | None:
    """Return a quantity as the API server writes it, None for what is no quantity or no whole number of thousandths.

    Exponents, which it keeps as they are, become suffixes. One of more than 30 digits could not be read again.
    """
    number = parse(text)
    if number is None or not 0 <= number < 10**30 or number * 1000 != (number * 1000).to_integral_value():
        return None
    if number != number.to_integral_value():
        return f"{int(number * 1000)}m"
    return shortest(int(number), binary=text.endswith("i"))


def shortest(size: int, *, binary: bool) -> str:
    """Return a whole number with the greatest suffix that leaves it whole."""
    step, suffixes, chosen = (1024, _BINARY, "") if binary else (1000, _DECIMAL, "")
    for suffix in suffixes:
        if not size or size % step:
            break
        size //= step
        chosen = suffix
    return f"{size}{chosen}"
