"""Learning-rate schedules: pure functions of the tokens trained so far."""

import math

from pipeline.config import RunConfig


def learning_rate(config: RunConfig, step: int) -> float:
    """Return the learning rate of optimizer step `step` (from 1).

    Warm-up is linear from 0 to the peak. `cosine` falls to the final fraction at the end of the run (Loshchilov and
    Hutter 2017; as in Brown et al. 2020, appendix B). `wsd` stays at the peak and falls linearly over the last
    `decay_tokens` (Hu et al. 2024).
    """
    schedule, peak = config.schedule, config.optimizer.peak_learning_rate
    plan = config.step_plan
    total = plan.total_tokens
    tokens = min(plan.tokens_after(step), total)
    if tokens < schedule.warmup_tokens:
        return peak * tokens / schedule.warmup_tokens
    final = schedule.final_learning_rate_fraction
    if schedule.kind == "cosine":
        done = (tokens - schedule.warmup_tokens) / max(1, total - schedule.warmup_tokens)
        return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))
    decay = schedule.decay_tokens or 0
    left = total - tokens
    return peak if left >= decay else peak * (final + (1 - final) * left / decay)
