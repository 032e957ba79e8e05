"""The image of a container: whether it is the URL of a jar, and which version it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import jars

REPO = "https://repo.example"


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (f"{REPO}/biz1-0.0.1.jar", True),
        ("http://10.0.0.1:8081/biz1.jar", True),
        ("file:///opt/biz1.jar", True),
        ("file:/opt/biz1.jar", True),
        ("oss://bucket/biz1", True),
        ("istio/proxyv2:1.30", False),
        ("localhost:5000/proxy:1.2", False),
        ("registry.example:5000/a/b@sha256:0f", False),
        ("busybox", False),
        ("", False),
    ],
)
def test_a_url_is_told_from_a_reference_into_a_registry(image: str, expected: bool) -> None:
    assert jars.is_url(image) is expected


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("biz1-0.0.1.jar", "0.0.1"),
        ("biz1-0.0.1-ark-biz.jar", "0.0.1"),
        ("biz1-web-single-host-0.0.1-SNAPSHOT-ark-biz.jar", "0.0.1-SNAPSHOT"),
        ("other-2.1.jar", "2.1"),
        ("biz1-1.0-rc-2.jar", "1.0-rc-2"),
        ("biz1-2024.11.jar?Expires=1&Signature=a%2Fb-3.jar", "2024.11"),
        ("biz1-1.0%2Bbuild5.jar", "1.0+build5"),
        ("0.0.1-SNAPSHOT/biz1-0.0.1-20240102.030405-17-ark-biz.jar", "0.0.1-SNAPSHOT"),
        ("download.jar#bizVersion=1.2", "1.2"),
        ("biz1-0.0.1.jar#bizVersion=1.2", "1.2"),
        ("biz1-0.0.1.jar?a=b#bizVersion=1.0%2B5", "1.0+5"),
        ("biz1-0.0.1.jar#bizVersion=", ""),
        ("biz1-0.0.1.jar#other", "0.0.1"),
        ("biz1.jar", ""),
        ("biz1-latest.jar", ""),
        ("4711", ""),
        ("biz1-0.0.1.zip", ""),
        ("biz1-0.0.1.jar/", ""),
        ("", ""),
    ],
)
def test_the_version_that_a_url_says(image: str, version: str) -> None:
    assert jars.version(f"{REPO}/{image}", "biz1") == version


@pytest.mark.parametrize(
    ("name", "file", "version"),
    [
        ("biz-2", "biz-2-0.1.0.jar", "0.1.0"),
        ("biz-2", "biz-2-web-0.1.0.jar", "0.1.0"),
        ("biz", "biz-2-0.1.0.jar", "2-0.1.0"),
    ],
)
def test_digits_of_the_modules_own_name_are_no_version(name: str, file: str, version: str) -> None:
    assert jars.version(f"{REPO}/{file}", name) == version


def test_a_reference_into_a_registry_says_no_version() -> None:
    assert jars.version("registry.example/biz1-0.0.1.jar", "biz1") == ""


@pytest.mark.parametrize(
    "signed",
    [
        f"{REPO}/a.jar?Expires=1&Signature=a%2Fb%2B%3D",
        f"{REPO}/a.jar?bizVersion=3",
        f"{REPO}/a.jar#other",
        "file:/a b.jar",
    ],
)
def test_a_base_gets_the_url_without_our_fragment_and_otherwise_byte_for_byte(signed: str) -> None:
    assert jars.url(signed) == signed
    assert jars.url(f"{signed}#bizVersion=1.2") == signed


@given(st.text(max_size=40), st.text(max_size=10))
def test_any_image_has_a_url_and_a_version(image: str, name: str) -> None:
    assert image.startswith(jars.url(image))
    assert isinstance(jars.version(f"https://{image}", name), str)
