"""httpx without TLS: reading the certificates takes 30 ms of CPU for every client and single request."""

from functools import partial

import httpx

get = partial(httpx.get, verify=False)  # noqa: TID251
post = partial(httpx.post, verify=False)  # noqa: TID251
stream = partial(httpx.stream, verify=False)  # noqa: TID251
Client = partial(httpx.Client, verify=False)
