"""A source of very many work items, whose shards lie in parts of its folder, beside the same source
whose shards lie together; and one that grows over the bound."""

import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import pytest
from begun_run import begin_run
from helpers import iterate_texts, run_stages

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus import groups
from pipeline.corpus.documents import read_documents, shard_path
from pipeline.corpus.keys import find_documents
from pipeline.corpus.selecting.kept_documents import kept_documents
from pipeline.sampling.recorded_tokens import record_tokens
from pipeline.sampling.trace import trace_document, trace_step
from pipeline.sampling.traced_run import read_run
from pipeline.store.artifacts import read_manifest, stage_states
from pipeline.store.curation.annotation_folder import annotation_folder
from pipeline.store.curation.selection_folder import selection_folder
from pipeline.store.files import missing_files
from pipeline.store.layout import data_folder
from pipeline.store.manifests import shard_places
from pipeline.store.manifests.shard_places import logical_name
from pipeline.store.stages import STAGES
from pipeline.tokens.inspect import documents, overview
from pipeline.tokens.inspected_data import Question, open_data
from pipeline.tokens.shards.shard_table import read_shard_table
from pipeline.tokens.verify import check_fully, check_sampled

RUN = """\
paths: {data_dir: data, run_dir: run}
sources:
  web: {kind: jsonl, paths: [web]}
  small: {kind: jsonl, paths: [small.jsonl]}
prepare: {validation_fraction: 0.2, max_bad_rows: 0.5, shard_text_bytes: 1000}
tokenizer: {kind: byte-level-bpe, vocab_size: 260}
model:
  architecture: llama
  config: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
data: {sequence_length: 32, packing: best-fit, mixture: {web: 2, small: 1}}
optimizer: {peak_learning_rate: 6e-4}
schedule: {warmup_tokens: 128}
batch: {global_batch_tokens: 128, micro_batch_sequences: 2}
train: {train_tokens: 2560}
deepspeed: zero1.json
"""
DATA_STAGES = ["prepare", "train-tokenizer", "tokenize", "pack"]
FILES = 12
"""Files of the source `web`: each is a work item here."""


def write_raw(path: Path, number: int) -> None:
    rows = [{"text": f"{number} plus {i} is {number + i}", "id": f"{number}-{i}"} for i in range(8)]
    lines = [json.dumps(row) for row in rows]
    path.write_text("\n".join([*lines, '{"no": "text"}']))


def lay_out(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(shard_places, "MOST_ITEMS_IN_A_FOLDER", most)


class Made(NamedTuple):
    """The same corpus twice."""

    flat: Path
    in_parts: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Generator[Made]:
    root = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "GROUP_FILES", 1)
        run_files = []
        for name, most in (("flat", 100), ("parts", 3)):
            folder = root / name
            (folder / "web").mkdir(parents=True)
            for number in range(FILES):
                write_raw(folder / "web" / f"{number:02d}.jsonl", number)
            write_raw(folder / "small.jsonl", 99)
            (folder / "run.yaml").write_text(RUN)
            lay_out(patch, most)
            run_stages(folder / "run.yaml", DATA_STAGES, [])
            run_files.append(folder / "run.yaml")
        yield Made(*run_files)


@pytest.fixture
def grown(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the run file of a copy of the corpus whose shards lie together, over the bound now."""
    monkeypatch.setattr(groups, "GROUP_FILES", 1)
    lay_out(monkeypatch, 3)
    folder = tmp_path / "grown"
    shutil.copytree(made.flat.parent, folder)
    return folder / "run.yaml"


def by_name(folder: Path) -> dict[str, bytes]:
    """Return the content of all shards' files by their logical names."""
    paths = [
        path
        for path in folder.rglob("*")
        if path.suffix in (".parquet", ".keys", ".bin", ".idx", ".doc", ".rows", ".jsonl")
        and ".tasks" not in path.parts
    ]
    return {f"{path.relative_to(folder).parts[0]}/{path.name}": path.read_bytes() for path in paths}


def stage_folders(config: RunConfig) -> list[Path]:
    data = data_folder(config)
    return [data.documents, data.tokens, data.packing(32)]


def flat_files(folder: Path) -> list[str]:
    return [path.name for path in (folder / "web").iterdir() if path.is_file()]


def all_manifests(config: RunConfig) -> list[Path]:
    data = data_folder(config)
    return [data.documents_manifest, data.tokens_manifest, data.pack_manifest(32)]


def files_of_shards(folder: Path) -> dict[str, tuple[int, int]]:
    """Return name -> inode and time of change of the content of each shard's file."""
    return {
        f"{path.relative_to(folder).parts[0]}/{path.name}": (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.suffix in (".parquet", ".keys", ".bin", ".idx", ".doc", ".rows")
    }


def test_shards_lie_in_parts_and_have_the_same_bytes_names_and_digests(made: Made) -> None:
    flat, parts = load(made.flat), load(made.in_parts)
    for one, other in zip(stage_folders(flat), stage_folders(parts), strict=True):
        assert by_name(one) == by_name(other)
        assert len(flat_files(one)) >= FILES and flat_files(other) == []
        assert [path for path in (other / "small").iterdir() if path.is_dir()] in (
            [],
            [other / "small" / "rejected"],
        )
    for one, other in zip(all_manifests(flat), all_manifests(parts), strict=True):
        first = read_manifest(one)
        second = read_manifest(other)
        assert first is not None and second is not None
        assert first["output"] == second["output"]
        assert first["counts"] == second["counts"]
        assert first["made_from"] == second["made_from"]
        named = {logical_name(name): record for name, record in second["files"].items()}
        assert named == first["files"]
        # Manifests list paths that exist, and nothing else is there.
        assert missing_files(other.parent, second["files"]) == []
    rejected = data_folder(parts).documents / "web" / "rejected"
    assert len(list(rejected.glob("??/*.jsonl"))) == FILES and not list(rejected.glob("*.jsonl"))


def test_documents_are_found_and_shown_alike(made: Made) -> None:
    shown = []
    for run_file in made:
        config = load(run_file)
        folder = data_folder(config).documents
        texts = [list(iterate_texts(folder, "web", split)) for split in ("train", "validation")]
        ids = find_documents(folder, "3-4", ["web", "small"])
        source, stem, row = ids[0].split("/")
        (document,) = read_documents(shard_path(folder, source, stem), [int(row)])
        data = open_data(config)
        by_id = documents(data, Question(id="3-4"))
        picked = documents(data, Question(samples=3))
        view = overview(data, Question())
        view["data_dir"] = ""
        shown.append([texts, ids, document, by_id, picked, view])
        assert by_id[0]["source"] == "web" and by_id[0]["tokens"] is not None
        assert by_id[0]["tokens"]["from"] == "data_dir/tokens"
    assert shown[0] == shown[1]


def test_training_reads_the_same_samples_and_trace_finds_them(made: Made) -> None:
    seen = []
    for run_file in made:
        for packing in ("concatenate", "best-fit"):
            run = begin_run(run_file, [f"data.packing={packing}"])
            step = trace_step(run, 3)
            found = trace_document(run, "5-2")["documents"]
            seen.append((packing, step["rows"], step["data"], found))
            assert all(part["origin_file"] for row in step["rows"] for part in row["documents"])
    assert seen[:2] == seen[2:]


def test_pairs_made_elsewhere_are_linked_in_parts_by_a_hash_of_their_names(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = data_folder(load(made.flat))
    text = RUN.replace(
        "kind: jsonl, paths: [web]", f"kind: megatron, paths: [{elsewhere.tokens}/web]"
    )
    text = text.replace(
        "{kind: byte-level-bpe, vocab_size: 260}",
        f"{{kind: pretrained, path: {elsewhere.tokenizer}}}",
    )
    shutil.copy(made.flat.with_name("small.jsonl"), tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    config = load(tmp_path / "run.yaml")
    tokens = data_folder(config).tokens
    seen = []
    outputs = []
    for most in (100, 3):
        lay_out(monkeypatch, most)
        run_stages(tmp_path / "run.yaml", DATA_STAGES, [])
        run = begin_run(tmp_path / "run.yaml", [])
        key = read_shard_table(tokens).of("web", "train").names[0]
        seen.append([trace_step(run, 2), documents(open_data(config), Question(id=f"web/{key}/0"))])
        manifest = read_manifest(data_folder(config).tokens_manifest)
        assert manifest is not None
        outputs.append(manifest["output"])
        assert check_sampled(tokens) == []
        data_folder(config).tokens_manifest.unlink()
    assert seen[0] == seen[1]
    assert outputs[0] == outputs[1]
    assert flat_files(tokens) == []
    linked = list((tokens / "web").glob("??/*"))
    assert len(linked) == 42 and all(path.is_symlink() for path in linked)
    assert all(path.parent.name == shard_places.part_of(path.name) for path in linked)


def test_files_are_verified_in_parts_and_remedies_name_the_manifest(made: Made) -> None:
    config = load(made.in_parts)
    data = data_folder(config)
    assert check_sampled(data.tokens) == []
    assert [problem for check in check_fully(data.path) for problem in check.problems] == []
    assert read_shard_table(data.tokens).in_parts == {"web"}
    path = next((data.tokens / "web").glob("??/*.bin"))
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    (problem,) = check_sampled(data.tokens)
    assert f"Delete {path} and {data.tokens_manifest}," in problem
    path.write_bytes(content)


def test_a_source_that_grows_over_the_bound_is_moved_and_not_made_again(
    grown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(grown)
    begin_run(grown, [])
    record_tokens(config)
    before = [files_of_shards(folder) for folder in stage_folders(config)]
    ids = trace_document(begin_run(grown, []), "5-2")["documents"]

    # A stage that is done moves nothing; one that reads more text moves what it has made.
    write_raw(grown.parent / "web" / f"{FILES:02d}.jsonl", FILES)
    run_stages(grown, DATA_STAGES, [])
    for folder, files in zip(stage_folders(config), before, strict=True):
        now = files_of_shards(folder)
        assert now.items() >= files.items() and len(now) > len(files)
        assert flat_files(folder) == []
    assert "source web: " in capsys.readouterr().err

    # A run that recorded its tokens before reads the same samples.
    run = begin_run(grown, [])
    assert trace_document(run, "5-2")["documents"] == ids


def test_annotations_and_verdicts_follow_documents_that_are_moved(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curated = [
        "annotate={language: false, pii: false, signals: none}",
        "select={exact_duplicates: [text_hash], max_removed: {default: 0.9}}",
    ]
    table = {stage.name: stage for stage in STAGES}
    lay_out(monkeypatch, 100)
    run_stages(grown, ["annotate", "select"], curated)
    config = load(grown, curated)
    data = data_folder(config)
    annotations = annotation_folder(config)
    selection = selection_folder(config)
    before = files_of_shards(annotations.path)

    def kept() -> list[bytes]:
        documents = kept_documents(config)
        return [
            bytes(text)
            for shard in documents.shards("web", "train")
            for text in documents.texts_of_group(shard, 0).texts
        ]

    texts = kept()
    outputs = [read_manifest(folder.manifest) for folder in (annotations, selection)]

    # Documents alone are moved: both stages stay done, and what they made is found.
    lay_out(monkeypatch, 3)
    data.documents_manifest.unlink()
    run_stages(grown, ["prepare"], curated)
    states = stage_states(table, config, look_at=table)
    assert [states[name].kind for name in ("annotate", "select")] == ["done", "done"]
    assert kept() == texts
    selection.manifest.unlink()
    run_stages(grown, ["select"], curated)
    assert kept() == texts

    # Annotations are moved when they are made next.
    annotations.manifest.unlink()
    run_stages(grown, ["annotate", "select"], curated)
    assert files_of_shards(annotations.path) == before
    assert flat_files(annotations.path) == [] and kept() == texts
    again = [read_manifest(folder.manifest) for folder in (annotations, selection)]
    assert [m and m["output"] for m in again] == [m and m["output"] for m in outputs]


def test_moving_makes_nothing_stale_and_readers_follow(
    grown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(grown)
    table = {stage.name: stage for stage in STAGES}
    shown = documents(open_data(config), Question(id="3-4"))
    before = [files_of_shards(folder) for folder in stage_folders(config)]

    # Documents are moved, and the stages that read them stay done where they are.
    data_folder(config).documents_manifest.unlink()
    run_stages(grown, ["prepare"], [])
    assert flat_files(data_folder(config).documents) == []
    states = stage_states(table, config, look_at=table)
    assert [states[name].kind for name in DATA_STAGES] == ["done"] * 4
    assert len(flat_files(data_folder(config).tokens)) >= 3 * FILES
    assert documents(open_data(config), Question(id="3-4")) == shown
    assert find_documents(data_folder(config).documents, "3-4", ["web"]) == [shown[0]["id"]]

    # Tokens follow when they are made next; rows do not have to.
    run = begin_run(grown, [])
    step = trace_step(run, 3)
    data_folder(config).tokens_manifest.unlink()
    run_stages(grown, ["tokenize"], [])
    assert flat_files(data_folder(config).tokens) == []
    assert len(flat_files(data_folder(config).packing(32))) >= FILES
    assert trace_step(read_run(config), 3) == step
    # What was opened before reads on.
    assert trace_step(run, 4) == trace_step(read_run(config), 4)

    # Below the bound, all is moved back. `begin_run` has packed again, which removes that manifest.
    lay_out(monkeypatch, 100)
    for manifest in all_manifests(config):
        manifest.unlink(missing_ok=True)
    run_stages(grown, DATA_STAGES, [])
    assert [files_of_shards(folder) for folder in stage_folders(config)] == before
    assert all(len(flat_files(folder)) >= FILES for folder in stage_folders(config))
