import time
from pathlib import Path

import pytest
from conftest import write_run_file
from fake_run import write_fake_run
from html_outline import Outline

from pipeline.config.run_file import load
from pipeline.errors import DataError
from pipeline.reporting.report import report
from pipeline.store.events import LAUNCH, write_event

SECTIONS = (
    "Learning",
    "Few-shot scores",
    "Held-out text, source by source",
    "Data",
    "Tokenizer",
    "Continuation of a prompt",
    "Stages",
    "Settings",
    "Environment",
)


def page_of(run_file: Path, *overrides: str, steps: int = 195) -> str:
    config = load(run_file, overrides)
    write_fake_run(config, steps)
    assert set(report(config).files) == {"report.html"}
    return (config.paths.run_dir / "report.html").read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of a run in which nothing is unusual."""
    return page_of(write_run_file(tmp_path_factory.mktemp("reported")))


def test_page_is_whole_and_has_every_section(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert outline.headings == list(SECTIONS)
    # loss, rate, throughput, gradient norm, two of few-shot bars, validation per source,
    # composition
    assert outline.pictures == 8


def test_where_the_time_went_is_shown_where_events_tell_it(run_file: Path) -> None:
    config = load(run_file)
    write_fake_run(config)
    write_event(config.paths.run_dir, LAUNCH, ranks=2, command_began=time.time() - 500)
    report(config)
    headings = Outline((config.paths.run_dir / "report.html").read_text()).headings
    assert headings == [*SECTIONS[:6], "Where the time went", *SECTIONS[6:]]


def test_utilisation_is_shown_where_it_is_known(run_file: Path) -> None:
    config = load(run_file)
    write_fake_run(config, mfu=0.456)
    report(config)
    page = (config.paths.run_dir / "report.html").read_text()
    assert Outline(page).pictures == 9
    assert "median 45.6%" in page


def test_bits_per_byte_of_documents_and_of_validation_stand_apart(page: str) -> None:
    row = "".join(
        f'<td class="figure">{value}</td>' for value in ("2.000", "50.0 kB", "2.500", "4.000")
    )
    assert row in page


def test_the_size_of_a_source_counts_its_held_out_documents(page: str) -> None:
    # 100,000 bytes of text in 28,800 + 1,200 tokens: 3.33 bytes a token.
    row = "".join(
        f'<td class="figure">{value}</td>'
        for value in ("96", "4", "100.0 kB", "28,800", "1,200", "3.33", "2")
    )
    assert row in page


def test_the_page_says_what_the_run_read(page: str) -> None:
    row = "".join(
        f'<td class="figure">{value}</td>'
        for value in ("50.0%", "4,321", "1.25", "\u2014", "1.23%")
    )
    assert page.count(row) == 1, "one source"
    assert "Packing: concatenate." in page


def test_page_asks_no_network_and_runs_no_script(page: str) -> None:
    assert "http" not in page
    assert "<script" not in page
    assert "@import" not in page and "url(" not in page.replace("url(#", "")
    assert "&lt;script&gt;list&lt;/script&gt; &amp; more" in page
    assert "&lt;b&gt;run.yaml&lt;/b&gt;" in page


def test_same_run_gives_the_same_bytes(run_file: Path) -> None:
    assert page_of(run_file) == page_of(run_file)


@pytest.mark.parametrize("count", [1, 20])
def test_one_step_and_any_number_of_sources(run_file: Path, count: int) -> None:
    names = [f"source_{number}" for number in range(count - 1)]
    text = page_of(
        run_file,
        *(f"sources.{name}={{kind: jsonl, paths: [web.jsonl]}}" for name in names),
        steps=1,
    )
    assert Outline(text).headings == list(SECTIONS)
    assert all(name in text for name in names)


def test_without_few_shot_tasks(run_file: Path) -> None:
    text = page_of(run_file, "evaluation.shots=[]")
    assert "No few-shot task was asked for" in text


def test_empty_or_broken_metrics_are_named(run_file: Path) -> None:
    config = load(run_file)
    write_fake_run(config)
    metrics = config.paths.run_dir / "metrics.jsonl"
    metrics.write_text('{"step": 1, "tokens": 1}\n{"step"\n')
    with pytest.raises(DataError, match=r"metrics.jsonl, line 2: not valid JSON"):
        report(config)
    metrics.unlink()
    with pytest.raises(DataError, match=r"holds no training step\. Run `pipeline train` first"):
        report(config)


def test_the_tokenizer_is_measured_on_the_held_out_documents(run_file: Path) -> None:
    text = page_of(run_file, "model.config.tie_word_embeddings=false")
    # "ab| ab| |<|b|>|C3|A9|<|/|b|>": 12 tokens of 15 bytes, 14 characters, 3 words; 2 of them part
    # of é, 10 single bytes
    assert (
        '<td class="figure">1.25</td><td class="figure">1.17</td><td class="figure">4.00</td>'
        in text
    )
    assert '<td class="figure">16.67%</td><td class="figure">83.33%</td>' in text
    # 384 rows x width 16 x 2 matrices, of 3,443,136 parameters
    assert '<td class="figure">12,288</td><td class="figure">0.4%</td>' in text
    assert "All other parameters: 3,430,848." in text


def test_a_cleared_data_dir_leaves_the_rest_of_the_page(run_file: Path) -> None:
    config = load(run_file)
    write_fake_run(config)
    (config.paths.data_dir / "tokenizer" / "tokenizer.json").unlink()
    report(config)
    text = (config.paths.run_dir / "report.html").read_text()
    assert Outline(text).headings == list(SECTIONS)
    assert "Not measured: " in text and "tokenizer.json" in text


def test_no_text_acts_on_the_page(run_file: Path) -> None:
    """Neither markup nor direction marks nor formulas, in the text of the page as in that of its
    pictures."""
    config = load(run_file)
    write_fake_run(config)
    for folder, old, new in (
        ("export", "a <script>list", "\\u202e\\u001b <script>list"),
        ("evaluation", "pattern_copy", "$\\\\nonsense$ \\u202e<b>"),
    ):
        path = config.paths.run_dir / folder / "manifest.json"
        path.write_text(path.read_text().replace(old, new))
    report(config)
    page = (config.paths.run_dir / "report.html").read_text()
    assert not {"\u202e", "\x1b"} & set(page)
    assert "&lt;U+202E&gt;&lt;1B&gt; &lt;script&gt;list" in page
    # in the table a row for each of two metrics and three k, and two pictures
    assert page.count("$\\nonsense$ &lt;U+202E&gt;&lt;b&gt;") == 8
    assert Outline(page).open == []
