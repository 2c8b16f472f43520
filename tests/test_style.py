"""How the package is written, in figures: what makes a line hard to read, per 1,000 lines, and
names that stand for one thing."""

import ast
import io
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_trees import forget_trees, nodes_of, tree_of

PACKAGE = Path(__file__).parents[1] / "pipeline"
FILES = sorted(PACKAGE.rglob("*.py"))

MOST_PER_1000_LINES = {
    "tuple assignment": 3.0,
    "walrus": 1.0,
    "ternary": 8.0,
    "line over 100 columns": 10.0,
    "Any": 5.0,
}
"""A reader pays for each: `a, b = x, y` is two statements in one, `:=` binds a name in the middle of
another thought, a ternary is a branch that does not look like one."""
MOST_LINES_WITHOUT_HEADING = 25
MOST_LINES_OF_A_FUNCTION = 60
MOST_MODULES_WITH_ONE_NAME = 2
ENTRY_POINTS = {"main"}
"""What each program of its own has."""


@pytest.fixture(scope="module", autouse=True)
def _trees_while_these_tests_run() -> Iterator[None]:
    yield
    forget_trees()


def hard_to_read(source: str, tree: ast.AST) -> Iterator[str]:
    """Yield the name of each thing that `MOST_PER_1000_LINES` limits, once for every time it occurs."""
    for node in nodes_of(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            if any(isinstance(target, ast.Tuple) for target in node.targets):
                yield "tuple assignment"
        elif isinstance(node, ast.NamedExpr):
            yield "walrus"
        elif isinstance(node, ast.IfExp):
            yield "ternary"
        elif isinstance(node, ast.Name) and node.id == "Any":
            yield "Any"
    yield from ("line over 100 columns" for line in source.splitlines() if len(line) > 100)


@pytest.fixture(scope="module")
def found() -> dict[str, Counter[str]]:
    """Return how often each thing that `MOST_PER_1000_LINES` limits occurs, by file."""
    return {
        str(path.relative_to(PACKAGE)): Counter(hard_to_read(path.read_text(), tree_of(path)))
        for path in FILES
    }


@pytest.mark.parametrize("what", MOST_PER_1000_LINES)
def test_what_is_hard_to_read_is_rare(what: str, found: dict[str, Counter[str]]) -> None:
    by_file = Counter({name: counts[what] for name, counts in found.items()})
    lines = sum(len(path.read_text().splitlines()) for path in FILES)
    per_1000 = 1000 * by_file.total() / lines
    assert per_1000 <= MOST_PER_1000_LINES[what], f"{what}: {by_file.most_common(10)}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a, b = 1, 2", ["tuple assignment"]),
        ("a, b = pair", []),
        ("a = 1, 2", []),
        ("if (a := f()): pass", ["walrus"]),
        ("a = 1 if b else 2", ["ternary"]),
        ("a: Any = 1", ["Any"]),
        (f"a = '{'x' * 100}'", ["line over 100 columns"]),
    ],
)
def test_the_rule_of_what_is_hard_to_read(source: str, expected: list[str]) -> None:
    assert list(hard_to_read(source, ast.parse(source))) == expected


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    yield from (node for node in nodes_of(tree) if isinstance(node, ast.FunctionDef))


def body_lines(function: ast.FunctionDef) -> range:
    """Return the lines after the signature and the docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    last = function.end_lineno or function.lineno
    return range(body[0].lineno, last + 1) if body else range(0)


def comment_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold nothing but a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.strip().startswith("#")
    }


def without_headings(source: str, tree: ast.AST) -> list[str]:
    """Return the functions whose body is longer than `MOST_LINES_WITHOUT_HEADING` and has no comment line."""
    headings = comment_lines(source)
    return [
        function.name
        for function in functions(tree)
        if len(body_lines(function)) > MOST_LINES_WITHOUT_HEADING
        and headings.isdisjoint(body_lines(function))
    ]


def test_the_steps_of_long_functions_have_headings() -> None:
    names = {path: path.relative_to(PACKAGE) for path in FILES}
    missing_in = {
        str(name): without_headings(path.read_text(), tree_of(path)) for path, name in names.items()
    }
    assert {name: missing for name, missing in missing_in.items() if missing} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    too_long = [
        f"{path.relative_to(PACKAGE)}: {function.name}"
        for path in FILES
        for function in functions(tree_of(path))
        if len(body_lines(function)) > MOST_LINES_OF_A_FUNCTION
    ]
    assert too_long == []


def test_the_rule_of_headings() -> None:
    long = "def f():\n" + "    a = 1\n" * (MOST_LINES_WITHOUT_HEADING + 1)
    with_heading = long + "    # The last step.\n    b = 2\n"
    with_hash_in_text = long + "    b = '# not a comment'\n"
    with_long_docstring = 'def f():\n    """' + "x\n" * 30 + '    """\n    return 1\n'
    for source, expected in (
        (long, ["f"]),
        (with_heading, []),
        (with_hash_in_text, ["f"]),
        (with_long_docstring, []),
    ):
        assert without_headings(source, ast.parse(source)) == expected, source


def test_a_public_name_stands_for_one_thing() -> None:
    """Whoever searches for a name has to find what it is."""
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in tree_of(path).body:
            is_named = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if is_named and not node.name.startswith("_") and node.name not in ENTRY_POINTS:
                modules[node.name].append(str(path.relative_to(PACKAGE)))
    shared = {
        name: paths for name, paths in modules.items() if len(paths) > MOST_MODULES_WITH_ONE_NAME
    }
    assert shared == {}


def test_no_docstring_needs_the_line_above_it() -> None:
    """A docstring that begins with "Of" goes on with a sentence that a reader has not seen."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in FILES
        for node in nodes_of(tree_of(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        and node.value.value.lstrip().startswith("Of ")
    ]
    assert found == []
