"""The files of the page, read once. One hash of all of them is in their address, so they are immutable."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Self

STATIC = Path(str(files("api.page") / "static"))
INDEX, ICON = "index.html", "icon.svg"
MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
HASH_CHARACTERS = 16
# Placeholders of index.html: the folder of the files, and a line for each module.
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
        template = (folder / INDEX).read_text("utf-8")
        content_hash = _hash_of(found, template)
        address = f"page/{content_hash}"
        modules = "\n".join(
            f'  <link rel="modulepreload" href="{address}/{name}">'
            for name in found
            if name.endswith(".js")
        )
        index = template.replace(MODULES, modules).replace(FOLDER, address)
        return cls(content_hash, index.encode(), found)


def _hash_of(found: dict[str, PageFile], template: str) -> str:
    digest = sha256(template.encode())
    for name, file in found.items():
        digest.update(b"\0%b\0%d\0" % (name.encode(), len(file.content)))
        digest.update(file.content)
    return digest.hexdigest()[:HASH_CHARACTERS]
