"""Layouts of published corpora: recognised from the root, named in the run file, refused."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from corpus.test_sources import fill, names

from pipeline.config.run_config import RunConfig
from pipeline.config.run_file import load
from pipeline.corpus.source_kind import describe_sources, source_kind
from pipeline.corpus.trees.find_trees import as_published, trees_of
from pipeline.errors import ConfigError, DataError
from pipeline.store.manifests.recorded_settings import differences

V2 = (
    "documents/2022-49/0003/en_head.json.gz",
    "documents/2023-06/0000/de_tail.json.gz",
    "documents/2023-06/0000/en_head.json.gz",
    "documents/2023-06/0000/en_middle.json.gz",
)
SIDE = (
    "quality_signals/2023-06/0000/en_head.signals.json.gz",
    "minhash/2023-06/0000/en_head.minhash.parquet",
)
V1 = ("arxiv/a.jsonl", "c4/c4-train.0.jsonl", "wikipedia/wiki.jsonl")
SLIM = (
    "train/chunk1/example_train_0.jsonl.zst",
    "validation/chunk1/example_holdout_0.jsonl.zst",
    "test/chunk1/example_holdout_0.jsonl.zst",
    "README.json",
)
DOLMA = ("documents/a/0.jsonl.gz", "attributes/toxicity/a/0.jsonl.gz")


def config_of(run_file: Path, *paths: Path, **settings: str) -> RunConfig:
    listed = ", ".join(f"'{path}'" for path in paths)
    more = "".join(f", {name}: {value}" for name, value in settings.items())
    return load(run_file, [f"sources.s={{kind: jsonl, paths: [{listed}]{more}}}"])


def taken(run_file: Path, *paths: Path, **settings: str) -> tuple[list[str], list[str]]:
    """Return the names of the files that are trained on, and of those held out."""
    config = config_of(run_file, *paths, **settings)
    files = source_kind(config.sources["s"]).find_files(config, "s")
    return names(files.files), names(files.validation_files)


def below(root: str, *files: str) -> list[str]:
    return sorted(f"{root}/{name}" for name in files)


@pytest.mark.parametrize(
    ("files", "layout", "train", "validation"),
    [
        (V1, "redpajama-v1", V1, ()),
        ((*V2, *SIDE), "redpajama-v2", V2, ()),
        (V2, "redpajama-v2", V2, ()),
        (SLIM, "slimpajama", SLIM[:1], SLIM[1:2]),
        (SLIM[:1], "slimpajama", SLIM[:1], ()),
        (DOLMA, "dolma", DOLMA[:1], ()),
        (("documents/a.jsonl", "b.jsonl"), None, ("documents/a.jsonl", "b.jsonl"), ()),
        (("github/a.jsonl", "test/b.jsonl"), None, ("github/a.jsonl", "test/b.jsonl"), ()),
    ],
)
def test_a_root_is_recognised_and_gives_the_files_of_its_documents(
    tmp_path: Path,
    run_file: Path,
    files: Sequence[str],
    layout: str | None,
    train: Sequence[str],
    validation: Sequence[str],
) -> None:
    root = fill(tmp_path / "c", *files)
    found = [tree.layout.name for tree in trees_of(config_of(run_file, root), "s")]
    assert found == ([layout] if layout else [])
    held_out = [f"validation_paths/{name}" for name in below("c", *validation)]
    assert taken(run_file, root) == (below("c", *train), held_out)
    if layout:
        assert taken(run_file, root, layout=layout) == (below("c", *train), held_out)
    if layout in (None, "redpajama-v1"):
        assert taken(run_file, root, layout="plain") == (below("c", *train), held_out)


def test_a_dolma_tree_that_nothing_has_tagged_is_read_where_it_is_named_one(
    tmp_path: Path, run_file: Path
) -> None:
    root = fill(tmp_path / "c", "documents/a.jsonl.gz", "notes.json")
    assert taken(run_file, root, layout="dolma")[0] == ["c/documents/a.jsonl.gz"]


def test_parts_of_a_tree_are_chosen_by_name_and_the_others_counted(
    tmp_path: Path, run_file: Path
) -> None:
    root = fill(tmp_path / "c", *V2, *SIDE, "documents/2023-06/0000/urls.json")
    assert taken(run_file, root, partitions="[head]")[0] == below("c", V2[0], V2[2])
    assert taken(run_file, root, languages="[de]")[0] == below("c", V2[1])
    assert taken(run_file, root, snapshots="[2023-06]", languages="[en]")[0] == below("c", *V2[2:])
    config = config_of(run_file, root, partitions="[head, middle]", languages="[en]")
    files = source_kind(config.sources["s"]).find_files(config, "s")
    assert sorted(str(entry.left_out) for entry in files.left_out) == ["language de", "other names"]
    assert files.notes == [
        f"{root} has layout redpajama-v2: 3 files of documents/, snapshots 2022-49, 2023-06, "
        "languages en, partitions head, middle; described by quality_signals/, minhash/"
    ]


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("languages", "[en, fr]", "has no fr, which languages names; it has de, en. Name some"),
        (
            "snapshots",
            "[2014-15]",
            "has no 2014-15, which snapshots names; it has 2022-49, 2023-06",
        ),
        ("partitions", "[tail]", "has no tail, which partitions names; it has head. Name some"),
    ],
)
def test_a_part_that_the_tree_does_not_have_is_refused_with_those_it_has(
    tmp_path: Path, run_file: Path, setting: str, value: str, words: str
) -> None:
    files = V2 if setting != "partitions" else V2[:1]
    root = fill(tmp_path / "c", *files)
    with pytest.raises(DataError) as refused:
        taken(run_file, root, **{setting: value})
    assert str(refused.value).startswith(f"sources.s.paths: {root} {words}")


@pytest.mark.parametrize(
    ("files", "layout", "words"),
    [
        (
            V1,
            "redpajama-v2",
            "has layout redpajama-v1 (arxiv/, c4/, wikipedia/). Set layout to that",
        ),
        (
            V2,
            "slimpajama",
            "has layout redpajama-v2 (documents/2022-49/). Set layout to that, or to",
        ),
        ((*V2, *SIDE), "dolma", "has layout redpajama-v2 (documents/, quality_signals/, minhash/)"),
        (DOLMA, "redpajama-v1", "has layout dolma (documents/, attributes/). Set layout to that"),
        (SLIM, "dolma", "has layout slimpajama (train/chunk1/). Set layout to that, or to auto"),
        (("a.jsonl",), "dolma", "is not the root of such a tree, which has documents/ with attrib"),
    ],
)
def test_a_layout_that_the_tree_does_not_have_is_refused_with_the_one_found(
    tmp_path: Path, run_file: Path, files: Sequence[str], layout: str, words: str
) -> None:
    root = fill(tmp_path / "c", *files)
    with pytest.raises(DataError) as refused:
        taken(run_file, root, layout=layout)
    assert str(refused.value).startswith(f"sources.s.layout = {layout}: {root} {words}")


def test_a_folder_inside_of_a_tree_is_refused_with_the_root(tmp_path: Path, run_file: Path) -> None:
    root = fill(tmp_path / "c", *V2, *SIDE)
    with pytest.raises(DataError, match=rf"c/documents is a folder of .* root in paths: {root}\."):
        taken(run_file, root / "documents", layout="redpajama-v2")
    with pytest.raises(DataError, match=r"c/\*/\*\* is not the root of such a tree, which has doc"):
        taken(run_file, root / "*" / "**", layout="redpajama-v2")
    # Without the setting, a folder of documents is read as it is, as ever.
    assert len(taken(run_file, root / "documents")[0]) == 4


def test_two_layouts_in_one_root_are_refused_until_one_is_named(
    tmp_path: Path, run_file: Path
) -> None:
    root = fill(tmp_path / "c", *DOLMA, *SLIM)
    with pytest.raises(DataError) as refused:
        taken(run_file, root)
    assert str(refused.value) == (
        f"sources.s.layout = auto: {root} has the folders of 2 layouts, slimpajama (train/chunk1/) "
        "and dolma (documents/, attributes/). Set sources.s.layout to the one that it is to be read "
        "in, or to plain, or name one of its folders."
    )
    assert taken(run_file, root, layout="dolma")[0] == below("c", DOLMA[0])


def test_a_tree_that_was_moved_away_is_missing_and_no_other_layout(
    tmp_path: Path, run_file: Path
) -> None:
    for layout in ("redpajama-v2", "auto"):
        gone = config_of(run_file, tmp_path / "gone", layout=layout, languages="[en]")
        assert trees_of(gone, "s") == []
        with pytest.raises(DataError, match=r"sources\.s\.paths: .*gone does not exist\. Correct"):
            source_kind(gone.sources["s"]).find_files(gone, "s")
        # What was made of it stays: nothing is known of its files.
        assert describe_sources(gone)["files of s"] is None


def test_a_tree_of_which_nothing_is_taken_is_refused_with_what_is_there(
    tmp_path: Path, run_file: Path
) -> None:
    root = fill(tmp_path / "c", "documents/mine.jsonl", "documents/b.jsonl.gz", "minhash/x.parquet")
    with pytest.raises(DataError) as refused:
        taken(run_file, root)
    assert str(refused.value).startswith(
        f"sources.s.paths: {root} has layout redpajama-v2, but no file of its documents is taken "
        "(2 other names there); they are named like documents/2023-06/0000/en_head.json.gz,"
    )
    both = fill(tmp_path / "d", *V2[1:3])
    with pytest.raises(DataError, match=r"is taken \(1 language de, 1 partition head there\)"):
        taken(run_file, both, languages="[en]", partitions="[tail]")


def test_a_plain_search_still_refuses_side_folders(tmp_path: Path, run_file: Path) -> None:
    root = fill(tmp_path / "c" / "tree", *V2, *SIDE)
    with pytest.raises(
        DataError, match=rf"hold none\. Name the root of the tree, {root}, in paths"
    ):
        taken(run_file, root.parent)
    with pytest.raises(DataError, match="hold none"):
        taken(run_file, root, layout="plain")


def test_trees_with_other_text_fields_are_no_one_source(tmp_path: Path, run_file: Path) -> None:
    two = fill(tmp_path / "two", *V2)
    one = fill(tmp_path / "one", *V1)
    with pytest.raises(DataError, match="have the text in raw_content and text, and a source has"):
        taken(run_file, two, one)
    config = config_of(run_file, two)
    assert as_published(config).sources["s"].text_field == "raw_content"
    named = config_of(run_file, two, text_field="title")
    assert as_published(named).sources["s"].text_field == "title"


def test_held_out_files_of_the_source_replace_those_of_the_layout(
    tmp_path: Path, run_file: Path
) -> None:
    root = fill(tmp_path / "c", *SLIM)
    held_out = fill(tmp_path / "h", "a.jsonl")
    files = taken(run_file, root, validation_paths=f"['{held_out}']")
    assert files == (below("c", SLIM[0]), ["validation_paths/h/a.jsonl"])
    assert as_published(config_of(run_file, root)).sources["s"].validation_fraction == 0
    both = config_of(run_file, root, validation_fraction="0.1")
    assert as_published(both).sources["s"].validation_fraction == 0.1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{kind: parquet, paths: [a], layout: dolma}", "kind parquet has no layouts; only jsonl"),
        ("{kind: jsonl, paths: [a], layout: dolma, languages: [en]}", "only layout redpajama-v2"),
        ("{kind: csv, paths: [a], partitions: [head]}", "only layout redpajama-v2 of kind jsonl"),
    ],
)
def test_settings_of_layouts_are_refused_where_nothing_can_have_them(
    run_file: Path, source: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load(run_file, [f"sources.s={source}"])


def test_a_choice_of_parts_is_refused_where_auto_finds_a_plain_folder(
    tmp_path: Path, run_file: Path
) -> None:
    root = fill(tmp_path / "c", "a.jsonl")
    with pytest.raises(DataError, match=r"sources\.s\.languages: layout plain has no such setting"):
        taken(run_file, root, languages="[en]")


@pytest.mark.parametrize(
    "wrong", ["layout: pile", "languages: [EN]", "snapshots: ['2023']", "partitions: [top]"]
)
def test_values_that_no_tree_can_have_are_refused(run_file: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.partition(":")[0]):
        load(run_file, [f"sources.s={{kind: jsonl, paths: [a], {wrong}}}"])


def test_choices_of_another_layout_name_the_layout_found(tmp_path: Path, run_file: Path) -> None:
    fill(tmp_path / "rp2", *V2, *SIDE)
    with pytest.raises(
        ConfigError, match=r"layout = dolma: \S+ has layout redpajama-v2 \(documents/"
    ):
        config_of(run_file, tmp_path / "rp2", layout="dolma", languages="[en]")


def test_trees_in_a_plain_folder_are_named_with_how_to_take_them(
    tmp_path: Path, run_file: Path
) -> None:
    fill(tmp_path / "all" / "slim", *SLIM[:2])
    fill(tmp_path / "all" / "more", "a.jsonl")
    config = config_of(run_file, tmp_path / "all")
    (note,) = source_kind(config.sources["s"]).find_files(config, "s").notes
    assert "is read as plain files, and trees lie in it: slim (slimpajama). " in note
    assert note.endswith(f"paths: [{tmp_path / 'all' / 'slim'}]")
    plain = config_of(run_file, tmp_path / "all", layout="plain")
    assert source_kind(plain.sources["s"]).find_files(plain, "s").notes == []
    moreover = config_of(run_file, tmp_path / "all" / "more")
    assert source_kind(moreover.sources["s"]).find_files(moreover, "s").notes == []


def test_an_error_of_some_paths_is_the_reason_of_a_stale_stage(
    tmp_path: Path, run_file: Path
) -> None:
    fill(tmp_path / "rp1", *V1)
    before = describe_sources(config_of(run_file, tmp_path / "rp1"))
    after = describe_sources(config_of(run_file, tmp_path / "rp1", layout="slimpajama"))
    (reason,) = differences(before, after)
    assert reason.startswith("files of s: sources.s.layout = slimpajama: ")
    assert "has layout redpajama-v1" in reason
