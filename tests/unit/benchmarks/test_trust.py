"""What is made of rests with and without TLS."""

import pytest

from benchmarks import exposition
from benchmarks.idle import Rest
from benchmarks.trust import figures


def rest(control_plane: float, gateway: float, reviews: str = "") -> Rest:
    return Rest(60.0, {"control plane": control_plane, "gateway": gateway}, exposition.parse(reviews))


def test_tls_is_compared_with_plaintext_over_all_rounds() -> None:
    reviews = """\
# TYPE koupleless_access_reviews counter
koupleless_access_reviews_total{kind="token",outcome="known"} 5
koupleless_access_reviews_total{kind="token",outcome="unknown"} 1
koupleless_access_reviews_total{kind="access",outcome="allowed"} 4
"""
    rests = {False: [rest(0.1, 0.2), rest(0.3, 0.2)], True: [rest(0.21, 0.3, reviews), rest(0.21, 0.3, reviews)]}
    found = {figure.name: figure.value for figure in figures(rests, 1000)}
    assert found["CPU of control plane, plaintext"] == pytest.approx(12)
    assert found["  more with TLS: control plane"] == pytest.approx(5)
    assert found["  more with TLS: gateway"] == pytest.approx(50)
    assert found["reviews of a tool's token"] == pytest.approx(6)
    assert found["reviews of a tool's right"] == pytest.approx(4)
