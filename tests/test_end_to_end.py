"""Raw text to few-shot scores through the command line, on a real corpus where PIPELINE_TEST_CORPUS
names one."""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import start_module
from program_here import pipeline_here
from training_data import TEMPLATES
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.store.environment import user_variable

pytestmark = pytest.mark.ranks

ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

RUN_FILE = """\
paths: {{data_dir: data, run_dir: run}}
sources:
{sources}
prepare: {{validation_fraction: 0.1}}
tokenizer: {{kind: sentencepiece-bpe, vocab_size: 512}}
model:
  architecture: llama
  config:
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 2
    num_attention_heads: 2
    max_position_embeddings: 512
data: {{sequence_length: 64, validation_sequences: 8}}
optimizer: {{peak_learning_rate: 1e-2}}
schedule: {{warmup_tokens: 2048}}
batch: {{global_batch_tokens: 1024, micro_batch_sequences: 4}}
precision: {{dtype: fp32}}
train: {{train_tokens: 20480, validate_every_steps: 10}}
checkpoint: {{save_every_steps: 10}}
evaluation: {{limit: 20, shots: [0, 1], heldout_bytes: 2000}}
deepspeed: {template}
"""


def make_corpus(folder: Path) -> list[Path]:
    """Two slices shaped like RedPajama's, of made-up sentences."""
    generator = random.Random(5)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(generator.choices(syllables, k=generator.randrange(1, 4))) for _ in range(300)]
    often = [
        1 / rank for rank in range(1, len(words) + 1)
    ]  # as words are in a language: Zipf's law
    files = []
    for name in ("alpha", "beta"):
        file = folder / f"{name}.jsonl.gz"
        with gzip.open(file, "wt") as out:
            for i in range(400):
                text = ". ".join(" ".join(generator.choices(words, often, k=12)) for _ in range(8))
                out.write(json.dumps({"meta": {"url": f"{name}/{i}"}, "text": text}) + "\n")
        files.append(file)
    return files


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("end-to-end")
    corpus = user_variable("PIPELINE_TEST_CORPUS")
    files = sorted(Path(corpus).glob("*.jsonl.zst")) if corpus else make_corpus(folder)
    sources = "\n".join(
        f"  {f.name.split('.')[0].split('_')[0]}: {{kind: jsonl, paths: [{f}]}}" for f in files
    )
    path = folder / "run.yaml"
    path.write_text(RUN_FILE.format(sources=sources, template=TEMPLATES / "zero1.json"))
    return path


def pipeline(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=ENVIRONMENT)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def finished(run_file: Path) -> Path:
    """Return the folder of a run that went through all stages."""
    ended = pipeline("run", run_file)
    assert "report.html" in ended.stdout
    return run_file.parent


def test_every_stage_leaves_its_manifest_and_is_done_for_good(
    finished: Path, run_file: Path
) -> None:
    manifests = [*finished.glob("*/*/manifest.json"), finished / "run" / "report.manifest.json"]
    written = {path: path.stat().st_mtime_ns for path in manifests}
    again = pipeline("run", run_file)
    assert len(written) == 7
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert again.stderr.count("done already") == 7
    for path in written:
        made = json.loads(path.read_text())
        assert f"{made['stage']}: done already: {made['counts']['headline']}\n" in again.stderr
    status = pipeline_here("status", run_file).stdout
    assert status.count(" done ") == 7
    assert "stale" not in status


def test_a_changed_setting_makes_stale_what_depends_on_it_and_nothing_else(
    finished: Path, run_file: Path
) -> None:
    status = pipeline_here("status", run_file, "evaluation.limit=10").stdout
    assert "evaluation.limit: 20 -> 10" in status
    assert status.count(" done ") == 5
    status = pipeline_here("status", run_file, "tokenizer.vocab_size=600").stdout
    assert "tokenizer.vocab_size: 512 -> 600" in status
    assert status.count(" done ") == 1


def test_the_export_is_the_engines_model_and_loads_anywhere(finished: Path) -> None:
    counts = manifest(finished / "run" / "export")["counts"]
    assert counts["max_logit_difference"] < 1e-4
    folder = finished / "run" / "export" / counts["folder"]
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    probe = np.load(finished / "run" / "checkpoints" / counts["folder"] / "probe.npz")
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(probe["input_ids"])).logits.numpy()
    assert np.abs(logits - probe["logits"]).max() < 1e-4
    assert tokenizer.decode(tokenizer("text and 123 more")["input_ids"]) == "text and 123 more"


def test_the_model_has_begun_to_learn(finished: Path) -> None:
    counts = manifest(finished / "run" / "checkpoints")["counts"]
    records = [
        json.loads(line) for line in (finished / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [record["step"] for record in records] == list(range(1, 21))
    assert counts["validation_loss"] < records[0]["loss"] - 0.5
    assert counts["tokens"] == 20480


def test_lm_evals_own_command_gives_the_same_scores(finished: Path, tmp_path: Path) -> None:
    run_dir = finished / "run"
    export = run_dir / "export" / manifest(run_dir / "export")["counts"]["folder"]
    command = [
        "lm_eval",
        "run",
        "--model",
        "hf",
        "--model_args",
        f"pretrained={export}",
    ]
    command += [
        "--tasks",
        "heldout_cloze",
        "--num_fewshot",
        "1",
        "--limit",  # that of the run file
        "20",
        "--batch_size",
        "16",
        "--device",
        "cpu",
    ]
    command += [
        "--include_path",
        str(run_dir / "evaluation" / "tasks"),
        "--output_path",
        str(tmp_path),
    ]
    log = tmp_path / "lm_eval.log"
    ended = start_module(command, ENVIRONMENT, log=log)
    assert ended.wait() == 0, log.read_text()[-3000:]
    (file,) = tmp_path.rglob("results_*.json")
    theirs = json.loads(file.read_text())["results"]["heldout_cloze"]
    rows = manifest(run_dir / "evaluation")["counts"]["scores"]
    ours = {
        row["metric"]: row for row in rows if row["task"] == "heldout_cloze" and row["shots"] == 1
    }
    for metric in ("acc", "acc_mutual_info"):
        assert theirs[f"{metric},none"] == ours[metric]["value"]
        assert theirs[f"{metric}_stderr,none"] == pytest.approx(ours[metric]["standard_error"])


def test_no_document_is_lost_between_the_stages(finished: Path) -> None:
    prepared = manifest(finished / "data" / "documents")["counts"]["sources"]
    tokens = manifest(finished / "data" / "tokens")["counts"]["sources"]
    assert prepared.keys() == tokens.keys()
    for name, source in prepared.items():
        for split, documents in source["documents"].items():
            assert tokens[name][split].get("documents", 0) == documents
            assert tokens[name][split].get("text_bytes", 0) == source["text_bytes"][split]
