"""POST of JSON to a URL that an operator named: no redirects, all bounded."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import orjson

from controlplane.app.ports import Undelivered

WITHIN = aiohttp.ClientTimeout(total=10.0, connect=5.0)
LARGEST_ANSWER = 64 * 1024
_AGAIN = frozenset({408, 425, 429})


class Poster:
    """Posts; a context manager. Proxies of the environment are used, as the original does."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Poster:
        self._session = aiohttp.ClientSession(timeout=WITHIN, trust_env=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
        """Post a body as JSON; returns the beginning of the answer. Raises Undelivered."""
        if self._session is None:
            raise RuntimeError("a Poster posts within its context only")
        try:
            async with self._session.post(
                url,
                data=orjson.dumps(body),
                headers={"Content-Type": "application/json", **(headers or {})},
                allow_redirects=False,
            ) as response:
                answer = await _beginning(response)
        except TimeoutError as error:
            raise Undelivered("no answer in time", again=True) from error
        except (aiohttp.ClientError, OSError) as error:
            # Texts of these errors may have the URL in them, and so a token.
            cause = getattr(error, "strerror", None) or type(error).__name__
            raise Undelivered(f"cannot be reached ({cause})", again=True) from error
        if 200 <= response.status < 300:
            return answer
        if 300 <= response.status < 400:
            raise Undelivered(f"redirects (status {response.status}): name the URL that it redirects to", again=False)
        raise Undelivered(
            f"answered status {response.status}",
            again=response.status >= 500 or response.status in _AGAIN,
            retry_after=_seconds(response.headers.get("Retry-After", "")),
        )


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    answer = b""
    while len(answer) < LARGEST_ANSWER and (part := await response.content.read(LARGEST_ANSWER - len(answer))):
        answer += part
    return answer


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
