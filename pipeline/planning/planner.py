"""The plan of a run file: checked, on hardware, calibrated by runs where there are any."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config.batch_division import batches_that_nodes_do_not_divide, dividing_ranks
from pipeline.config.hardware import Hardware, read_hardware
from pipeline.config.run_config import RunConfig
from pipeline.config.sites import Site
from pipeline.errors import ConfigError
from pipeline.logs import counted_noun, human_seconds
from pipeline.model.model_facts import ModelFacts, model_facts
from pipeline.planning.calibration import calibrated_rates
from pipeline.planning.comparable_runs import refuse_other_runs
from pipeline.planning.curation_size import with_annotation_rates
from pipeline.planning.data_stages import with_tokenizer_rates
from pipeline.planning.job_chain import JobTimes, lost_margin_seconds
from pipeline.planning.laws.loss_law import CHINCHILLA_REFIT, LossLaw
from pipeline.planning.measured_scaling import (
    hardware_with_rates,
    runs_and_studies,
    with_measured_scaling,
)
from pipeline.planning.model_cost import flops_per_token
from pipeline.planning.plan import Allocation, JobsPlan, Plan, make_plan
from pipeline.planning.rates import PlanRates, Rate, assumed_rates
from pipeline.planning.run_figures import RunFigures, run_figures
from pipeline.planning.run_setting import (
    overlaps_communication,
    planned_data,
    setting_on_devices,
)


def allocation_of(
    config: RunConfig, hardware_name: str, nodes: int | None, hours_per_job: float
) -> Allocation:
    """Return the devices of a plan: those of `launch.ranks`, or whole nodes.

    Without both, one node, or as many of its devices as divide the batch, as training chooses its
    ranks. Raises ConfigError for unknown hardware, where the device does not compute in the run's
    number format, where `nodes` and `launch.ranks` disagree, and where `nodes` do not divide the
    batch.
    """
    hardware = read_hardware(hardware_name)
    per_node = hardware.devices_per_node
    ranks = config.launch.ranks
    problems = _number_format_problems(config, hardware)
    if isinstance(ranks, int):
        filled = -(-ranks // per_node)
        if nodes not in (None, filled):
            problems.append(
                f"--nodes = {nodes} and launch.ranks = {ranks}: {ranks} ranks take "
                f"{counted_noun(filled, 'node')} of {per_node} devices; give --nodes {filled}, or "
                f"set launch.ranks to {nodes * per_node} or auto"
            )
        allocation = Allocation(hardware_name, hardware, filled, ranks, hours_per_job)
    elif nodes is None:
        devices = dividing_ranks(config, per_node)
        allocation = Allocation(
            hardware_name, hardware, 1, devices, hours_per_job, devices_left_out=per_node - devices
        )
    else:
        problems += batches_that_nodes_do_not_divide(config, nodes, per_node)
        allocation = Allocation(hardware_name, hardware, nodes, nodes * per_node, hours_per_job)
    if problems:
        raise ConfigError(problems)
    return allocation


def _number_format_problems(config: RunConfig, hardware: Hardware) -> list[str]:
    """Return a message where the device does not compute in the run's number format."""
    dtype = config.precision.dtype
    if hardware.peak_flops(dtype) is not None:
        return []
    return [
        f"precision.dtype = {dtype}: {hardware.description} does not compute in it; set "
        "another number format, or plan for other hardware"
    ]


def on_allocation(config: RunConfig, allocation: Allocation) -> RunConfig:
    """Return the run's settings with the allocation's devices as ranks, so that checks see them."""
    launch = config.launch.model_copy(update={"ranks": allocation.devices})
    return config.model_copy(update={"launch": launch})


def plan_run(
    config: RunConfig,
    allocation: Allocation,
    runs: Sequence[Path],
    law: LossLaw = CHINCHILLA_REFIT,
) -> Plan:
    """Return the plan of a run on an allocation; `runs` calibrate its rates.

    `runs`: folders of runs and of throughput studies, or their `throughput.json`.
    `law`: predicts the loss, in nats a token, with N all parameters.

    Raises ConfigError for a model that cannot be built, a batch that the devices do not divide, and
    runs that tell nothing about this one; DataError for a folder without such a run, and
    RequirementError for more than four times the devices of a throughput study.
    """
    facts = model_facts(config)
    hardware = allocation.hardware
    setting = setting_on_devices(config, facts, allocation.devices, on_gpu=not hardware.is_cpu)

    # The rates: assumed, and what runs tell.
    rates = assumed_rates(hardware, allocation.hardware_name, overlaps_communication(config))
    rates = with_tokenizer_rates(rates, config)
    rates = with_annotation_rates(rates, config)
    rates = with_all_attention(rates, hardware, facts, config.data.sequence_length)
    run_dirs, studies = runs_and_studies(runs)
    for study in studies:
        rates = with_measured_scaling(rates, study, hardware, allocation.devices)
    hardware = hardware_with_rates(hardware, rates)
    allocation = replace(allocation, hardware=hardware)
    figures = [run_figures(path) for path in run_dirs]
    noise_scale = None
    if figures:
        refuse_other_runs(
            figures,
            allocation.hardware_name,
            hardware,
            setting,
            facts.parameters,
        )
        rates = calibrated_rates(rates, figures, hardware)
        noise_scale = _noise_scale(figures)

    # The data: as large as they are, where they are there.
    data = planned_data(config, facts.shape.vocabulary, rates)
    return make_plan(
        config,
        facts,
        setting,
        allocation,
        rates,
        data=data,
        fit=law,
        noise_scale=noise_scale,
    )


def plan_on_site(
    config: RunConfig, site: Site, nodes: int, job_seconds: float, runs: Sequence[Path]
) -> Plan:
    """Return the plan of a run on some nodes of a site, in jobs of a time limit.

    `runs` calibrate it. Raises ConfigError as `plan_run`, and where the site's devices do not
    compute in the run's number format.
    """
    hardware = site.devices.model_copy(update={"devices_per_node": site.ranks_per_node})
    problems = _number_format_problems(config, hardware)
    if problems:
        raise ConfigError(problems)
    devices = nodes * site.ranks_per_node
    allocation = Allocation(site.hardware, hardware, nodes, devices, job_seconds / 3600)
    return plan_run(on_allocation(config, allocation), allocation, runs)


def training_jobs(plan: Plan, config: RunConfig, hours: float | None) -> JobsPlan:
    """Return the jobs of a training: as planned, or of the hours given, without start-ups.

    Raises ConfigError where no hours are given and the time of a step is not predicted.
    """
    time = plan.predicted_time
    if hours is None:
        if time is None:
            raise ConfigError(
                [
                    f"deepspeed = {config.deepspeed}: how long a step takes with states in host "
                    "memory is not predicted, so neither is the number of jobs; give the hours "
                    "(--hours) or a run that did so (--from RUN), or choose a template without "
                    "offloading"
                ]
            )
        return time.jobs

    # Without a planned step, only the signal of the batch script is known of a job's margin.
    if time is not None:
        job = time.jobs.job
    else:
        limit = plan.allocation.hours_per_job * 3600
        job = JobTimes(
            limit_seconds=limit,
            start_up_seconds=plan.rates.start_up_seconds.value,
            margin_seconds=lost_margin_seconds(limit, 0.0, 0.0, 0.0),
            save_seconds=0.0,
        )
    return JobsPlan(job, hours * 3600, plan.allocation.devices)


def job_length_problems(jobs: JobsPlan, start_up: Rate, setting: str) -> list[str]:
    """Return a message where a job is over before its first step.

    `setting`: what sets the time limit of a job, with its value.
    """
    if jobs.chain is not None:
        return []
    job = jobs.job
    return [
        f"{setting}: a job of {human_seconds(job.limit_seconds)} is over before its first step: "
        f"start-up {human_seconds(job.start_up_seconds)} ({start_up.kind}: {start_up.source}), "
        f"margin and save {human_seconds(job.margin_seconds)}; make it longer, or take the start-up "
        "of a run by --from RUN"
    ]


def jobs_of_plan(jobs: JobsPlan) -> int:
    """Return the number of jobs, none of which ends before its first step."""
    assert jobs.chain is not None
    return jobs.chain.jobs


def with_all_attention(
    rates: PlanRates, hardware: Hardware, facts: ModelFacts, sequence_length: int
) -> PlanRates:
    """Return the rates with the hardware's MFU converted to (6 N + 12 L d T) FLOPs a token."""
    all_attention = flops_per_token(facts, sequence_length)
    weights = 6.0 * facts.active_parameters
    counted = {
        "all": all_attention,
        "causal": (weights + all_attention) / 2,
        "none": weights,
    }[hardware.mfu_attention]
    rate = rates.mfu
    return rates.with_mfu(Rate(rate.value * all_attention / counted, rate.kind, rate.source))


def _noise_scale(figures: Sequence[RunFigures]) -> Rate | None:
    last = figures[-1]
    if last.noise_scale_tokens is None:
        return None
    return Rate(last.noise_scale_tokens, "measured", str(last.path))
