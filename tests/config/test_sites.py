"""Sites: every shipped file, what is left to the user, and files of the user's own."""

import re
from pathlib import Path

import pytest

from pipeline.config.run_sections import seconds_of_slurm_time
from pipeline.config.shipped_files import SITES, shipped_files
from pipeline.config.sites import cpu_nodes_of, read_site, split_overrides
from pipeline.errors import ConfigError

GIVEN = ["account=me", "gpu_nodes.qos=mine"]
OWN = """\
description: a cluster of my own
hardware: h200
gpu_nodes: {partition: gpu, gpus: 8, cores: 96, longest_time: 1-00}
nodes_have_network: true
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize(
    ("name", "gpus", "cores", "hours", "hardware"),
    [
        ("juwels-booster", 4, 48, 24, "a100-40gb"),
        ("jupiter", 4, 288, 12, "gh200"),
        ("leonardo", 4, 32, 24, "a100-64gb"),
        ("lumi", 8, 56, 48, "mi250x"),
        ("marenostrum5", 4, 80, 72, "h100-64gb"),
    ],
)
def test_a_shipped_site_holds_what_was_published(
    name: str, gpus: int, cores: int, hours: int, hardware: str
) -> None:
    site = read_site(name, GIVEN)
    assert [site.ranks_per_node, site.gpu_nodes.cores] == [gpus, cores]
    assert round(site.gpu_nodes.longest_seconds / 3600) == hours
    assert site.hardware == hardware
    assert site.nodes_have_network is (name == "lumi")


def test_all_shipped_sites_are_tested_and_have_sources() -> None:
    assert list(shipped_files(SITES)) == [
        "jupiter",
        "juwels-booster",
        "leonardo",
        "lumi",
        "marenostrum5",
    ]
    section = re.compile(r"(gpu_nodes|cpu_nodes):$|description:|  [A-Z]")
    for path in shipped_files(SITES).values():
        lines = path.read_text().splitlines()
        for before, line in zip(["", *lines], lines, strict=False):
            if line.lstrip().startswith("#") or section.match(line):
                continue
            assert before.lstrip().startswith("#"), f"{path.name}: no source above {line}"


@pytest.mark.parametrize("name", shipped_files(SITES))
def test_the_account_is_left_to_the_user(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_site(name, ["gpu_nodes.qos=mine"])
    (problem,) = refused.value.problems
    assert problem.startswith("site.account: the site leaves it to you; add site.account=VALUE")
    assert f"copy {SITES / name}.yaml, fill it in there and name the copy with --site" in problem


def test_what_the_user_gives_is_taken() -> None:
    site = read_site("marenostrum5", ["account=me", "gpu_nodes.qos=acc_ehpc", "modules=[gcc]"])
    assert [site.account, site.gpu_nodes.qos, site.modules] == ["me", "acc_ehpc", ("gcc",)]
    with pytest.raises(ConfigError, match=r"site\.gpu_nodes\.qos: the site leaves it to you"):
        read_site("marenostrum5", ["account=me"])


def test_nodes_of_the_data_job_are_asked_for_where_it_is_needed() -> None:
    site = read_site("juwels-booster", GIVEN)
    with pytest.raises(ConfigError, match=r"add site\.cpu_nodes\.partition=NAME"):
        cpu_nodes_of(site, "juwels-booster")
    given = ["cpu_nodes.cores=48", "cpu_nodes.longest_time=10:00:00"]
    assert cpu_nodes_of(read_site("juwels-booster", [*GIVEN, *given]), "j").cores == 48
    assert cpu_nodes_of(read_site("leonardo", GIVEN), "leonardo").longest_seconds == 4 * 3600


def test_a_file_of_ones_own_needs_no_account(own: Path) -> None:
    site = read_site(str(own))
    assert [site.account, site.ranks_per_node] == [None, 8]
    assert site.gpu_nodes.longest_seconds == 24 * 3600


def test_hardware_of_ones_own_lies_beside_the_site(own: Path) -> None:
    hardware = own.with_name("mine.yaml")
    hardware.write_text((SITES.parent / "hardware" / "cpu.yaml").read_text())
    own.write_text(OWN.replace("h200", "mine.yaml").replace("gpus: 8", "gpus: 0"))
    site = read_site(str(own))
    assert site.hardware == str(hardware)
    assert site.ranks_per_node == site.devices.devices_per_node


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("partition=gpu", r"site\.partition: unknown key; did you mean"),
        ("gpu_nodes.gpus=-1", r"site\.gpu_nodes\.gpus = -1: input should be greater"),
        ("gpu_nodes.longest_time=soon", r"site\.gpu_nodes\.longest_time = 'soon': "),
        ("gpu_nodes.partition=a b", r"site\.gpu_nodes\.partition = 'a b': "),
        ("options=[-p gpu]", r"site\.options\.0 = '-p gpu': "),
        ("environment={A B: c}", r"site\.environment"),
    ],
)
def test_a_wrong_value_is_refused(own: Path, override: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_site(str(own), [override])


def test_an_unknown_site_is_refused_with_all_names() -> None:
    with pytest.raises(ConfigError, match=r"--site = mare: no such site; there are jupiter, juwel"):
        read_site("mare")


def test_folders_that_all_nodes_see(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_site(str(own)).sees(Path("/home/me")) is None
    monkeypatch.setenv("SHARED", "/shared")
    site = read_site(str(own), ["shared_folders=[$SHARED/me]"])
    assert site.sees(Path("/shared/me/run")) is True
    assert site.sees(Path("/shared/men")) is False


def test_overrides_of_the_site_are_told_apart() -> None:
    both = ["train.seed=1", "site.account=me", "site.gpu_nodes.gpus=2"]
    assert split_overrides(both) == (["train.seed=1"], ["account=me", "gpu_nodes.gpus=2"])


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30", 1800),
        ("1:30", 90),
        ("2:00:00", 7200),
        ("1-12", 129_600),
        ("1-00:30", 88_200),
        ("1-00:00:05", 86_405),
    ],
)
def test_times_are_read_as_slurm_writes_them(written: str, seconds: int) -> None:
    assert seconds_of_slurm_time(written) == seconds


def test_what_is_left_to_the_user_must_be_a_field(own: Path) -> None:
    own.write_text(
        own.read_text() + "left_to_user: [nope.field, cpu_nodes.cpus, environment.KEY]\n"
    )
    with pytest.raises(ConfigError) as refused:
        read_site(str(own))
    assert refused.value.problems[:2] == [
        f"{own}: left_to_user: {name}: a site has no such field; remove or correct it"
        for name in ("nope.field", "cpu_nodes.cpus")
    ]
    assert refused.value.problems[2].startswith("site.environment.KEY: the site leaves it to you;")
