"""Learning-rate schedules: pure functions of the tokens trained so far."""

import math

from pipeline.config.run_config import RunConfig


def learning_rate(config: RunConfig, step: int) -> float:
    """Return the learning rate of optimizer step `step` (from 1): the scaled peak times the
    schedule's fraction."""
    plan = config.step_plan
    tokens = min(plan.tokens_after(step), plan.total_tokens)
    peak = config.optimizer.peak_learning_rate * config.learning_rate_factor
    return peak * fraction_of_peak(config, tokens, plan.total_tokens)


def fraction_of_peak(config: RunConfig, tokens: int, total: int) -> float:
    """Return the learning rate when `tokens` of `total` are consumed, as a fraction of the peak.

    Warm-up is linear from 0 to 1. Then `cosine` falls to the final fraction at the end of the run
    (Loshchilov and Hutter 2017; as in Brown et al. 2020, appendix B), `linear` does so in a line,
    `inverse-square-root` is sqrt(warm-up / tokens) (Vaswani et al. 2017, section 5.3), `constant`
    stays, and `wsd` stays until the last `decay_tokens` (Hu et al. 2024). Over those it falls by
    the square root of the progress (Hägele et al. 2024, section 3.2) or in a line.
    """
    schedule = config.schedule
    warmup, final = schedule.warmup_tokens, schedule.final_learning_rate_fraction
    if tokens < warmup:
        return tokens / warmup
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "inverse-square-root":
        return math.sqrt(warmup / tokens)
    if schedule.kind == "wsd":
        decay = schedule.decay_tokens or 0
        begin = total - decay
        progress = 0.0 if tokens <= begin else (tokens - begin) / decay
        fallen = progress if schedule.decay_shape == "linear" else math.sqrt(progress)
    else:
        progress = (tokens - warmup) / max(1, total - warmup)
        fallen = progress if schedule.kind == "linear" else 0.5 * (1 - math.cos(math.pi * progress))
    return final + (1 - final) * (1 - fallen)
