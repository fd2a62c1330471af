"""The page over HTTP: its addresses, what browsers may keep, and its content policy."""

import re

from tests.support.http.http_api import api_on


async def test_the_index_is_fresh_and_every_file_that_it_names_is_kept_for_ever(dsn: str) -> None:
    async with api_on(dsn) as http:
        index = await http.get("/")
        assert index.headers["cache-control"] == "no-cache"
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        again = await http.get("/", headers={"If-None-Match": index.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert "default-src 'self'" in again.headers["content-security-policy"]
        names = set(re.findall(r'"(page/[^"]+)"', index.text))
        assert any(name.endswith("/main.js") for name in names)
        for name in names:
            file = await http.get(f"/{name}")
            assert file.status_code == 200, name
            assert "immutable" in file.headers["cache-control"]
            assert file.headers["x-content-type-options"] == "nosniff"
            assert file.headers["referrer-policy"] == "no-referrer"
        head = await http.head(f"/{min(names)}")
        assert (head.status_code, head.content) == (200, b"")


async def test_other_names_and_other_versions_are_not_found(dsn: str) -> None:
    async with api_on(dsn) as http:
        version = re.search(r"page/(\w+)/", (await http.get("/")).text)
        assert version is not None
        for name in ("nothing.js", "index.html", "..%2froutes.py", "../routes.py", "lib"):
            assert (await http.get(f"/page/{version[1]}/{name}")).status_code == 404, name
        assert (await http.get("/page/0123456789abcdef/main.js")).status_code == 404
        icon = await http.get("/favicon.ico")
        assert icon.headers["content-type"].startswith("image/svg+xml")
