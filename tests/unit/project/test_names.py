"""One name means one thing: no two classes of the product have the same name."""

import ast
from collections import defaultdict

from tests.support.processes.services import PACKAGES, ROOT


def test_no_class_name_is_used_twice_in_the_product() -> None:
    files = defaultdict(list)
    for path in (path for name in PACKAGES for path in (ROOT / name).glob("**/*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                files[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: where for name, where in files.items() if len(where) > 1} == {}
