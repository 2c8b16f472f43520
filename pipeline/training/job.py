"""A training job as one rank sees it: set up, begin or resume, train, report how it ended."""

import logging
from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from pipeline.checkpoint.disk import disk_space_needed
from pipeline.checkpoint.reader import begin_random_state
from pipeline.checkpoint.saver import Saver
from pipeline.checkpoint.state import TrainState
from pipeline.config.groups import RankGroups
from pipeline.config.run_config import RunConfig
from pipeline.engine import extensions
from pipeline.engine.agreement import call_on_rank_0, problems_on_any_rank
from pipeline.engine.capacity import device_problems
from pipeline.engine.deepspeed_config import (
    DeepSpeedConfig,
    construction_sharding,
    fit_buckets,
    read_template,
    resolve_template,
    zero_stage,
)
from pipeline.engine.deepspeed_engine import Engine
from pipeline.engine.energy import device_energy_meter
from pipeline.engine.engine import make_engine
from pipeline.engine.groups import join_process_groups
from pipeline.engine.memory import checkpoint_bytes
from pipeline.engine.noise_scale import MicroBatchGradients
from pipeline.engine.operators import needed_operators
from pipeline.errors import ConfigError, UserError
from pipeline.model.construction import build_model
from pipeline.model.costs import counted_peak
from pipeline.model.device_batch import DeviceBatch, Mover, check_document_mask
from pipeline.model.experts import expert_modules
from pipeline.model.language_model import LanguageModel
from pipeline.model.sizes import ModelParameters, count_parameters, model_size, moment_bytes
from pipeline.sampling.loader import Loader, RankShare, TrainingData
from pipeline.sampling.skipped import skipped_samples
from pipeline.store.counts import ResultOfRun
from pipeline.store.events import write_event
from pipeline.store.files import write_json
from pipeline.store.heartbeat import NO_HEARTBEAT, Heartbeat, NoHeartbeat
from pipeline.store.layout import data_folder, run_folder
from pipeline.store.metrics import MetricsFile
from pipeline.store.outcome import NoCounts, Outcome
from pipeline.store.rank_environment import groups_of_this_process, is_first_on_its_machine
from pipeline.tokens.verify import BackgroundCheck
from pipeline.training.communication import is_communication_measured, measure_communication
from pipeline.training.job_inputs import JobInputs, open_inputs
from pipeline.training.job_report import count_finished_run, device_name, record_start
from pipeline.training.loop import RollbackNeeded, run_training_loop
from pipeline.training.new_run import begin_new_run, weights_to_begin_with
from pipeline.training.resumed_run import load_newest_intact
from pipeline.training.rollback import roll_back
from pipeline.training.run import Progress, Run, StepCost
from pipeline.training.run_start import RunStart, find_start
from pipeline.training.start_up_times import StartUpTimes
from pipeline.training.stop import StopSignal
from pipeline.training.trackers import Trackers


@dataclass(frozen=True)
class EnginePlan:
    """The engine that the ranks have agreed to build."""

    resolved: DeepSpeedConfig
    """Complete DeepSpeed config."""
    sizes: ModelParameters
    disk_need: str
    """Sentence on the disk space that checkpoints will need, for the start event."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One rank's job, set up and with its engine built."""

    config: RunConfig
    groups: RankGroups
    inputs: JobInputs
    plan: EnginePlan
    start: RunStart
    engine: Engine
    stop: StopSignal
    heartbeat: Heartbeat | NoHeartbeat
    times: StartUpTimes


def run_job(
    config: RunConfig, stop: StopSignal, heartbeat: Heartbeat | NoHeartbeat = NO_HEARTBEAT
) -> Outcome:
    """Train until the last step, a stop signal or a rollback, and return how it ended.

    Raises UserError, the same on every rank, where the settings or the files on disk do not allow
    the run.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    groups = groups_of_this_process()
    template = read_template(config.deepspeed)
    resolved = resolve_template(template, config, groups.sizes, str(config.deepspeed))
    times = StartUpTimes(heartbeat)

    # Open the inputs and compile missing operators before any rank waits for another.
    inputs = open_inputs(config)
    times.mark("data")
    provide_operators(config, groups, resolved)
    times.mark("operators")

    # The ranks meet, and agree that the run fits here and where it starts.
    join_process_groups(groups)
    plan = plan_engine(config, groups, resolved, inputs.architecture)
    start = find_start(config, groups, inputs.architecture)

    # Build the engine, bring it to where the run starts, and train.
    engine = build_engine(config, groups, inputs, plan, start, times)
    meter = device_energy_meter(engine.device, is_first_on_machine=is_first_on_its_machine())
    heartbeat.measure_energy(meter)
    state = begin_or_resume(config, groups, engine, start)
    job = Job(
        config=config,
        groups=groups,
        inputs=inputs,
        plan=plan,
        start=start,
        engine=engine,
        stop=stop,
        heartbeat=heartbeat,
        times=times,
    )
    return train_job(job, state)


def provide_operators(config: RunConfig, groups: RankGroups, resolved: DeepSpeedConfig) -> None:
    """Load DeepSpeed's operators, compiled where missing, before the ranks meet.

    Later, ranks that wait for a compiler would look like a hang.
    """
    for operator in needed_operators(resolved, config.optimizer):
        missing = not extensions.is_operator_built(operator.name)
        if missing and groups.is_rank_0:
            write_event(
                config.paths.run_dir, "build", operator=operator.name, message=operator.announcement
            )
        extensions.load_operator(operator)


def plan_engine(
    config: RunConfig,
    groups: RankGroups,
    resolved: DeepSpeedConfig,
    architecture: PretrainedConfig,
) -> EnginePlan:
    """Plan the engine, and check that devices and disk have room for it and its checkpoints.

    Raises ConfigError on every rank where a device or the disk has too little room.
    """
    sizes = count_parameters(architecture)
    resolved = fit_buckets(resolved, sizes.total)
    bytes_of_each = checkpoint_bytes(
        sizes.total, config.precision.dtype, zero_stage(resolved), moment_bytes(config, sizes)
    )
    need, disk_problems = call_on_rank_0(groups, disk_space_needed, config, bytes_of_each)
    own_problems = device_problems(config, groups, resolved, architecture, sizes)
    problems = [*problems_on_any_rank(groups, own_problems), *disk_problems]
    if problems:
        raise ConfigError(problems)
    return EnginePlan(resolved, sizes, need)


def build_engine(
    config: RunConfig,
    groups: RankGroups,
    inputs: JobInputs,
    plan: EnginePlan,
    start: RunStart,
    times: StartUpTimes,
) -> Engine:
    """Build the model with its first weights, and DeepSpeed's engine around it.

    Meanwhile a thread checks the token files. Raises UserError on every rank where they are not
    the files that `tokenize` wrote, or where the weights do not fit the model.
    """
    # The last steps that ranks take together before each builds its own model.
    weights = weights_to_begin_with(config, groups, inputs.architecture, start)
    if groups.is_rank_0:
        write_json(run_folder(config).deepspeed, plan.resolved)
    part = (groups.world_rank, groups.sizes.world)
    tokens_dir = data_folder(config).tokens
    tokens_check = BackgroundCheck(tokens_dir, list(config.sources), part=part)
    times.mark("process_group")

    # Build the model, then the engine around it.
    sharding = construction_sharding(plan.resolved)
    causal_lm = build_model(config, inputs.architecture, weights, sharding)
    model = LanguageModel(causal_lm, config.optimizer.z_loss_weight)
    times.mark("model")
    engine = make_engine(config, groups, plan.resolved, model)
    times.mark("engine")

    # Wait for the check: no step may be trained on damaged token files.
    damage = problems_on_any_rank(groups, tokens_check.finish())
    if damage:
        lines = [f"  - {line}" for line in damage]
        raise UserError("\n".join(["The token files are not as tokenize wrote them:", *lines]))
    return engine


def begin_or_resume(
    config: RunConfig, groups: RankGroups, engine: Engine, start: RunStart
) -> TrainState:
    """Load the weights that the run starts from into the engine; return the run's state there."""
    begin_random_state(config.train.seed, 0, groups.world_rank)  # dropout differs between ranks
    if start.checkpoints:
        return load_newest_intact(config, groups, engine, start.checkpoints)
    return begin_new_run(config, groups, engine, start)


def train_job(job: Job, state: TrainState) -> Outcome:
    """Train from `state` until the last step, a stop signal or a rollback; return how it ended."""
    config = job.config
    groups = job.groups

    # Open metrics.jsonl; this moves steps that an earlier start recorded after `state` aside.
    metrics = None
    if groups.is_rank_0:
        metrics = MetricsFile(config.paths.run_dir, state.step)
        record_start(
            config,
            groups.sizes,
            job.engine,
            job.plan.sizes,
            state,
            abandoned_steps=metrics.abandoned_steps,
            epochs=job.inputs.data.order.epochs(config.total_samples),
            disk_need=job.plan.disk_need,
        )

    # Leave out the samples that rollbacks and the run file skip.
    skipped = call_on_rank_0(groups, skipped_samples, config, state.skipped)
    state = replace(state, skipped=skipped)
    data = replace(job.inputs.data, order=job.inputs.data.order.skipping(skipped))
    if config.data.document_mask:
        check_document_mask(job.engine.module, config.data.sequence_length)
    job.times.mark("checks_and_resume")

    # Train; on a rollback the ranks end, and the next start begins at an earlier checkpoint.
    share = RankShare(groups, config.batch.micro_batch_sequences, config.step_plan)
    steps = range(state.step + 1, config.total_steps + 1)
    with (
        Loader(data, share, steps, Mover(job.engine.device)) as loader,
        Trackers(config, state.step, groups.world_rank) as trackers,
    ):
        run = assemble_run(job, loader, Progress(job.heartbeat, metrics, trackers, job.times))
        try:
            state = run_training_loop(run, state)
        except RollbackNeeded as trouble:
            return roll_back(run, trouble)
    if state.step == config.total_steps and is_communication_measured(run):
        _measure_on_last_batch(run, data, share)
    return end_job(job, state, metrics)


def _measure_on_last_batch(run: Run, data: TrainingData, share: RankShare) -> None:
    """Measure communication on the micro-batches of the last step, which are read once more."""
    last = run.config.total_steps
    with Loader(data, share, range(last, last + 1), Mover(run.engine.device)) as loader:
        for micro_batches in loader:
            measure_communication(run, micro_batches)


def assemble_run(job: Job, loader: Loader[DeviceBatch], progress: Progress) -> Run:
    """Gather the objects that the training loop works with."""
    config = job.config
    engine = job.engine

    # The cost of a step, for throughput and utilisation.
    is_mixture = bool(expert_modules(engine.module.causal_lm))
    cost = StepCost(
        size=model_size(job.inputs.architecture, job.plan.sizes),
        peak_flops=counted_peak(device_name(), is_mixture=is_mixture),
        devices=job.groups.sizes.world,
        recomputes=config.train.activation_checkpointing,
    )

    # The saver writes checkpoints while training goes on.
    saver = Saver(
        engine,
        job.groups,
        config.paths.run_dir,
        config.checkpoint,
        job.start.manifest_fields,
        heartbeat=progress.heartbeat,
        metrics=progress.metrics,
    )
    return Run(
        config=config,
        groups=job.groups,
        engine=engine,
        gradients=MicroBatchGradients(engine.module.parameters(), engine.device),
        loader=loader,
        held_out=job.inputs.held_out,
        sample=job.inputs.sample,
        saver=saver,
        stop=job.stop,
        progress=progress,
        cost=cost,
    )


def end_job(job: Job, state: TrainState, metrics: MetricsFile | None) -> Outcome:
    """Record that training has ended; return the outcome, with the counts of a finished run."""
    config = job.config
    is_done = state.step == config.total_steps

    # Close the records.
    if metrics is not None:
        metrics.close()
        write_event(config.paths.run_dir, "end" if is_done else "stop", step=state.step)
    if not is_done:
        return {"status": "interrupted", "step": state.step, "counts": {}}

    # Only rank 0 has read metrics.jsonl, from which the counts come.
    counts: ResultOfRun | NoCounts = {}
    if job.groups.is_rank_0:
        counts = count_finished_run(
            config,
            job.groups.sizes,
            zero_stage(job.plan.resolved),
            job.plan.sizes,
            state,
            job.inputs.held_out,
            lineage=job.start.manifest_fields["lineage"],
        )
    return {"status": "done", "step": state.step, "counts": counts}
