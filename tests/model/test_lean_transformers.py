"""What ranks do not import with transformers, and can still import later."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import forks
import pytest

from pipeline.model.lean_transformers import UNUSED, hidden, to_hide

LIBRARY = "a_library"


def test_a_hidden_library_looks_as_if_it_were_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{LIBRARY}.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with hidden([LIBRARY]):
        assert importlib.util.find_spec(LIBRARY) is None
        with pytest.raises(ImportError):
            importlib.import_module(LIBRARY)
    assert LIBRARY not in sys.modules
    assert importlib.util.find_spec(LIBRARY) is not None


def test_a_library_that_is_imported_already_stays() -> None:
    with hidden(["json"]):
        assert sys.modules["json"] is json
    assert sys.modules["json"] is json


def test_nothing_is_hidden_from_transformers_that_has_looked_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", ModuleType("transformers"))
    assert to_hide() == ()
    monkeypatch.delitem(sys.modules, "transformers")
    assert to_hide() == UNUSED


def write_what_is_imported(found: Path) -> None:
    names = [name for name in (*UNUSED, "transformers.modeling_utils") if name in sys.modules]
    found.write_text(json.dumps(names))


@pytest.mark.ranks
def test_ranks_do_without_them(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    program = forks.start_call(write_what_is_imported, found, log=tmp_path / "log.txt")
    assert forks.exit_codes([program], 60) == [0]
    assert json.loads(found.read_text()) == ["transformers.modeling_utils"]
