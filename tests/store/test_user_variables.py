"""The package's own environment variables: one function reads them, and empty is not set."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.benchmarks.training.nanogpt import VARIABLE, nanogpt_checkout
from pipeline.cluster.time_limit import BATCH_SCRIPT_VARIABLE, tell_batch_script
from pipeline.store.environment import user_variable
from pipeline.store.start_order import SUPERVISOR_VARIABLE, supervisor_of_this_rank

PREFIX = "PIPELINE_"
PACKAGE = Path(__file__).parents[2] / "pipeline"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_X", raising=False)
    assert user_variable("PIPELINE_X") is None
    monkeypatch.setenv("PIPELINE_X", "")
    assert user_variable("PIPELINE_X") is None
    monkeypatch.setenv("PIPELINE_X", "0")
    assert user_variable("PIPELINE_X") == "0"


def test_those_who_ask_take_empty_as_not_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (VARIABLE, BATCH_SCRIPT_VARIABLE, SUPERVISOR_VARIABLE, "PIPELINE_SITE"):
        monkeypatch.setenv(name, "")
    assert nanogpt_checkout() is None
    assert supervisor_of_this_rank() is None
    tell_batch_script()

    # Typer reads this one: an empty one is no site, and no file.
    run_file = tmp_path / "run.yaml"
    run_file.write_text("{}")
    with pytest.raises(Exception, match="--site: is required; give --site or PIPELINE_SITE"):
        CliRunner().invoke(app, ["submit", str(run_file)], catch_exceptions=False)


def reads_of_own_variables(code: str, names: set[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, code) of each read of `os.environ` at a name that is ours.

    `names`: constants that hold such a name.
    """
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            mapping, key = node.value, node.slice
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            mapping, key = node.comparators[0], node.left
        elif isinstance(node, ast.Call) and node.args:
            mapping, key = node.func, node.args[0]
        else:
            continue
        is_own = isinstance(key, ast.Constant) and str(key.value).startswith(PREFIX)
        is_own = is_own or (isinstance(key, ast.Name) and key.id in names)
        if is_own and ast.unparse(mapping) in ("os.environ", "os.environ.get", "os.getenv"):
            yield node.lineno, ast.unparse(node)


def test_one_function_reads_them() -> None:
    codes = {path.relative_to(PACKAGE): path.read_text() for path in PACKAGE.rglob("*.py")}
    constant = re.compile(rf'^(\w+) = "{PREFIX}', re.MULTILINE)
    names = {name for code in codes.values() for name in constant.findall(code)}
    assert {"LAUNCHER_VARIABLE", "SUPERVISOR_VARIABLE"} <= names
    wrong = [
        f"{path}:{line} {read}: call user_variable"
        for path, code in codes.items()
        if "environ" in code or "getenv" in code
        for line, read in reads_of_own_variables(code, names)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "code",
    [
        'os.environ["PIPELINE_X"]',
        "os.environ[VARIABLE]",
        'os.environ.get("PIPELINE_X", "1")',
        'os.getenv("PIPELINE_X")',
        '"PIPELINE_X" in os.environ',
        "VARIABLE not in os.environ",
    ],
)
def test_the_rule_of_own_variables(code: str) -> None:
    assert len(list(reads_of_own_variables(code, {"VARIABLE"}))) == 1
