"""Sources on a web server, and run files that name files of several places."""

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import prepare_here

from pipeline.config.run_file import load
from pipeline.config.urls import Url, parse_url
from pipeline.corpus.remote.connection import explained
from pipeline.corpus.remote.listing import forget_listings
from pipeline.errors import DataError
from pipeline.store.artifacts import expected_inputs
from pipeline.store.stages import STAGES


class _Quiet(SimpleHTTPRequestHandler):
    """States the size and the time of change of a file, no etag, and sends no ranges."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL of the server that gives its files."""
    folder = tmp_path / "web"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    forget_listings()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_files_of_a_web_server_are_read_beside_files_of_this_machine(
    run_file: Path, web: tuple[Path, str]
) -> None:
    folder, url = web
    rows = [{"text": f"text {n}"} for n in range(9)]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    own = run_file.parent / "b.jsonl"
    own.write_text('{"text": "own"}\n')
    paths = f"sources.web.paths=['{url}/a.jsonl', '{own}']"
    counts = prepare_here(run_file, paths).counts["sources"]["web"]
    assert sum(counts["documents"].values()) == 10


def test_a_server_that_sends_no_parts_is_named_with_what_to_do(
    run_file: Path, web: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = web
    pq.write_table(pa.table({"text": ["a", "b"]}), folder / "a.parquet")
    monkeypatch.setattr("pipeline.corpus.remote.server_stream.WAIT_SECONDS", 0.0)
    paths = [f"sources.web.paths=['{url}/a.parquet']", "sources.web.kind=parquet"]
    with pytest.raises(DataError, match=r"as a whole only, .*Download the file, and name the copy"):
        prepare_here(run_file, *paths)


def test_a_url_is_a_location_which_no_fingerprint_holds(run_file: Path) -> None:
    table = {stage.name: stage for stage in STAGES}
    own = run_file.parent / "web.jsonl"
    own.write_text('{"text": "own"}\n')
    forms = [f"['{own}']", f"['file://{own}', '{own}']", f"['{own}', 'nowhere://a/b']"]
    inputs = [
        set(expected_inputs(table["prepare"], load(run_file, [f"sources.web.paths={form}"]), table))
        for form in forms
    ]
    assert inputs[0] == inputs[1] == inputs[2]
    assert "sources.web.paths" not in inputs[0]


def test_a_scheme_is_found_in_any_case_and_its_host_goes_to_the_file_system() -> None:
    assert parse_url("S3://Bucket/X") == Url("s3://Bucket/X")
    error = explained(Url("https://h.org/x"), ValueError("no range requests"))
    assert "Download the file" in str(error)
