"""The run file: every rule and its message, layers and overrides, paths, what is written back."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pipeline.config.curation.rules import parse_comparison
from pipeline.config.field_descriptions import docstrings_of_fields
from pipeline.config.groups import group_sizes
from pipeline.config.kinds import SCHEDULES
from pipeline.config.run_config import RUN_SECTIONS, RunConfig
from pipeline.config.run_file import dump, load
from pipeline.config.shipped_files import PRESETS
from pipeline.config.values import Section
from pipeline.errors import ConfigError

JOBS = Path(__file__).parents[2] / "jobs"
FALLING = [
    name
    for name in SCHEDULES.paths
    if "final_learning_rate_fraction" in SCHEDULES[name].optional_fields
]
"""Kinds of schedule that take a final fraction."""


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(path, overrides)
    return error.value.problems


def test_derived_values_are_arithmetic(run_file: Path) -> None:
    config = load(run_file)
    assert config.global_batch_sequences == 4  # 32 tokens / 8 per sequence
    assert config.total_steps == 10  # 320 / 32
    assert [config.accumulation(group_sizes(ranks)) for ranks in (1, 2)] == [
        2,
        1,
    ]  # 4 = ranks x 2 x accumulation
    assert load(run_file, ["train.train_tokens=321"]).total_steps == 11


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sources.web.slice=code", "sources.web: kind jsonl takes `paths: [...]` and no slice"),
        ("sources.web.paths=[]", "sources.web: kind jsonl takes `paths: [...]` and no slice"),
        (
            "sources.web={kind: local-machine}",
            "sources.web: kind local-machine takes `slice: code | readmes | reference` and no "
            "paths",
        ),
        (
            "tokenizer.kind=pretrained",
            "tokenizer: kind pretrained takes `path` (an existing tokenizer: `pipeline config "
            "--describe tokenizer.path`) and no vocab_size",
        ),
        (
            "tokenizer.vocab_size=null",
            "tokenizer: kind byte-level-bpe takes `vocab_size` and no path",
        ),
        (
            "tokenizer.split_pattern=spaces",
            "tokenizer.split_pattern = spaces: kind byte-level-bpe takes single-digits or gpt2 or "
            "cl100k",
        ),
        (
            "tokenizer={kind: sentencepiece-bpe, vocab_size: 300, split_pattern: cl100k}",
            "tokenizer.split_pattern = cl100k: kind sentencepiece-bpe takes single-digits or "
            "spaces",
        ),
        (
            "tokenizer.path=somewhere",
            "tokenizer: kind byte-level-bpe takes `vocab_size` and no path",
        ),
        (
            "batch.global_batch_tokens=30",
            "batch.global_batch_tokens = 30: must be a multiple of data.sequence_length = 8; set "
            "24 or 32",
        ),
        (
            "batch.global_batch_tokens=5",
            "batch.global_batch_tokens = 5: must be a multiple of data.sequence_length = 8; set 8 "
            "or 16",
        ),
        (
            "batch.ramp=[{until_tokens: 64, global_batch_tokens: 20}]",
            "batch.ramp.0.global_batch_tokens = 20: must be a multiple of data.sequence_length = "
            "8; set 16 or 32",
        ),
        (
            "batch.ramp=[{until_tokens: 64, global_batch_tokens: 24}]",
            "batch.ramp.0.global_batch_tokens = 24: its 3 sequences must be a multiple of "
            "batch.micro_batch_sequences = 2; set 16 or 32",
        ),
        (
            "batch.ramp=[{until_tokens: 64, global_batch_tokens: 16}, {until_tokens: 64, "
            "global_batch_tokens: 16}]",
            "batch.ramp: until_tokens must rise from entry to entry, not [64, 64]",
        ),
        (
            "data.length_ramp=[{until_tokens: 64, sequence_length: 3}]",
            "data.length_ramp.0.sequence_length = 3: must divide data.sequence_length = 8; set 2 "
            "or 4",
        ),
        (
            "data.length_ramp=[{until_tokens: 64, sequence_length: 16}]",
            "data.length_ramp.0.sequence_length = 16: must divide data.sequence_length = 8; set 8",
        ),
        (
            "data.length_ramp=[{until_tokens: 64, sequence_length: 4}, {until_tokens: 8, "
            "sequence_length: 2}]",
            "data.length_ramp: until_tokens must rise from entry to entry, not [64, 8]",
        ),
        (
            "batch.ramp=[{until_tokens: 64, global_batch_token: 16, global_batch_tokens: 16}]",
            "batch.ramp.0.global_batch_token: unknown key; did you mean global_batch_tokens?",
        ),
        (
            "schedule.kind=wsd",
            "schedule.decay_tokens = None: must be set if schedule.kind is wsd, and only then",
        ),
        (
            "schedule.decay_tokens=8",
            "schedule.decay_tokens = 8: must be set if schedule.kind is wsd, and only then",
        ),
        (
            "schedule.decay_shape=linear",
            "schedule.decay_shape = linear: kind linear does not use it, only wsd; leave it out",
        ),
        (
            "schedule={kind: constant, warmup_tokens: 32, final_learning_rate_fraction: 0.1}",
            "schedule.final_learning_rate_fraction = 0.1: kind constant does not use it, only "
            f"{', '.join(FALLING)}; leave it out",
        ),
        (
            "schedule={kind: inverse-square-root, warmup_tokens: 0}",
            "schedule.warmup_tokens = 0: must be above 0 for inverse-square-root, whose peak is "
            "at the end of the warm-up",
        ),
        (
            "optimizer.learning_rate_scaling={rule: sqrt, reference_batch_tokens: 8}",
            "optimizer.learning_rate_scaling.rule = 'sqrt': input should be 'linear' or "
            "'square-root'",
        ),
        (
            "model.pretrained=somewhere",
            "model: takes either `architecture`, with its sizes in `config`, or `pretrained`; keep "
            "one",
        ),
        (
            "model.architecture=null",
            "model: takes either `architecture`, with its sizes in `config`, or `pretrained`; keep "
            "one",
        ),
        (
            "schedule.warmup_tokens=321",
            "schedule.warmup_tokens = 321: warm-up and decay together must not be longer than "
            "train.train_tokens = 320",
        ),
        ("data.mixture={web: 1, books: 1}", "data.mixture.books: no such source; sources are web"),
        ("data.mixture={web: 0}", "data.mixture: at least one weight must be above 0"),
        (
            "optimizer.peak_learning_rate=null",
            "optimizer.peak_learning_rate = None: input should be a valid number",
        ),
        (
            "data.sequence_length=1",
            "data.sequence_length = 1: input should be greater than or equal to 2",
        ),
        (
            "tokens.threads=2",
            "tokens.threads: unknown key; known keys are encoder, parse_special_tokens",
        ),
        (
            "optimizer.peak_lerning_rate=1",
            "optimizer.peak_lerning_rate: unknown key; did you mean peak_learning_rate?",
        ),
        (
            "evaluation.items=9",
            "evaluation.items: unknown key; evaluation.limit has taken its place",
        ),
        ("sources.web.path=x", "sources.web.path: unknown key; did you mean paths?"),
        ("optimiser.beta1=0.8", "optimiser: unknown key; did you mean optimizer?"),
    ],
)
def test_each_broken_rule_has_its_message(run_file: Path, override: str, message: str) -> None:
    assert problems(run_file, override) == [message]


def test_a_required_score_may_be_in_the_suite(run_file: Path) -> None:
    required = "evaluation.require_cloze_standard_errors=3"
    load(run_file, [required, "evaluation.tasks=[]", "evaluation.suite=small"])
    for other in ("evaluation.suite=olmes", "evaluation.shots=[5]"):
        (problem,) = problems(
            run_file, required, "evaluation.tasks=[]", "evaluation.suite=small", other
        )
        assert "needs heldout_cloze" in problem


def test_rules_with_long_messages(run_file: Path) -> None:
    assert problems(run_file, "batch.micro_batch_sequences=3") == [
        "batch.micro_batch_sequences = 3: must divide the 4 sequences of a global batch "
        + "(batch.global_batch_tokens / data.sequence_length); set 2 or 4, or batch.global_batch_tokens to 24 or 48"
    ]
    assert problems(run_file, "evaluation={require_cloze_standard_errors: 3, shots: [1]}") == [
        "evaluation.require_cloze_standard_errors: needs heldout_cloze in evaluation.tasks or in "
        + "the suite, and 0 in evaluation.shots"
    ]


def test_a_setting_in_place_of_the_run_file_is_named() -> None:
    for setting in ("launch.kind=slurm", f"sources.a.paths=[{'x' * 300}]"):
        with pytest.raises(ConfigError) as refused:
            load(Path(setting))
        assert refused.value.problems == [
            f"{setting}: is a setting, and stands in the place of the run file; name the run file "
            "before it, as in `pipeline COMMAND run.yaml section.field=value`"
        ]


def test_a_required_field_that_is_missing(run_file: Path) -> None:
    document = yaml.safe_load(run_file.read_text())
    del document["data"]
    run_file.write_text(yaml.safe_dump(document))
    hint = (
        "`pipeline config --example` prints a run file with it, `pipeline config --describe data`"
    )
    assert problems(run_file) == [f"data: is required and not set; {hint} explains it"]


def test_all_problems_come_at_once(run_file: Path) -> None:
    found = problems(
        run_file, "train.sed=1", "batch.micro_batch_sequences=3", "data.mixture={web: 1, books: 1}"
    )
    assert [problem.split(":")[0].split(" ")[0] for problem in found] == [
        "train.sed",
        "batch.micro_batch_sequences",
        "data.mixture.books",
    ]
    with pytest.raises(ConfigError, match=r"^2 problems in .*run\.yaml:\n  - .*\n  - "):
        load(run_file, ["train.sed=1", "train.stats=2"])


def test_wsd_counts_warmup_and_decay_together(run_file: Path) -> None:
    wsd = ("schedule.kind=wsd", "schedule.decay_tokens=288")
    assert load(run_file, wsd).schedule.decay_tokens == 288  # 32 + 288 = 320
    assert len(problems(run_file, "schedule.kind=wsd", "schedule.decay_tokens=289")) == 1


def test_ramps_decide_steps_and_samples(run_file: Path) -> None:
    """Of 320 tokens: 0, 16, 32, 48 | 64, 96, ... 288 and no further: 4 + 8 steps, 64 + 256
    tokens."""
    ramps = [
        "batch.ramp=[{until_tokens: 64, global_batch_tokens: 16}]",
        "data.length_ramp=[{until_tokens: 32, sequence_length: 4}]",
    ]
    config = load(run_file, ramps)
    assert (config.total_steps, config.total_samples) == (12, 40)
    assert [config.step_plan.sequence_length(step) for step in (1, 2, 3)] == [4, 4, 8]
    run_file.write_text(dump(config))
    assert load(run_file) == config


def test_the_order_of_precedence(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """default < preset < recipe < run file < command line."""
    folder = run_file.parent
    monkeypatch.setattr("pipeline.config.run_file.PRESETS", folder)
    (folder / "recipe.yaml").write_text(
        "sample_bytes: 10002\nend_of_document: R\nvocab_size: 999\n"
    )
    text = run_file.read_text().replace(
        "tokenizer: {", "tokenizer: {recipe: recipe.yaml, end_of_document: F, "
    )
    run_file.write_text("preset: small\n" + text.replace("rate: 6e-4", "rate: 6e-4, beta2: 0.2"))
    (folder / "small.yaml").write_text(
        "optimizer: {beta1: 0.1, beta2: 0.1}\ntokenizer: {sample_bytes: 10001, split_pattern: "
        "gpt2}\n"
    )
    config = load(run_file, ["optimizer.epsilon=0.5"])
    assert (config.optimizer.beta1, config.optimizer.beta2, config.optimizer.epsilon) == (
        0.1,
        0.2,
        0.5,
    )
    assert config.optimizer.weight_decay == 0.1  # its default
    assert config.tokenizer.split_pattern == "gpt2"  # only in the preset
    assert config.tokenizer.sample_bytes == 10002  # the recipe over the preset
    assert config.tokenizer.vocab_size == 270  # the run file over the recipe
    assert config.tokenizer.end_of_document == "F"
    assert load(run_file, ["tokenizer.end_of_document=C"]).tokenizer.end_of_document == "C"


def test_an_unknown_preset_and_a_missing_recipe(run_file: Path) -> None:
    assert problems(run_file, "preset=gtp")[0].startswith(
        "preset = 'gtp': no such preset; there are "
    )
    with pytest.raises(
        ConfigError, match=r"in .*nowhere\.yaml:\n  - cannot read the file: No such file"
    ):
        load(run_file, ["tokenizer.recipe=nowhere.yaml"])


def test_paths_start_at_the_run_file_and_at_the_current_folder(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    config = load(run_file, ["paths.run_dir=../mine", "sources.web.paths=[a.jsonl, /b/*.zst]"])
    assert config.paths.data_dir == tmp_path / "data"  # written in the run file
    assert config.deepspeed == tmp_path / "zero1.json"
    assert config.paths.run_dir == tmp_path / "mine"  # written on the command line
    assert config.sources["web"].paths == (here / "a.jsonl", Path("/b/*.zst"))
    monkeypatch.setenv("SCRATCH", "/scratch")
    assert load(run_file, ["paths.run_dir=$SCRATCH/x"]).paths.run_dir == Path("/scratch/x")
    assert load(Path("../run.yaml")) == load(run_file)


LOCATIONS = (
    "paths.run_dir={}",
    "sources.web.paths=[{}]",
    "tokenizer.recipe={}",
    "tokenizer.path={}",
    "tokenizer.compare=[{}]",
    "model.pretrained={}",
    "train.init_from={}",
    "evaluation.task_paths=[a, {}]",
    "launch.hostfile={}",
    "deepspeed={}",
)


@pytest.mark.parametrize(
    ("override", "location", "word"),
    [
        *((override, "$NOT_SET_HERE/x", "NOT_SET_HERE") for override in LOCATIONS),
        ("paths.data_dir={}", "a/${NOT_SET_HERE}x", "NOT_SET_HERE"),
        ("paths.data_dir={}", "$EMPTY/x", "EMPTY"),
        ("paths.data_dir={}", "~nobody_of_this_name/x", "nobody_of_this_name"),
        ("paths.data_dir={}", "a\\0b", "zero byte"),
    ],
)
def test_a_location_that_cannot_be_resolved_names_setting_and_reason(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, override: str, location: str, word: str
) -> None:
    monkeypatch.setenv("EMPTY", "")
    setting = override.partition("=")[0]
    with pytest.raises(ConfigError) as raised:
        load(run_file, [override.format(f'"{location}"')])
    assert any(
        line.startswith(f"  - {setting}") and word in line
        for line in str(raised.value).splitlines()
    )


def test_variables_are_replaced_and_a_name_with_a_dollar_sign_that_exists_is_taken(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path / "s$cratch"))
    monkeypatch.chdir(tmp_path)
    assert (
        load(run_file, ["paths.run_dir=${SCRATCH}/x"]).paths.run_dir == tmp_path / "s$cratch" / "x"
    )
    (tmp_path / "a$b" / "c").mkdir(parents=True)
    copy = tmp_path / "a$b" / "run.yaml"
    copy.write_text(run_file.read_text())
    config = load(copy, ["train.init_from=a$b/c/gone"])
    assert config.paths.data_dir == tmp_path / "a$b" / "data"
    copy.write_text(dump(config))
    assert load(copy) == config


def test_dump_and_load_give_the_same_config(run_file: Path, tmp_path: Path) -> None:
    config = load(
        run_file, ["schedule.kind=wsd", "schedule.decay_tokens=8", "data.mixture={web: 2}"]
    )
    copy = tmp_path / "other" / "copy.yaml"
    copy.parent.mkdir()
    copy.write_text(dump(config))
    assert load(copy) == config


def test_nothing_changes_a_loaded_config(run_file: Path) -> None:
    config = load(run_file)
    with pytest.raises(ValueError, match="frozen"):
        config.train.seed = 2


def sections(model: type[BaseModel] = Section) -> list[type[BaseModel]]:
    return [section for child in model.__subclasses__() for section in [child, *sections(child)]]


def test_every_field_says_what_it_is() -> None:
    undocumented = [
        f"{section.__name__}.{name}"
        for section in sections()
        for name in section.model_fields
        if not docstrings_of_fields(section).get(name)
    ]
    assert len(sections()) > 15
    assert undocumented == []


RUN_FILES = [path for path in sorted(JOBS.glob("*.yaml")) if not path.name.startswith("study-")]


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.name)
def test_every_shipped_run_file_loads(path: Path) -> None:
    if path.name.startswith("corpus-"):
        # A corpus needs no model.
        corpus = load(path, needs=())
        assert corpus.absent(RUN_SECTIONS) == [*RUN_SECTIONS]
        assert corpus.annotate is not None and corpus.select is not None
        compared = {parse_comparison(rule).column for rule in corpus.select.rules.values()}
        assert compared <= {*corpus.annotate.signal_columns}
        return
    config = load(path)
    assert config.deepspeed.is_file()
    assert config.total_steps > 0


def test_every_preset_is_a_part_of_a_run_file() -> None:
    unknown = {
        path.name: set(yaml.safe_load(path.read_text())) - set(RunConfig.model_fields)
        for path in PRESETS.glob("*.yaml")
    }
    assert not any(unknown.values()), unknown


@pytest.mark.parametrize(
    ("text", "count"),
    [("2B", 2_000_000_000), ("300M", 300_000_000), ("1.5T", 1_500_000_000_000), ("64k", 64_000), ("0.352k", 352),
     ("1_000 K", 1_000_000), ("2b", 2_000_000_000), ("640", 640)],
)  # fmt: skip
def test_tokens_are_written_as_people_say_them(run_file: Path, text: str, count: int) -> None:
    for overrides in (["train.train_tokens=" + text], [f"train.train_tokens='{text}'"]):
        assert load(run_file, overrides).train.train_tokens == count
    run_file.write_text(run_file.read_text() + "checkpoint: {}\n")
    ramp = load(
        run_file, [f"batch.ramp=[{{until_tokens: {text}, global_batch_tokens: 0.032k}}]"]
    ).batch.ramp
    assert (ramp[0].until_tokens, ramp[0].global_batch_tokens) == (count, 32)


@pytest.mark.parametrize(
    "text", ["2X", "1.5", "0.0001k", "-2B", "2 B B", "B", "2MB", "1e3k", "NaN", "2KiB"]
)
def test_what_is_no_number_of_tokens(run_file: Path, text: str) -> None:
    assert len(problems(run_file, f"train.train_tokens='{text}'")) == 1


@pytest.mark.parametrize(
    ("text", "count"), [("128MiB", 2**27), ("200MB", 200_000_000), ("1.5 kB", 1500), ("1kib", 1024)]
)
def test_bytes_are_written_with_their_unit(run_file: Path, text: str, count: int) -> None:
    assert load(run_file, [f"prepare.shard_text_bytes={text}"]).prepare.shard_text_bytes == count
    assert len(problems(run_file, "prepare.shard_text_bytes=2B")) == 1  # two bytes, or two billion


@pytest.mark.parametrize("name", ["no", "2024_10", "1e5"])
def test_a_source_whose_name_yaml_reads_as_something_else(
    run_file: Path, tmp_path: Path, name: str
) -> None:
    text = run_file.read_text()
    run_file.write_text(text.replace("  web:", f"  {name}:"))
    assert ["quotes" in problem for problem in problems(run_file)] == [True]
    run_file.write_text(text.replace("  web:", f'  "{name}":'))
    config = load(run_file)
    assert list(config.sources) == [name]
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load(tmp_path / "again.yaml") == config


@pytest.mark.parametrize("value", ["no", "2024", "1.5", "2024-10-01"])
def test_text_that_yaml_reads_as_something_else(run_file: Path, value: str) -> None:
    assert [
        "quotes" in problem for problem in problems(run_file, f"evaluation.prompt={value}")
    ] == [True]
    assert load(run_file, [f"evaluation.prompt='{value}'"]).evaluation.prompt == value


def test_many_problems_are_a_message_that_can_be_read(run_file: Path) -> None:
    text = run_file.read_text()
    run_file.write_text(text + "".join(f"kye{i}: 1\n" for i in range(1000)))
    with pytest.raises(ConfigError) as error:
        load(run_file)
    assert len(error.value.problems) == 1000
    assert len(str(error.value)) < 50_000
    run_file.write_text(text)
    names = ", ".join(f"n{i}: {{kind: text, paths: [x]}}" for i in range(500))
    weights = ", ".join(f"m{i}: 1" for i in range(500))
    with pytest.raises(ConfigError) as error:
        load(run_file, [f"sources={{{names}}}", f"data.mixture={{{weights}}}"])
    assert len(str(error.value)) < 50_000
    assert len(problems(run_file, f"train.seed=[{'x, ' * 500}]")[0]) < 1000


@pytest.mark.parametrize("name", ["../presets/gpt3-125m", "/etc/passwd", "a\\0b", "x" * 5000])
def test_a_preset_is_a_name_and_no_path(run_file: Path, name: str) -> None:
    for setting in ("preset", "data.mixture"):
        assert len(problems(run_file, f'{setting}="{name}"')[0]) < 2000
