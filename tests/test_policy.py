"""What holds for the repository as a whole: import direction, sizes, docstrings, and the tables of
files in READMEs."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from source_trees import forget_trees, nodes_of, tree_of

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pipeline"
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    "errors",
    "harmless_text",
    "recent_rate",
    "logs",
    "config",
    "store",
    "work",
    "corpus",
    "tokens",
    "sampling",
    "model",
    "engine",
    "checkpoint",
    "training",
    "evaluation",
    "planning",
    "reporting",
    "cluster",
    "benchmarks",
    "cli",
    "__main__",
)
"""Folders and modules of the package, in the order that data flows: each imports from itself and
from those before it."""
ENDS = ("planning", "reporting", "cluster")
"""Only commands and benchmarks import these."""
FREE_OF_TORCH = ("reporting", "cluster")
"""Of what runs on ranks these may import its cost arithmetic alone."""
COMMANDS = ("benchmarks", "cli", "__main__")
ON_RANKS = ("model", "engine", "checkpoint", "training")
COSTS = "pipeline.model.costs"
TABLES = ("config/kinds.py", "store/stages.py")
"""Name classes and functions of all folders by their import paths, and import none of them."""


@pytest.fixture(scope="module", autouse=True)
def _trees_while_these_tests_run() -> Iterator[None]:
    yield
    forget_trees()


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import, in functions too, and of every "module:function"
    string."""
    for node in nodes_of(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            assert node.module is not None
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                is_module = (ROOT / below.replace(".", "/")).with_suffix(".py").exists()
                yield node.lineno, below if is_module else node.module
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"pipeline(\.\w+)+:\w+", node.value)
        ):
            yield node.lineno, node.value.partition(":")[0]


def part(module: str) -> str:
    """Return the folder, or the module at the root of the package, that a dotted name belongs
    to."""
    return [*module.split("."), "__init__"][1]


def allowed(importer: Path, module: str) -> bool:
    """Tell whether a file may import a module, or name it as a string."""
    return str(importer.relative_to(PACKAGE)) in TABLES or goes_down(importer, module)


def goes_down(importer: Path, module: str) -> bool:
    home = importer.relative_to(PACKAGE).parts[0].removesuffix(".py")
    target = part(module)
    if target in (home, "__init__"):
        return True
    if home in FREE_OF_TORCH and target in ON_RANKS:
        return module == COSTS
    if target in ENDS and home not in COMMANDS:
        return False
    return LAYERS.index(target) < LAYERS.index(home)


def test_imports_go_one_way() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in FILES
        for line, module in imported(path)
        if module.split(".")[0] == "pipeline" and not allowed(path, module)
    ]
    assert wrong == []


@pytest.mark.parametrize("table", TABLES)
def test_a_table_imports_nothing_that_it_names(table: str) -> None:
    tree = tree_of(PACKAGE / table)
    modules = [node.module or "" for node in nodes_of(tree) if isinstance(node, ast.ImportFrom)]
    modules += [
        alias.name
        for node in nodes_of(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    ours = [module for module in modules if module.split(".")[0] == "pipeline"]
    assert [module for module in ours if not goes_down(PACKAGE / table, module)] == []


@pytest.mark.parametrize(
    ("importer", "module", "right"),
    [
        ("tokens/tokenize.py", "pipeline.corpus.documents", True),
        ("corpus/rows.py", "pipeline.tokens.encode", False),
        ("training/loop.py", "pipeline.reporting.report", False),
        ("reporting/report.py", "pipeline.model.costs", True),
        ("planning/plan.py", "pipeline.engine.memory", True),
        ("engine/engine.py", "pipeline.planning.plan", False),
        ("reporting/report.py", "pipeline.training.loop", False),
        ("reporting/report.py", "pipeline.cluster.launch", False),
        ("corpus/rows.py", "pipeline.cli.commands", False),
        ("errors.py", "pipeline.logs", False),
        ("store/artifacts.py", "pipeline.config.run_config", True),
        ("config/run_config.py", "pipeline.store.artifacts", False),
        ("config/run_config.py", "pipeline.corpus.rows", False),
        ("config/kinds.py", "pipeline.cluster.local_launch", True),
        ("store/stages.py", "pipeline.cluster.supervisor", True),
        ("store/artifacts.py", "pipeline.corpus.prepare", False),
        ("__main__.py", "pipeline.cluster.supervisor", True),
    ],
)
def test_the_rule_of_directions(importer: str, module: str, right: bool) -> None:
    assert allowed(PACKAGE / importer, module) is right


def test_who_imports_deepspeed() -> None:
    importers = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        for _, module in imported(path)
        if module.split(".")[0] == "deepspeed"
    }
    peers = "benchmarks/training/peers.py"  # measures DeepSpeed alone
    assert {name.split("/")[0] for name in importers - {peers}} == {"model", "engine", "checkpoint"}


PARQUET_READERS = {
    "corpus/annotating/annotation_file.py",
    "corpus/documents.py",
    "corpus/kinds/parquet_files.py",
    "corpus/parquet_tables.py",
    "corpus/trees/side_rows.py",
}
"""What reads annotations, documents, raw files and those beside them, and small files whole."""
PARQUET_WRITERS = {"benchmarks/measure_conversion.py", "benchmarks/measure_tokenize.py"}


def test_documents_are_read_in_one_place() -> None:
    importers = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        for _, module in imported(path)
        if module.startswith("pyarrow.parquet")
    }
    assert importers == PARQUET_READERS | PARQUET_WRITERS


PICKLE_READER = "checkpoint/files.py"
MAY_READ_PICKLES = ("checkpoint/test_checkpoint_files.py",)
"""Tests that make hostile files, and show that they are."""
MAY_MERGE = ("training/test_branch.py", "cli/test_checkpoint_commands.py")
"""Tests that hold our reader to DeepSpeed's own merging, of files that they have made."""


def ways_to_unpickle(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of all that could run code out of a file."""
    modules = {
        "pickle",
        "_pickle",
        "cloudpickle",
        "dill",
        "joblib",
        "shelve",
        "marshal",
        "torch._weights_only_unpickler",
    }
    for node in nodes_of(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            yield node.lineno, node.module
        elif isinstance(node, ast.ImportFrom) and any(
            f"{node.module}.{alias.name}" in modules for alias in node.names
        ):
            yield node.lineno, f"a part of {node.module}"
        elif (
            isinstance(node, ast.Attribute)
            and node.attr == "load"
            and "torch" in _spelled(node.value)
        ):
            yield node.lineno, "torch.load"
        elif isinstance(node, ast.ImportFrom) and node.module in ("torch", "torch.serialization"):
            yield from ((node.lineno, "torch.load") for alias in node.names if alias.name == "load")
        elif isinstance(node, ast.keyword) and node.arg in (
            "weights_only",
            "allow_pickle",
            "pickle_module",
        ):
            yield node.lineno, node.arg
        if (
            "zero_to_fp32" in (getattr(node, "module", None) or "")
            or getattr(node, "attr", "") == "zero_to_fp32"
        ):
            yield node.lineno, "zero_to_fp32"  # pyright: ignore[reportAttributeAccessIssue]


def _spelled(node: ast.AST) -> tuple[str, ...]:
    """Return the names of `torch` or `torch.serialization`."""
    if isinstance(node, ast.Attribute):
        return (*_spelled(node.value), node.attr)
    return (node.id,) if isinstance(node, ast.Name) else ()


def test_one_module_reads_pickles() -> None:
    """Whoever else did could run what a checkpoint names. DeepSpeed's merging of shards does."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for folder, reader, mergers in (
            (PACKAGE, (PICKLE_READER,), ()),
            (ROOT / "tests", MAY_READ_PICKLES, MAY_MERGE),
        )
        for path in sorted(folder.rglob("*.py"))
        for line, what in ways_to_unpickle(tree_of(path))
        if str(path.relative_to(folder)) not in (mergers if what == "zero_to_fp32" else reader)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "torch.serialization.load(path)",
        "from torch import load",
        "read(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint",
        "deepspeed.utils.zero_to_fp32.load(path)",
        "from torch._weights_only_unpickler import Unpickler",
        "from torch import _weights_only_unpickler",
    ],
)
def test_the_rule_of_pickles(line: str) -> None:
    assert len(list(ways_to_unpickle(ast.parse(line)))) == 1


KNOWS_PROCESS_GROUPS = "engine/groups.py"
KNOWS_RANK_VARIABLES = "store/rank_environment.py"


def ways_to_ask_for_ranks(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of all that says how many ranks there are, which one this is, or makes a
    group of them."""
    calls = {"get_world_size", "get_rank", "new_group", "init_process_group", "init_device_mesh"}
    numbers_of_engines = {"world_size", "dp_world_size", "global_rank"}
    for node in nodes_of(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            modules = []
        for module in modules:
            if module.startswith(("torch.distributed", "deepspeed.comm")):
                yield node.lineno, module
        if not isinstance(node, ast.Attribute):
            continue
        is_of_engine = node.attr in numbers_of_engines and "engine" in ast.unparse(node.value)
        if node.attr in calls or is_of_engine or ast.unparse(node) == "torch.distributed":
            yield node.lineno, ast.unparse(node)


def ways_to_read_rank_variables(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of each environment variable that tells a process which rank it is."""
    names = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SLURM_LOCALID"}
    for node in nodes_of(tree):
        if isinstance(node, ast.Constant) and node.value in names:
            yield node.lineno, str(node.value)


def test_one_module_knows_the_process_groups_and_one_the_rank_variables() -> None:
    """Everyone else takes sizes and places from the record of `config/groups.py`, which tells data
    ranks from world ranks."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for path in FILES
        for owner, ways in (
            (KNOWS_PROCESS_GROUPS, ways_to_ask_for_ranks),
            (KNOWS_RANK_VARIABLES, ways_to_read_rank_variables),
        )
        if path != PACKAGE / owner
        for line, what in ways(tree_of(path))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "import torch.distributed as dist",
        "from torch import distributed",
        "from torch.distributed import all_reduce",
        "torch.distributed.all_reduce(total)",
        "dist.get_world_size()",
        "dist.new_group([0, 1])",
        "engine.world_size",
    ],
)
def test_the_rule_of_ranks(line: str) -> None:
    assert len(list(ways_to_ask_for_ranks(ast.parse(line)))) == 1


def test_the_rule_of_rank_variables() -> None:
    for line in ('os.environ["RANK"]', 'os.environ.get("WORLD_SIZE")', 'LOCAL = "LOCAL_RANK"'):
        assert len(list(ways_to_read_rank_variables(ast.parse(line)))) == 1


def test_the_cluster_folder_is_free_of_torch() -> None:
    heavy = {"torch", "transformers", "accelerate", "deepspeed"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] == "cluster"
        for line, module in imported(path)
        if module.split(".")[0] in heavy
    ]
    assert wrong == []


def test_one_module_loads_transformers_folders() -> None:
    """Whoever else called these might let transformers ask on the terminal whether to run a
    folder's code."""
    loaders = {"from_pretrained", "from_config", "trust_remote_code", "local_files_only"}
    users = {
        str(path.relative_to(PACKAGE))
        for path in FILES
        for node in nodes_of(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in loaders)
        or (isinstance(node, ast.keyword) and node.arg in loaders)
        or (isinstance(node, ast.Constant) and node.value in loaders)
    }
    assert users == {"store/pretrained_folders.py"}


def test_string_references_can_be_imported() -> None:
    missing = [
        f"{path.relative_to(ROOT)}:{node.lineno} names {node.value}"
        for path in FILES
        for node in nodes_of(tree_of(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"pipeline(\.\w+)+:\w+", node.value)
        and not defines(*node.value.split(":"))
    ]
    assert missing == []


def defines(module: str, name: str) -> bool:
    path = (ROOT / module.replace(".", "/")).with_suffix(".py")
    body = tree_of(path).body if path.exists() else []
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    names |= {ast.unparse(target) for node in assigned for target in node.targets}
    return name in names


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > 400} == {}


def test_no_folder_is_larger_than_one_idea() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in FILES}
    in_folder: dict[str, list[int]] = {}
    for path, count in lines.items():
        in_folder.setdefault(str(path.parent.relative_to(PACKAGE)), []).append(count)
    at_the_root = {path.name for path in FILES if path.parent == PACKAGE}
    first = {
        "__init__.py",
        "__main__.py",
        "errors.py",
        "harmless_text.py",
        "logs.py",
        "recent_rate.py",
    }
    assert at_the_root == first
    assert {name: len(counts) for name, counts in in_folder.items() if len(counts) > 25} == {}
    assert {
        name: sum(counts)
        for name, counts in in_folder.items()
        if sum(counts) > 0.2 * sum(lines.values())
    } == {}


def test_every_module_class_and_public_function_has_a_docstring() -> None:
    missing = []
    for path in FILES:
        tree = tree_of(path)
        if path.read_text().strip() and not ast.get_docstring(tree):
            missing.append(str(path.relative_to(ROOT)))
        commands = {"command"}  # the stages' own text stands in the table
        for node in tree.body:
            is_public = isinstance(
                node, ast.FunctionDef | ast.ClassDef
            ) and not node.name.startswith("_")
            documented = {
                "Section",
                "Proportions",
            }  # a section of the run file is documented field by field
            if is_public and isinstance(node, ast.ClassDef):
                is_public = not any(
                    isinstance(base, ast.Name) and base.id in documented for base in node.bases
                )
            if is_public and node.name not in commands and not ast.get_docstring(node):
                missing.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert missing == []


def test_no_two_test_modules_have_one_name() -> None:
    """They are imported by their bare names: the second would keep the whole suite from being
    collected."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert [name for name in set(names) if names.count(name) > 1] == []


HEADING = "## Files"
LISTED_IN_FULL = ("pipeline", "ds_configs", "tokenizer", "jobs")
"""Folders that have, like each folder below them, a README with a table of their files."""


def listed_files(readme: str) -> list[str]:
    """Return the first column of the table under HEADING: a file or a folder in each row, `name` or
    `name/`."""
    table = re.search(
        rf"^{HEADING}\n\n\| file \| what it holds \|\n\| --- \| --- \|\n((?:\|.*\n)+)",
        readme,
        re.MULTILINE,
    )
    assert table, f"no table `file | what it holds` under the heading `{HEADING}`"
    rows = [re.fullmatch(r"\| `(\S+)` \| \S.* \|", line) for line in table[1].splitlines()]
    assert None not in rows, (
        f"not `name` and what it holds: {table[1].splitlines()[rows.index(None)]}"
    )
    return [row[1] for row in rows if row]


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    return [Path(name) for name in listing.split("\0") if name]


def entries_of(folder: Path, tracked: list[Path]) -> set[str]:
    """Return what a folder's table has to list: its files but for the README and an empty
    __init__.py, and its folders."""
    below = [path.relative_to(folder) for path in tracked if path.is_relative_to(folder)]
    names = {f"{path.parts[0]}/" if len(path.parts) > 1 else path.name for path in below}
    silent = {"README.md"} if folder == Path("pipeline") else {"README.md", "__init__.py"}
    return names - silent


def test_each_folders_readme_lists_its_files() -> None:
    tracked = tracked_files()
    folders = {
        parent for path in tracked if path.parts[0] in LISTED_IN_FULL for parent in path.parents
    } - {Path()}
    for folder in sorted(folders):
        readme = ROOT / folder / "README.md"
        assert readme.exists(), f"{folder} has no README.md"
        listed = listed_files(readme.read_text())
        assert sorted(listed) == sorted(entries_of(folder, tracked)), (
            f"the table of {folder}/README.md"
        )


def test_the_readme_links_every_folder() -> None:
    readme = (ROOT / "README.md").read_text()
    folders = {path.parent for path in tracked_files() if path.parts[0] in LISTED_IN_FULL}
    linked = [
        folder for folder in folders if len(folder.parts) < 3 and folder != Path("jobs/slurm")
    ]
    assert [str(folder) for folder in linked if f"]({folder}/README.md)" not in readme] == []


def test_the_table_is_read_as_it_is_written() -> None:
    head = f"# X\n\n{HEADING}\n\n| file | what it holds |\n| --- | --- |\n"
    assert listed_files(f"{head}| `a.py` | the first |\n| `b/` | below |\n\nWords\n") == [
        "a.py",
        "b/",
    ]
    for wrong in ("", "| a.py | no code |\n", "| `a.py` | |\n"):
        with pytest.raises(AssertionError):
            listed_files(head + wrong)
    with pytest.raises(AssertionError, match="no table"):
        listed_files("# X\n")
    tracked = [
        Path(name) for name in ("p/README.md", "p/__init__.py", "p/a.py", "p/q/b.py", "r/c.py")
    ]
    assert entries_of(Path("p"), tracked) == {"a.py", "q/"}


LAYOUTS = (
    "store/layout.py",
    "store/contamination_files.py",
    "store/curation/annotation_folder.py",
    "corpus/held_out/held_out_folder.py",
    "store/curation/selection_folder.py",
    "corpus/decontaminating/decontamination_folder.py",
    "corpus/near_duplicates/comparison_folder.py",
    "store/jobs/jobs_folder.py",
    "store/scores_folder.py",
    "store/tasks_folder.py",
)
"""The modules that spell names of files and folders: below the two roots, below tasks_dir."""
FOREIGN_NAMES = "store/pretrained_folders.py"
"""The module that spells names of files inside transformers folders."""
NOT_ONLY_FILES = {"run", "local-machine", "train", "validation", "test", "dev"}
NOT_ONLY_FILES |= {".json", ".jsonl", ".log", ".parquet", ".sbatch", ".txt"}
"""What layouts spell and others may, too: how a root may be named, a kind of source, splits,
suffixes."""
SAME_WORDS = {
    "tokens/inspect.py": {"tokens"},
    # Where `tasks` looks without a folder: a root, not a folder below one.
    "cli/command_line/task_group.py": {"tasks"},
    # Folders of the corpora that others publish.
    "corpus/trees/dolma.py": {"documents"},
    "corpus/trees/named_splits.py": {"documents"},
    "corpus/trees/redpajama_v2.py": {"documents"},
    # Suffixes of files that are being written or downloaded.
    "corpus/folders.py": {".partial"},
    "corpus/kinds/local_machine.py": {".partial"},
    "store/files.py": {".partial"},
}  # fmt: skip
"""Names of ours that mean something else in a file, or have to stand there."""
TAKE_PATHS = ("glob", "joinpath", "open", "join", "Path", "PurePath", "rglob", "with_name")
"""Calls whose arguments are paths or parts of them."""


def strings_of(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the string constants of a module, parts of f-strings too, docstrings left out."""
    documentation = {
        node.value
        for node in nodes_of(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in nodes_of(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and node not in documentation:
            yield node


def names_of_files() -> set[str]:
    """Return the names, and beginnings of names, that the owners spell."""

    def parts_in(owner: str) -> set[str]:
        return {
            part
            for constant in strings_of(tree_of(PACKAGE / owner))
            for part in str(constant.value).split("/")
        }

    ours = set[str]().union(*map(parts_in, LAYOUTS))
    foreign = parts_in(FOREIGN_NAMES)
    found = {name for name in ours if re.fullmatch(r"\.?[a-z][\w.-]{2,}", name)}
    found |= {name for name in foreign if re.fullmatch(r"\w+\.(json|model)", name)}
    return found - NOT_ONLY_FILES


def names_spelled(text: str, names: set[str]) -> list[str]:
    """Return the names that are whole parts of a path; of the beginning of a name, with what a
    pattern or a number adds."""
    return [
        name
        for part in text.split("/")
        for name in names
        if part == name
        or (name.endswith(("_", "-")) and re.fullmatch(rf"{re.escape(name)}[\d*?].*", part))
    ]


def literal_texts(value: ast.AST) -> Iterator[str]:
    """Yield the strings that a value is or holds; not those that only lead to it, as keys do."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.Tuple | ast.List | ast.Set | ast.Dict | ast.IfExp | ast.JoinedStr):
        for inner in ast.iter_child_nodes(value):
            yield from literal_texts(inner)


def texts_bound(tree: ast.AST) -> dict[str, set[str]]:
    """Return for each variable of a module the strings in what it is assigned, looped over or given
    by default."""
    bound: dict[str, set[str]] = {}

    def bind(target: ast.AST, value: ast.AST) -> None:
        texts = {*literal_texts(value)}
        for node in nodes_of(target):
            if isinstance(node, ast.Name | ast.arg):
                name = node.id if isinstance(node, ast.Name) else node.arg
                bound.setdefault(name, set()).update(texts)

    for node in nodes_of(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                bind(target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            bind(node.target, node.value)
        elif isinstance(node, ast.For | ast.comprehension):
            bind(node.target, node.iter)
        elif isinstance(node, ast.arguments):
            last = [*node.posonlyargs, *node.args][-len(node.defaults) :]
            for argument, default in zip(last, node.defaults, strict=False):
                bind(argument, default)
    return {name: texts for name, texts in bound.items() if texts}


def parts_of_paths(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield what is joined with `/` or handed to a call that takes paths."""
    for node in nodes_of(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield from (node.left, node.right)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            is_of_text = called.endswith("join") and called not in ("join", "os.path.join")
            if called.rpartition(".")[2] in TAKE_PATHS and not is_of_text:
                yield from node.args


def texts_of(part: ast.expr, bound: dict[str, set[str]]) -> Iterator[str]:
    """Yield the strings that a part of a path may be; what a subscript or a call holds is none."""
    if isinstance(part, ast.Constant) and isinstance(part.value, str):
        yield part.value
    elif isinstance(part, ast.Name):
        yield from bound.get(part.id, ())
    elif isinstance(
        part, ast.JoinedStr | ast.IfExp | ast.BoolOp | ast.FormattedValue | ast.Starred
    ):
        for inner in ast.iter_child_nodes(part):
            if isinstance(inner, ast.expr):
                yield from texts_of(inner, bound)


def words_of_stages(tree: ast.AST) -> set[ast.expr]:
    """Return the strings with which a row of the table of stages says where its stage writes."""
    return {
        keyword.value
        for node in nodes_of(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Stage"
        for keyword in node.keywords
        if keyword.arg in ("reads", "writes")
    }


def paths_spelled(tree: ast.AST, names: set[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of every name of ours that a module spells.

    A name that no English word can be (with a dot, a dash or an underscore) may stand in no string
    that could be a path; a plain word in none that is joined to one, directly, within an f-string
    or through a variable.
    """
    bound = texts_bound(tree)
    shown = words_of_stages(tree)
    unmistakable = {name for name in names if re.search(r"[._-]", name)}
    for constant in strings_of(tree):
        text = str(constant.value)
        if constant in shown or re.search(r"\s", text):
            continue
        for name in names_spelled(text, unmistakable):
            yield constant.lineno, name
        for name in names_spelled(text.partition("/")[2], names - unmistakable):
            yield constant.lineno, name
    for part in parts_of_paths(tree):
        for text in texts_of(part, bound):
            for name in names_spelled(text, names):
                yield part.lineno, name


def test_names_below_the_roots_are_spelled_in_one_place() -> None:
    names = names_of_files()
    wrong = {
        f"{path.relative_to(ROOT)}:{line} spells {name}"
        for path in FILES
        for line, name in paths_spelled(tree_of(path), names)
        if str(path.relative_to(PACKAGE)) not in (*LAYOUTS, FOREIGN_NAMES)
        and name not in SAME_WORDS.get(str(path.relative_to(PACKAGE)), ())
    }
    assert sorted(wrong) == []


@pytest.mark.parametrize(
    ("code", "spelled"),
    [
        ('folder / "tokens"', ["tokens"]),
        ('Stage(name="tokenize", writes="data_dir/tokens")', []),
        ('Stage(folder=lambda config: config.paths.data_dir / "tokens")', ["tokens"]),
        ('folder / "metrics.jsonl"', ["metrics.jsonl", "metrics.jsonl"]),
        ('folder / f"step_{step:08d}"', ["step_", "step_"]),
        ('folder.glob("step_*/*.pt")', ["step_", "step_"]),
        ('folder.joinpath("checkpoints", name)', ["checkpoints"]),
        ('os.path.join(folder, "checkpoints")', ["checkpoints"]),
        ('Path(f"{folder}/tokens")', ["tokens", "tokens"]),
        ('str(folder) + "/tokens"', ["tokens"]),
        ('NAME = "tokens"\nfolder / NAME', ["tokens"]),
        ('def f(folder, name="tokens"):\n    return folder / name', ["tokens"]),
        ('[folder / name for name in ("tokens", "documents")]', ["documents", "tokens"]),
        ('for name, x in (("tokens", 1),):\n    folder / name', ["tokens"]),
        ("print(f\"{folder / 'tokens'}: is missing\")", ["tokens"]),
        ('folder / ("tokens" if found else name)', ["tokens"]),
        ('counts["tokens"] / counts["rows"]', []),
        ('raise DataError("events.jsonl says why")', []),
        ('record["step_seconds"]', []),
        ('unit = "tokens/s"', []),
        ('"""Writes metrics.jsonl."""', []),
    ],
)
def test_the_rule_of_names(code: str, spelled: list[str]) -> None:
    names = {"tokens", "documents", "checkpoints", "metrics.jsonl", "events.jsonl", "step_"}
    assert sorted(name for _, name in paths_spelled(ast.parse(code), names)) == spelled


PRINTS_TO_ITS_PARENT = (
    "corpus/kinds/compiled_docstrings.py",
    "benchmarks/measure_conversion.py",
    "benchmarks/measure_tokenize.py",
    "benchmarks/measure_evaluate.py",
    "benchmarks/measure_loader.py",
    "benchmarks/measure_executor.py",
    "benchmarks/measure_search.py",
    "benchmarks/training/measure_train.py",
    "benchmarks/curating/measure_curate.py",
)
"""Programs of a process of their own, whose one line of JSON another process reads."""
PRINT = ("harmless_text.py", "logs.py")
"""Make all text visible before it is printed."""


def ways_around_logs(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of all that would print without `logs`, or have rich take text for
    markup."""
    for node in nodes_of(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "input")
        ):
            yield node.lineno, node.func.id
        elif isinstance(node, ast.ImportFrom) and node.module == "rich.console":
            makes = {alias.name for alias in node.names} & {"Console"}
            yield from ((node.lineno, name) for name in makes)
        elif isinstance(node, ast.ImportFrom) and node.module in (
            "rich",
            "rich.markup",
            "rich.progress",
            "rich.live",
        ):
            yield node.lineno, node.module
        elif isinstance(node, ast.Attribute) and node.attr in (
            "from_markup",
            "from_ansi",
            "out",
            "stdout",
            "stderr",
        ):
            on = ast.unparse(node)
            if node.attr.startswith("from_") or on in (
                "console.out",
                "messages.out",
                "sys.stdout",
                "sys.stderr",
            ):
                yield node.lineno, on


def test_nothing_prints_around_logs() -> None:
    """There all text is made visible: whatever a file, a folder or a model holds, it cannot act on
    the terminal."""
    wrong = []
    for path in FILES:
        name = str(path.relative_to(PACKAGE))
        for line, what in ways_around_logs(tree_of(path)) if name not in PRINT else ():
            text = path.read_text().splitlines()[line - 1].strip()
            to_parent = name in PRINTS_TO_ITS_PARENT and text.startswith("print(json.dumps(")
            if not to_parent and not text.endswith(".flush()"):
                wrong.append(f"{path.relative_to(ROOT)}:{line} {what}: use pipeline.logs")
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "print(name)",
        "from rich.console import Console",
        "from rich import print",
        "sys.stderr.write(str(error))",
        "Text.from_markup(name)",
        "console.out(name)",
        "input(name)",
    ],
)
def test_the_rule_of_printing(line: str) -> None:
    assert len(list(ways_around_logs(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "wanting",
    [r"\.chmod\(", r"mkstemp\(", r"copymode|copystat|copy2|umask\(", r"0o(?!666|600|700|022)\d+"],
)
def test_who_may_use_a_file_is_left_to_the_umask(wanting: str) -> None:
    """0o666 less the umask is the rule, 0o600 and 0o700 what others must not see at all; 0o022 asks
    who may write."""
    allowed = {"verify_resume.py": r"copy2"}  # a copy of a run, with its times
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in FILES
        for match in re.finditer(wanting, path.read_text())
        if match[0] != allowed.get(path.name)
    }
    assert found == set()
