"""What all tests share: the options that bring in expensive tests, and a run file small enough to
read."""

import gc
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from pipeline.cluster import ports

ASKED_FOR = {"full": "--full", "faults": "--faults", "cluster": "--cluster"}
"""Marker -> the option that brings its tests in."""

RUN_FILE = """\
paths: {data_dir: data, run_dir: run}
sources:
  web: {kind: jsonl, paths: [web.jsonl]}
tokenizer: {kind: byte-level-bpe, vocab_size: 270}
model:
  architecture: llama
  config: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
data: {sequence_length: 8}
optimizer: {peak_learning_rate: 6e-4}
schedule: {warmup_tokens: 32}
batch: {global_batch_tokens: 32, micro_batch_sequences: 2}
train: {train_tokens: 320}
deepspeed: zero1.json
"""

pytest_plugins = ["forks", "training_data", "process_starts", "cpu_seconds"]

hypothesis.settings.register_profile(
    "suite", deadline=None
)  # a machine may stand still in any example
hypothesis.settings.load_profile("suite")

SEVERAL_HOSTS = {
    f"tests/cluster/{name}.py"
    for name in (
        "test_nodes",
        "test_slurm",
        "test_slurm_workers",
        "test_doctor_nodes",
        "test_submit_on_slurm",
        "test_study_on_slurm",
    )
}

left_out = pytest.StashKey[dict[str, int]]()
"""Marker -> how many tests, as each process that collects them counts."""


class FilesScheduling(LoadScopeScheduling):
    """Tests of one file share fixtures, so one process takes them; so do those of several hosts,
    which are networks and services of the whole machine."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return "several hosts" if file in SEVERAL_HOSTS else file


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the expensive grids")
    parser.addoption(
        "--faults", action="store_true", help="also run the long form of the fault suite"
    )
    parser.addoption(
        "--cluster", action="store_true", help="also run the tests that need a cluster"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give each of the processes that run tests ports of its own: a free one is bound only seconds
    after it was looked for."""
    if worker := getattr(config, "workerinput", None):
        ports.PORTS = ports.PORTS[int(worker["workerid"][2:]) :: worker["workercount"]]


def pytest_collection(session: pytest.Session) -> None:
    """Let the garbage collector rest while all modules are imported: nothing of them is garbage."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    counts = config.stash.setdefault(left_out, dict.fromkeys(ASKED_FOR, 0))
    for marker, option in ASKED_FOR.items():
        if config.getoption(option):
            continue
        unwanted = [item for item in items if item.get_closest_marker(marker)]
        counts[marker] += len(unwanted)
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if item not in unwanted]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesScheduling:
    config.option.loadscopereorder = (
        False  # as collected: the longest, in tests/cluster, come early
    )
    return FilesScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Note the faults of tests marked `fault` in their reports: all of a test's are survived, or,
    where it fails, none."""
    report = yield
    marker = item.get_closest_marker("fault")
    if marker and report.when == "call":
        report.user_properties.append(("fault", [marker.args[0], marker.kwargs.get("tried", 1)]))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(left_out, {})


def pytest_testnodedown(node: Any) -> None:
    node.config.stash[left_out] = getattr(node, "workeroutput", {}).get("left_out", {})


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for marker, count in config.stash.get(left_out, {}).items():
        if count:
            terminalreporter.write_line(
                f"left out: {count} {marker} tests; run them with `{ASKED_FOR[marker]}`"
            )
    faults: dict[str, list[int]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for kind, tried in (value for name, value in report.user_properties if name == "fault"):
                counts = faults.setdefault(kind, [0, 0])
                counts[0] += tried
                counts[1] += tried if outcome == "passed" else 0
    for kind, (tried, survived) in sorted(faults.items()):
        terminalreporter.write_line(
            f"faults: {kind}: tried {tried}, survived {survived}, lost {tried - survived}"
        )


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    """Return the path of a valid, tiny run file in the test's own folder, beside a corpus of 40
    rows."""
    return write_run_file(tmp_path)


def write_run_file(folder: Path) -> Path:
    """Write a valid, tiny run file and a corpus of 40 rows."""
    rows = [
        f'{{"text": "document {i} says that {i} and {i} make {2 * i}", "meta": {{}}}}\n'
        for i in range(40)
    ]
    (folder / "web.jsonl").write_text("".join(rows))
    (folder / "zero1.json").write_text('{"zero_optimization": {"stage": 1}}')
    path = folder / "run.yaml"
    path.write_text(RUN_FILE)
    return path
