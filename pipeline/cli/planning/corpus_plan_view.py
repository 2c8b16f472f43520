"""What `pipeline plan` prints of a run file that describes no training."""

from collections.abc import Sequence
from dataclasses import asdict

from pipeline.cli.planning.plan_lines import (
    print_core_hours,
    print_data_sizes,
    print_figure,
    print_heading,
    print_rates,
)
from pipeline.cli.start_checks import refuse_mistakes, stages_described, undescribed_stages
from pipeline.config.run_config import RunConfig
from pipeline.corpus.source_kind import input_files
from pipeline.logs import console, counted_noun, human_bytes, print_json
from pipeline.planning.corpus_plan import CorpusPlan, plan_corpus
from pipeline.store.table.stage_row import Stage


def show_corpus_plan(
    stages: Sequence[Stage], config: RunConfig, hardware: str, undescribed: str, *, as_json: bool
) -> None:
    """Check a run file that describes no training, and print what its corpus costs.

    `undescribed`: the line about stages that it does not describe. Raises ConfigError where it
    describes a stage in part, and DataError for files that are missing.
    """
    described = stages_described(stages, config)
    asked = [stage for stage in described if stage.is_asked(config)]
    refuse_mistakes((check for stage in asked for check in stage.checks if check.is_ahead), config)
    plan = plan_corpus(config, input_files, hardware)
    if as_json:
        print_json(_as_json(plan) | {"not_described": undescribed_stages(stages, config)})
        return
    _print_corpus(plan)
    console.print(f"\n{undescribed}")


def _as_json(plan: CorpusPlan) -> dict[str, object]:
    raw = {
        name: {"files": source.files, "bytes": source.bytes}
        for name, source in plan.sources.items()
    }
    text = {
        name: {"text_bytes": source.text_bytes, "documents": source.documents}
        for name, source in plan.sources.items()
    }
    return {
        "raw_files": raw,
        "text": text,
        "without_files": list(plan.without_files),
        "finished": list(plan.finished),
        "data": asdict(plan.data),
        "disk_bytes_at_most": plan.data.data_bytes,
        "core_hours": plan.hours.of_stages(),
        "rates": {name: asdict(rate) for name, rate in plan.rates.items()},
    }


def _print_corpus(plan: CorpusPlan) -> None:
    is_prepared = "prepare" in plan.finished
    print_heading("raw files")
    for name, source in plan.sources.items():
        text = "ids that exist already"
        if source.text_bytes and is_prepared:
            text = f"{human_bytes(source.text_bytes)} of text in {source.documents:,.0f} documents"
        elif source.text_bytes:
            text = f"about {human_bytes(source.text_bytes)} of text"
        files = f"{counted_noun(source.files, 'file')}, {human_bytes(source.bytes)}"
        if not source.files:
            files = "raw files not found"
        print_figure(name, f"{files}: {text}")
    for name in plan.without_files:
        print_figure(name, "its files are written by `prepare`; not counted below")

    print_heading("disk")
    print_data_sizes(plan.data)
    if plan.data.tokens and "select" not in plan.finished and plan.data.selection_bytes:
        print_figure("", "tokens of all text: what `select` removes is not known before it has run")
    print_figure("at the end", human_bytes(plan.data.data_bytes))
    print_heading("time")
    print_core_hours(plan.hours)
    print_rates(plan.rates)
