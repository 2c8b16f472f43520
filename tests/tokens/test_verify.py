"""What is wrong on disk is named before training starts, and what the message says puts it
right."""

import json
import os
import re
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from helpers import digests, run_stages, without_progress
from program_here import pipeline_here
from ranks import run_ranks

from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.store.files import read_json, write_json
from pipeline.store.layout import MANIFEST
from pipeline.tokens.indexed_dataset import ShardWriter, sample_checksum
from pipeline.tokens.verify import (
    BackgroundCheck,
    check_fully,
    check_sampled,
    check_shard,
    shard_names,
)

STAGES = ["prepare", "train-tokenizer", "tokenize"]


@pytest.fixture
def made(make_run: Callable[..., Path]) -> Path:
    """Return a run file whose three stages of data are done: two sources, each with a shard to
    train on and one held out."""
    return make_run()


def tokens_of(run_file: Path) -> Path:
    return load(run_file).paths.data_dir / "tokens"


def flip(path: Path, place: int) -> None:
    """Change one byte and nothing else that can be seen from outside: not the size, not the
    time."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)


def another_type(index: Path) -> None:
    """Write the code of int32 into the header of an index of uint16."""
    content = bytearray(index.read_bytes())
    assert content[17] == 8
    content[17] = 4
    index.write_bytes(content)


def fewer_sequences(index: Path) -> None:
    content = bytearray(index.read_bytes())
    struct.pack_into("<Q", content, 18, struct.unpack_from("<Q", content, 18)[0] - 1)
    index.write_bytes(content)


def longer_last_sequence(index: Path) -> None:
    content = bytearray(index.read_bytes())
    (sequences,) = struct.unpack_from("<Q", content, 18)
    place = 34 + 4 * (sequences - 1)
    struct.pack_into("<i", content, place, struct.unpack_from("<i", content, place)[0] + 1)
    index.write_bytes(content)


def swap(one: Path, other: Path) -> None:
    spare = one.with_name("spare")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


def follow(
    problems: list[str], run_file: Path, stage: str = "tokenize", overrides: Sequence[str] = ()
) -> None:
    """Do what the messages say: delete what they name, run the stage."""
    for problem in problems:
        found = re.search(r"[dD]elete (\S+)(?: and (\S+))?, then run `pipeline ([\w-]+)`", problem)
        assert found and found[3] == stage, problem
        for name in (found[1], found[2]):
            if name:
                Path(name).unlink(missing_ok=True)
    run_stages(run_file, [stage], list(overrides))


def test_samples_are_sixteen_blocks_from_the_first_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = np.random.default_rng(1).bytes(65_535)
    path.write_bytes(content)
    assert sample_checksum(path) == xxhash.xxh3_128_hexdigest(content)
    content = np.random.default_rng(2).bytes(15 * 10_000 + 4096)
    path.write_bytes(content)
    blocks = [content[10_000 * place :][:4096] for place in range(16)]
    assert sample_checksum(path) == xxhash.xxh3_128_hexdigest(b"".join(blocks))
    for place, is_sampled in (
        (0, True),
        (4095, True),
        (4096, False),
        (70_000, True),
        (154_095, True),
        (149_999, False),
    ):
        before = sample_checksum(path)
        flip(path, place)
        assert (sample_checksum(path) != before) is is_sampled, place


@pytest.mark.ranks
def test_what_is_as_it_was_made_has_no_problem(made: Path) -> None:
    assert len(shard_names(read_json(tokens_of(made) / MANIFEST))) == 4
    assert check_sampled(tokens_of(made)) == []
    for folder in check_fully(load(made).paths.data_dir):
        manifest = read_json(folder.folder / MANIFEST)
        assert (folder.problems, folder.files, folder.links) == ((), len(manifest["files"]), 0)
        assert folder.bytes == sum(record["bytes"] for record in manifest["files"].values())


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("suffix", "damage", "expected"),
    [
        (".bin", truncate, r"\.bin: has [\d,]+ bytes instead of [\d,]+\. "),
        (".idx", truncate, r"\.idx: has [\d,]+ bytes instead of [\d,]+\. "),
        (".bin", Path.unlink, r"\.bin: is missing\. "),
        (".idx", Path.unlink, r"\.idx: is missing\. "),
        (
            ".bin",
            lambda path: flip(path, 5),
            r"\.bin: has the size, but not the bytes, of the file that",
        ),
        (
            ".idx",
            lambda path: flip(path, 60),
            r"\.idx: has the size, but not the bytes, of the file that",
        ),
        (
            ".idx",
            lambda path: flip(path, 0),
            r"\.idx: does not begin as a Megatron indexed dataset \(version 1\)",
        ),
        (
            ".idx",
            lambda path: flip(path, 9),
            r"\.idx: does not begin as a Megatron indexed dataset \(version 1\)",
        ),
        (".idx", another_type, r"\.idx: holds ids of type int32 \(code 4\) instead of uint16"),
        (
            ".idx",
            lambda path: flip(path, 17),
            r"\.idx: holds ids of type unknown \(code 9\) instead of",
        ),
        (
            ".idx",
            fewer_sequences,
            r"\.idx: counts [\d,]+ sequences and [\d,]+ document entries, [\d,]+ bytes, and has",
        ),
        (
            ".idx",
            longer_last_sequence,
            r"\.idx: has its last sequence end at byte [\d,]+ of a \.bin of [\d,]+ bytes",
        ),
    ],
)
def test_a_wrong_file_is_named_and_the_remedy_works(
    made: Path, suffix: str, damage: Callable[[Path], Any], expected: str
) -> None:
    folder = tokens_of(made)
    before, output = digests(folder), read_json(folder / MANIFEST)["output"]
    victim = sorted(folder.glob(f"*/*{suffix}"))[1]
    damage(victim)
    (problem,) = check_sampled(folder)
    assert problem.startswith(f"{victim}: ")
    assert re.search(expected, problem)
    assert "\n" not in problem
    (whole,) = check_fully(load(made).paths.data_dir)[2].problems
    assert whole.startswith(f"{victim}: ")
    follow([problem], made)
    assert check_sampled(folder) == []
    assert (digests(folder), read_json(folder / MANIFEST)["output"]) == (before, output)


@pytest.mark.ranks
def test_an_unreadable_file_is_a_problem_and_no_crash(made: Path) -> None:
    folder = tokens_of(made)
    victim = sorted(folder.glob("*/*.bin"))[0]
    size = victim.stat().st_size
    victim.unlink()
    victim.mkdir()
    (problem,) = check_sampled(folder)
    assert re.search(r"\.bin: (has [\d,]+ bytes instead of|cannot be read \()", problem)
    victim.rmdir()
    follow([problem], made)
    assert victim.stat().st_size == size


@pytest.mark.parametrize("same_size", [True, False])
def test_swapped_shards_are_both_named_and_the_remedy_works(
    run_file: Path, same_size: bool
) -> None:
    texts = ["x" * 700, "y" * 700, "z" * 800]
    (run_file.parent / "web.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in texts)
    )
    settings = [
        "prepare.validation_fraction=0",
        "prepare.shard_text_bytes=600",
        "tokenizer.vocab_size=258",
    ]
    run_stages(run_file, STAGES, settings)
    folder = tokens_of(run_file)
    before = digests(folder)
    one, other, third = sorted(folder.glob("web/*.bin"))
    swap(one, other if same_size else third)
    problems = check_sampled(folder)
    expected = "has the size, but not the bytes" if same_size else "bytes instead of"
    assert len(problems) == 2
    assert all(expected in problem for problem in problems)
    follow(problems, run_file, overrides=settings)
    assert check_sampled(folder) == []
    assert digests(folder) == before


def write_shards(folder: Path, shards: int) -> Path:
    """Write a tokens folder of one shard of 80,000 bytes of ids, under so many names (hard
    links)."""
    with ShardWriter(folder / "web" / "train_000", np.dtype(np.uint16)) as writer:
        writer.add(np.arange(40_000), np.full(5000, 8), np.arange(5000))
        records = writer.finish()
    names = [f"web/train_{place:03d}" for place in range(shards)]
    for name in names[1:]:
        for suffix in records:
            os.link(folder / f"web/train_000{suffix}", folder / f"{name}{suffix}")
    files = {f"{name}{suffix}": record for name in names for suffix, record in records.items()}
    write_json(folder / MANIFEST, {"files": files, "counts": {"dtypes": {"web": "uint16"}}})
    return folder


def test_a_byte_between_the_samples_is_found_by_reading_all(tmp_path: Path) -> None:
    """Blocks of 80,000 bytes begin at multiples of 75,904 / 15 = 5,060.3: 4,096 to 5,059 are in
    none."""
    folder = write_shards(tmp_path / "tokens", 1)
    victim = folder / "web" / "train_000.bin"
    assert victim.stat().st_size == 80_000
    flip(victim, 5_000)
    assert check_sampled(folder) == []
    (found,) = check_fully(tmp_path)
    assert found.problems == (
        f"{victim}: has content that differs from what was written. Delete {victim} and {folder / MANIFEST}, "
        "then run "
        "`pipeline tokenize`: it makes that shard again.",
    )
    flip(victim, 5_100)
    (problem,) = check_sampled(folder)
    assert "has the size, but not the bytes" in problem


def test_parts_of_all_ranks_are_all_shards_once(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "tokens", 13)
    for path in folder.glob("web/*.idx"):
        path.unlink()
    for ranks in (1, 3, 20):
        found = [
            problem
            for rank in range(ranks)
            for problem in check_sampled(folder, part=(rank, ranks))
        ]
        assert sorted(found) == sorted(check_sampled(folder)), ranks
        assert len(found) == 13
    assert check_sampled(folder, ["other"]) == []


def test_the_check_ends_early_where_everything_is_wrong(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "tokens", 60)
    shutil.rmtree(folder / "web")
    *problems, last = check_sampled(folder)
    assert len(problems) == 20  # of 10 shards
    assert (
        last
        == f"{folder}: 10 of 60 shards were looked at. `pipeline inspect --verify` looks at every file."
    )
    assert len(check_fully(tmp_path)[0].problems) == 180


def test_a_slow_file_system_is_asked_for_many_shards_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """35 reads a shard: 16 of `.bin`, 16 of `.idx`, header, last length, last offset. None ends
    before the check's constructor has returned, and the first 16 end together or not at all."""
    folder, pread, calls, lock = (
        write_shards(tmp_path / "tokens", 200),
        os.pread,
        [0],
        threading.Lock(),
    )
    constructed, together = threading.Event(), threading.Barrier(16)

    def slow(*arguments: int) -> bytes:
        with lock:
            calls[0] += 1
            is_early = calls[0] <= 16
        assert constructed.wait(600)
        if is_early:
            together.wait(600)
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", slow)
    check = BackgroundCheck(folder)
    constructed.set()
    assert check.finish() == []
    assert calls == [200 * 35]


def test_what_goes_wrong_in_the_background_is_raised_where_it_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished tokens"):
        BackgroundCheck(tmp_path).finish()
    (write_shards(tmp_path, 2) / "web" / "train_001.bin").unlink()
    (problem,) = BackgroundCheck(tmp_path).finish()
    assert "train_001.bin: is missing" in problem


@pytest.fixture
def pairs_run(made: Path) -> Path:
    """Return a run file that takes over the pairs of another run: two sources of two pairs each."""
    shutil.copytree(tokens_of(made), made.parent / "pairs")
    shutil.copytree(made.parent / "data" / "tokenizer", made.parent / "made")
    text = made.read_text().replace("data_dir: data", "data_dir: taken")
    for name in ("prose", "sums"):
        text = text.replace(
            f"kind: jsonl, paths: [{name}.jsonl]", f"kind: megatron, paths: [pairs/{name}]"
        )
    path = made.with_name("taken.yaml")
    path.write_text(
        text.replace("kind: byte-level-bpe, vocab_size: 300", "kind: pretrained, path: made")
    )
    run_stages(path, STAGES, [])
    assert check_sampled(tokens_of(path)) == []
    return path


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda path: flip(path, 4),
            "has the size, but not the bytes, of the file that `pipeline tokenize`",
        ),
        (os.utime, "was changed or replaced since `pipeline tokenize` checked it"),
    ],
)
def test_an_existing_pair_that_changed_is_named(
    pairs_run: Path, damage: Callable[[Path], Any], expected: str
) -> None:
    folder = tokens_of(pairs_run)
    victim = sorted((pairs_run.parent / "pairs" / "sums").glob("*.bin"))[1]
    saved = shutil.copy2(victim, victim.with_suffix(".saved"))
    damage(victim)
    link = folder / "sums" / f"train_{victim.name}"
    (problem,) = check_sampled(folder)
    assert problem.startswith(f"{link}: {expected}")
    assert (
        f"It is a link to {victim}: restore that (`cp -p` keeps its time of change), or delete "
        f"{link}" in problem
    )
    found = check_fully(folder.parent)[-1]
    assert (found.problems, found.files, found.links) == ((problem,), 0, 8)
    shutil.copy2(saved, victim)  # the first remedy, `cp -p`
    assert check_sampled(folder) == []
    damage(victim)
    follow([problem], pairs_run)  # the second
    assert check_sampled(folder) == []
    assert link.is_symlink()


@pytest.mark.ranks
def test_an_existing_pair_that_is_gone_is_named(pairs_run: Path) -> None:
    folder = tokens_of(pairs_run)
    victim = sorted((pairs_run.parent / "pairs" / "prose").glob("*.bin"))[0]
    victim.rename(victim.with_suffix(".gone"))
    link = folder / "prose" / f"train_{victim.name}"
    (problem,) = check_sampled(folder)
    assert problem == (
        f"{link}: is missing. It is a link to {victim}: restore that (`cp -p` keeps its time of "
        "change), or remove it from "
        "sources.prose.paths and run `pipeline tokenize`."
    )
    victim.with_suffix(".gone").rename(victim)
    link.unlink()
    (problem,) = check_sampled(folder)
    assert problem.startswith(f"{link}: is missing. Delete {folder / MANIFEST}, then run")
    follow([problem], pairs_run)
    assert check_sampled(folder) == []


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("name", "stage"), [("documents", "prepare"), ("tokenizer", "train-tokenizer")]
)
def test_documents_and_tokenizer_are_verified_too(made: Path, name: str, stage: str) -> None:
    data_dir = load(made).paths.data_dir
    before = digests(data_dir)
    victim = data_dir / name / min(read_json(data_dir / name / MANIFEST)["files"])
    flip(victim, victim.stat().st_size // 2)
    (problem,) = [problem for folder in check_fully(data_dir) for problem in folder.problems]
    assert problem.startswith(f"{victim}: has content that differs from what was written. ")
    follow([problem], made, stage)
    # A tokenizer that is made again has not been measured yet.
    if name == "tokenizer":
        del before["tokenizer/statistics.json"]
    assert digests(data_dir) == before
    run_stages(made, ["tokenize"], [])
    assert [folder.problems for folder in check_fully(data_dir)] == [(), (), ()]


def test_annotations_and_verdicts_are_verified_too(run_file: Path) -> None:
    """Nothing else would read these bytes: a list of removed documents, a column of no rule."""
    settings = [
        "annotate={signals: none, language: false}",
        "select={exact_duplicates: [text_hash]}",
    ]
    stages = ["prepare", "annotate", "select"]
    rows = run_file.with_name("web.jsonl").read_text()
    run_file.with_name("web.jsonl").write_text(rows + rows.splitlines()[0] + "\n")
    run_stages(run_file, stages, settings)
    data_dir = load(run_file).paths.data_dir
    before = digests(data_dir)
    victims = {
        "annotate": next(data_dir.glob("annotations/web/*.parquet")),
        "select": data_dir / "selection" / "removed" / "exact-duplicate.jsonl",
    }
    for stage, victim in victims.items():
        flip(victim, victim.stat().st_size // 2)
        checked = {folder.folder.name: folder.problems for folder in check_fully(data_dir)}
        assert [*checked] == ["documents", "annotations", "selection"]
        (problem,) = [problem for problems in checked.values() for problem in problems]
        assert problem.startswith(f"{victim}: has content that differs from what was written. ")
        follow([problem], run_file, stage, settings)
        assert digests(data_dir) == before
        assert [folder.problems for folder in check_fully(data_dir)] == [(), (), ()]


@pytest.mark.ranks
def test_the_command_prints_a_line_for_each_folder_and_exits_2(made: Path) -> None:
    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        ended = pipeline_here("inspect", made, "--verify", *options)
        ended.stderr = without_progress(ended.stderr)
        return ended

    data_dir = load(made).paths.data_dir
    good = run()
    assert (good.returncode, good.stderr) == (0, "")
    lines = good.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        str(data_dir / name) for name in ("documents", "tokenizer", "tokens")
    ]
    assert all(
        re.search(r": \d+ files, [\d.]+ kB, \d+\.\d\d GB/s; no problems$", line) for line in lines
    )
    victims = sorted((data_dir / "tokens").glob("*/*.doc"))[:2]
    for victim in victims:
        flip(victim, 0)
    bad = run()
    assert bad.returncode == 2
    assert bad.stdout.splitlines()[-1].endswith("GB/s; 2 problems")
    assert bad.stderr.startswith(
        f"error: 2 problems in {data_dir}:\n  - {victims[0]}: has content that differs from what was written."
    )
    assert len(bad.stderr.splitlines()) == 3
    as_json = run("--json")
    assert as_json.returncode == 2
    assert [len(folder["problems"]) for folder in json.loads(as_json.stdout)["folders"]] == [
        0,
        0,
        2,
    ]
    (data_dir / "tokens" / MANIFEST).unlink()
    assert (
        run().stdout.splitlines()[-1]
        == f"{data_dir}/tokens: is not finished, so there is nothing to compare with"
    )
    assert run("--tokenizer").stderr.startswith(
        "error: --tokenizer and --verify do not go together"
    )


@pytest.mark.ranks
def test_one_shard_is_looked_at_alone(made: Path) -> None:
    folder = tokens_of(made)
    manifest = read_json(folder / MANIFEST)
    first, second = shard_names(manifest)[:2]
    (folder / f"{first}.bin").unlink()
    (folder / f"{first}.idx").unlink()
    assert [line.split(": ")[0] for line in check_shard(folder, first, manifest)] == [
        str(folder / f"{first}{suffix}") for suffix in (".bin", ".idx")
    ]
    assert check_shard(folder, second, manifest) == []


@pytest.mark.ranks
def test_a_training_job_is_refused_on_every_rank_before_its_first_step(made: Path) -> None:
    """Each of two ranks finds one of the two wrong files; both say both."""
    folder = tokens_of(made)
    names = shard_names(read_json(folder / MANIFEST))
    assert len(names) == 4
    victims = [folder / f"{names[0]}.bin", folder / f"{names[3]}.bin"]
    for victim in victims:
        flip(victim, 2)
    outcome = run_ranks(made, 2)
    said = [outcome["message"], *(log.read_text() for log in made.parent.glob("rank-*-*.log"))]
    assert (outcome["status"], len(said)) == ("refused", 3)
    for message in said:
        assert all(f"{victim}: has the size, but not the bytes" in message for victim in victims), (
            message
        )
        assert "The token files are not as tokenize wrote them:" in message
    assert not (load(made).paths.run_dir / "metrics.jsonl").exists()
    follow(outcome["message"].splitlines()[1:], made, overrides=[])
    assert run_ranks(made, 2)["status"] == "done"
