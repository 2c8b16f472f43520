"""How two records of settings differ, in words."""

from pipeline.store.manifests.recorded_settings import PROBLEM, differences


def test_a_section_that_came_or_went_is_named_instead_of_a_fingerprint() -> None:
    with_select = {"output of select": "a37aa9", "output of prepare": "b2"}
    without = {"output of prepare": "b2"}
    assert differences(with_select, without) == ["the section select was removed from the run file"]
    assert differences(without, with_select) == ["the section select was added to the run file"]
    # A stage that made something else, and one that has not finished, are no such thing.
    other = {**with_select, "output of select": None}
    assert differences(with_select, other) == ['output of select: "a37aa9" -> null']


def test_an_error_is_told_whole() -> None:
    text = "sources.c4.layout = slimpajama: /data/c4 has layout redpajama-v1 (arxiv/, c4/)."
    assert differences({"files of c4": "83fe7c"}, {"files of c4": f"{PROBLEM}{text}"}) == [
        f"files of c4: {text}"
    ]
