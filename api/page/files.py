"""The files of the page, read once. One hash of all of them is in their address, so they are immutable."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Self

STATIC = Path(str(files("api.page") / "static"))
INDEX, ICON = "index.html", "icon.svg"
MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
# One file of all styles is one request before the first drawing. Later ones refine former ones.
STYLES, STYLES_FOLDER = "page.css", "styles"
STYLE_ORDER = (
    "colours",
    "layout",
    "components",
    "fleet",
    "device",
    "forms",
    "alerts",
    "rules",
    "dead_letters",
    "access",
)
HASH_CHARACTERS = 16
# The browser loads these before it knows which view it shows, which is most often the fleet.
FIRST_MODULES = ("early.js", "main.js", "views/fleet/fleet.js")
IMPORT = re.compile(rb'^import [^";]*"(\.[^"]+)";', re.MULTILINE)
# Placeholders of index.html: the folder of the files, and a line for each module of the first view.
FOLDER, MODULES = "{{folder}}", "{{modules}}"


@dataclass(frozen=True, slots=True)
class PageFile:
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class PageFiles:
    """`index` names the files by `content_hash`; the files name each other by relative paths."""

    content_hash: str
    index: bytes
    files: dict[str, PageFile]

    @classmethod
    def read(cls, folder: Path = STATIC) -> Self:
        found = {
            path.relative_to(folder).as_posix(): PageFile(path.read_bytes(), media_type)
            for path in sorted(folder.rglob("*"))
            if (media_type := MEDIA_TYPES.get(path.suffix)) is not None
        }
        found[STYLES] = _styles_of(found)
        template = (folder / INDEX).read_text("utf-8")
        content_hash = _hash_of(found, template)
        address = f"page/{content_hash}"
        modules = "\n".join(
            f'  <link rel="modulepreload" href="{address}/{name}">'
            for name in sorted(_imported(found, FIRST_MODULES))
        )
        index = template.replace(MODULES, modules).replace(FOLDER, address)
        return cls(content_hash, index.encode(), found)


def _styles_of(found: dict[str, PageFile]) -> PageFile:
    """The files of the folder of styles, which are taken out."""
    names = [f"{STYLES_FOLDER}/{name}.css" for name in STYLE_ORDER]
    content = b"\n".join(found.pop(name).content for name in names if name in found)
    return PageFile(content, MEDIA_TYPES[".css"])


def _imported(found: dict[str, PageFile], names: Iterable[str]) -> set[str]:
    """These modules and all that they import statically; `import()` does not count."""
    seen: set[str] = set()
    new = set(names) & found.keys()
    while new:
        seen |= new
        paths = {
            normpath(join(dirname(name), path.decode()))
            for name in new
            for path in IMPORT.findall(found[name].content)
        }
        new = paths - seen
    return seen


def _hash_of(found: dict[str, PageFile], template: str) -> str:
    digest = sha256(template.encode())
    for name, file in found.items():
        digest.update(b"\0%b\0%d\0" % (name.encode(), len(file.content)))
        digest.update(file.content)
    return digest.hexdigest()[:HASH_CHARACTERS]
