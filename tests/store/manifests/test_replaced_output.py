"""Output that takes the place of older output, and mistakes that leave the older one as it is."""

import json
from pathlib import Path

import pytest
from helpers import digests, run_stages

from pipeline.errors import UserError
from pipeline.store.files import write_json
from pipeline.store.layout import manifest_path
from pipeline.store.manifests.replaced_output import replace_output, unfinished_output

RUN = """\
paths: {data_dir: data, run_dir: run}
sources: {web: {kind: jsonl, paths: [web.jsonl]}}
prepare: {validation_fraction: 0.3}
annotate: {signals: [rps_doc_word_count], language: false, pii: false, minhash: none}
select: {rules: [rps_doc_word_count >= 2], max_removed: {default: 0.05}}
tokenizer: {kind: byte-level-bpe, vocab_size: 264}
"""
STAGES = ("prepare", "annotate", "select", "train-tokenizer", "tokenize")
MISTAKES = {
    "prepare": ["sources.books={kind: jsonl, paths: [boks.jsonl]}"],
    "select": [
        "select.exact_duplicates=[published]",
        "select.rules=[rps_doc_word_count >= 5]",
        "select.rules=[rps_doc_word_count >= 500]",
    ],
    "train-tokenizer": ["tokenizer.vocab_size=60000"],
    "tokenize": ["sources.ids={kind: megatron, paths: [nothing_there]}"],
}


def test_files_take_their_places_after_the_manifest_has_gone(tmp_path: Path) -> None:
    write_json(manifest_path(tmp_path), {})
    (tmp_path / "old").write_text("old")
    beside = unfinished_output(tmp_path) / "next"
    (beside / "a").mkdir(parents=True)
    (beside / "old").write_text("new")
    (beside / "a" / "b").write_text("b")
    replace_output(beside, tmp_path, ["old", "a/b"])
    assert digests(tmp_path).keys() == {"old", "a/b"}
    assert (tmp_path / "old").read_text() == "new"
    assert not manifest_path(tmp_path).exists()


def test_a_mistake_leaves_what_the_stages_made_before(tmp_path: Path) -> None:
    """Each mistake is refused by its stage; all manifests and files stay, and all is done as before."""
    texts = [f"number {n} of words {'x ' * (n % 7)}" for n in range(40)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "web.jsonl").write_text(lines)
    (tmp_path / "run.yaml").write_text(RUN)
    data = tmp_path / "data"
    run_stages(tmp_path / "run.yaml", STAGES, [])
    made = digests(data)
    manifests = {path: path.read_bytes() for path in sorted(data.glob("*/manifest.json"))}
    assert len(manifests) == len(STAGES)

    for stage, mistakes in MISTAKES.items():
        for mistake in mistakes:
            with pytest.raises(UserError):
                run_stages(tmp_path / "run.yaml", [stage], [mistake])
                print(f"not refused: {mistake}")
            assert all(path.is_file() for path in manifests), mistake
            assert manifests == {path: path.read_bytes() for path in manifests}, mistake
            now = {path: digest for path, digest in digests(data).items() if path in made}
            assert now == made, mistake
