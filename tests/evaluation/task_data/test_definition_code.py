"""Which modules beside a file of code count as code of its task."""

from pathlib import Path

from pipeline.evaluation.task_data.definition_code import _with_modules_beside


def test_modules_beside_a_file_are_followed_and_others_are_not(tmp_path: Path) -> None:
    root = tmp_path / "own"
    (root / "package" / "inner").mkdir(parents=True)
    contents = {
        "top.py": "import os, plain\nfrom package import used\nfrom .near import word\n",
        "plain.py": "def later():\n    import top, deep.missing\n",
        "near.py": "from .. import outside\n",
        "package/__init__.py": "",
        "package/used.py": "from .inner.last import name\n",
        "package/inner/last.py": "from ... import below\n",
        "below.py": "not Python (",
        "package/unused.py": "",
        "unused.py": "",
        "../outside.py": "",
    }
    for name, content in contents.items():
        (root / name).write_text(content)
    found = _with_modules_beside(root / "top.py")
    assert sorted(str(path.relative_to(root)) for path in found) == [
        "below.py",
        "near.py",
        "package/__init__.py",
        "package/inner/last.py",
        "package/used.py",
        "plain.py",
        "top.py",
    ]
