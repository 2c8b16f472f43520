"""Text that is added later: only that is prepared and tokenized, with the vocabulary that was
learned before."""

from pathlib import Path

from helpers import run_stages

from pipeline.cli import status_view
from pipeline.config.run_file import load
from pipeline.store.files import read_json
from pipeline.store.stages import STAGES

DATA = ["prepare", "train-tokenizer", "tokenize"]


def written(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.suffix in (".parquet", ".keys", ".bin", ".idx", ".doc")
        or path.name == "tokenizer.json"
    }


def shown_status(run_file: Path, capsys: object) -> str:
    capsys.readouterr()  # type: ignore[attr-defined]
    status_view.show_status(STAGES, run_file, [])
    return capsys.readouterr().out  # type: ignore[attr-defined]


def test_a_source_added_later_leaves_the_others_alone(run_file: Path, capsys: object) -> None:
    run_stages(run_file, DATA, [])
    data = load(run_file).paths.data_dir
    before = written(data)
    assert "is kept" not in shown_status(run_file, capsys)
    (run_file.parent / "books.jsonl").write_text('{"text": "a book"}\n' * 3)
    run_file.write_text(
        run_file.read_text().replace(
            "sources:\n", "sources:\n  books: {kind: jsonl, paths: [books.jsonl]}\n"
        )
    )
    run_stages(run_file, DATA, [])
    after = written(data)
    assert {name: after[name] for name in before} == before
    added = {name.split("/")[0] + "/" + name.split("/")[1] for name in after.keys() - before.keys()}
    assert added == {"documents/books", "tokens/books"}
    assert (
        read_json(data / "tokens" / "manifest.json")["counts"]["sources"]["books"]["train"][
            "documents"
        ]
        == 3
    )
    assert "train-tokenizer was made from an earlier output of prepare and is kept" in shown_status(
        run_file, capsys
    )


def test_another_tokenizer_makes_all_tokens_stale_and_status_says_why(
    run_file: Path, capsys: object
) -> None:
    run_stages(run_file, DATA, [])
    data = load(run_file).paths.data_dir
    before = written(data)
    run_file.write_text(run_file.read_text().replace("vocab_size: 270", "vocab_size: 275"))
    shown = shown_status(run_file, capsys)
    assert "train-tokenizer is stale: tokenizer.vocab_size: 270 -> 275" in shown
    assert "tokenize is stale: its input train-tokenizer is stale" in shown
    run_stages(run_file, DATA, [])
    unchanged = {name for name, time in written(data).items() if before.get(name) == time}
    assert unchanged == {name for name in before if name.startswith("documents/")}
