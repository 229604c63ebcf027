"""Asking servers for what could as well be given as a file: a convenience, which nothing here trusts.

What comes back is bytes of bounded size, to be stored and then checked like any file.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPMessage
from threading import Thread
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from zkcert import __version__
from zkcert.errors import UnusableInput

SECONDS = 20.0
"""How long a server has, all in all."""

DRAND = ("https://api.drand.sh", "https://api2.drand.sh", "https://api3.drand.sh", "https://drand.cloudflare.com")
"""Servers that hand out drand's rounds."""

_URL = re.compile(r"https?://[!-~]{1,2000}", re.A)


def check_url(url: str) -> str:
    """The URL; UnusableInput unless it is of http or https, with a host."""
    with suppress(ValueError):
        parts = urlsplit(url)
        odd = parts.username is not None or parts.port == 0  # reading the port raises ValueError for a wrong one
        if _URL.fullmatch(url) and parts.hostname and not odd:
            return url
    raise UnusableInput(f"a URL such as https://SERVER is expected, not {url[:80]!a}")


class _SameProtocols(urllib.request.HTTPRedirectHandler):
    """Follows no redirection out of http and https, nor from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("https://", f"{req.type}://")):
            raise URLError(f"it points to another protocol, {newurl[:80]!a}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def ask(
    url: str,
    limit: int,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = SECONDS,
) -> bytes:
    """The answer of a server: at most `limit` bytes, within so many seconds, however slowly it drips.

    body  what is posted; None: it is a question only. UnusableInput, which names the URL, if there is none.
    """
    known = {"User-Agent": f"zkcert/{__version__}", **(headers or {})}
    request = urllib.request.Request(check_url(url), body, known)
    answers: list[bytes | str] = []

    def work() -> None:
        try:
            with urllib.request.build_opener(_SameProtocols).open(request, timeout=seconds) as answer:
                data = answer.read(limit + 1)
            answers.append(data if len(data) <= limit else f"it sends more than {limit} bytes")
        except HTTPError as error:
            answers.append(f"it answers {error.code} {error.reason}")
        except URLError as error:
            answers.append(f"cannot be reached ({error.reason})")
        except (OSError, HTTPException, ValueError) as error:
            answers.append(f"cannot be reached ({str(error) or type(error).__name__})")

    thread = Thread(target=work, daemon=True)  # one that drips for ever ends with the process
    thread.start()
    thread.join(seconds)
    answer = answers[0] if answers else f"no answer within {seconds:g} s"
    if isinstance(answer, str):
        raise UnusableInput(f"{url}: {answer[:200]}")
    return answer
