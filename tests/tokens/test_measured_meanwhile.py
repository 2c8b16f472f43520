"""The measurement for the report beside other work: its end, an error of that work, its own errors."""

import threading
from pathlib import Path

import pytest
from helpers import write_byte_level_tokenizer, write_documents
from test_tokenizer_report import TEXT, prepare

from pipeline.errors import Interrupted
from pipeline.store.files import read_json
from pipeline.store.layout import data_folder
from pipeline.tokens import measured_meanwhile as meanwhile
from pipeline.tokens import tokenizer_report


def test_it_is_finished_with_the_work(run_file: Path) -> None:
    config = prepare(run_file, write_byte_level_tokenizer)
    with meanwhile.measured_meanwhile(config):
        pass
    kept = read_json(data_folder(config).tokenizer_statistics)
    assert kept["measured"] == meanwhile.begin_measurement(config).kept
    assert kept["measured"]["sample"]["sources"]["web"]["words"] == 3


def test_an_error_of_the_work_stops_it(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = prepare(run_file, write_byte_level_tokenizer)
    begun = threading.Event()
    ended: list[type[BaseException]] = []
    finish = tokenizer_report.Measurement.finish

    def slow(measurement: tokenizer_report.Measurement, bar: tokenizer_report.Bar) -> None:
        with bar(100) as update:
            begun.set()
            try:
                while True:
                    update(1, "web")
            except Interrupted:
                ended.append(Interrupted)
                raise

    monkeypatch.setattr(tokenizer_report.Measurement, "finish", slow)
    with pytest.raises(ValueError, match="of the work"), meanwhile.measured_meanwhile(config):
        assert begun.wait(60)
        raise ValueError("of the work")
    assert ended == [Interrupted]
    assert not data_folder(config).tokenizer_statistics.exists()

    # The next attempt measures.
    monkeypatch.setattr(tokenizer_report.Measurement, "finish", finish)
    with meanwhile.measured_meanwhile(config):
        pass
    assert data_folder(config).tokenizer_statistics.exists()


@pytest.mark.parametrize("missing", ["none", "other"])
def test_its_own_errors_are_left_to_the_report(run_file: Path, missing: str) -> None:
    config = prepare(run_file, write_byte_level_tokenizer, f"tokenizer.compare=[{missing}]")
    worked = False
    with meanwhile.measured_meanwhile(config):
        worked = True
    assert worked
    assert not data_folder(config).tokenizer_statistics.exists()


def test_only_the_beginning_of_a_document_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_report, "DOCUMENT_CHARACTERS", 3)
    texts = ["abcdefghijklmn", "é\U0001f642\U0001f642é", "\U0001f642" * 9, TEXT]
    write_documents(tmp_path, "web", "train", texts)
    documents = tokenizer_report.KeptDocuments(tmp_path / "documents")
    found = tokenizer_report.measured_texts(documents, "web")["train"]
    assert found == [text[:3] for text in texts]
