"""Measure every template and plain PyTorch on a GPU, beside the GPU's rate in a large matrix product.

Writes JSON after each model.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.benchmarks.common import Measurement, measure_in_rounds, run_python, write_results
from pipeline.benchmarks.training.gpu_results import (
    LEAST_MFU,
    GpuResults,
    Limits,
    MatrixProduct,
    check_limits,
    gpu_speed,
    show_gpu_speeds,
)
from pipeline.benchmarks.training.side_names import PLAIN
from pipeline.benchmarks.training.step_settings import (
    MEASURING_MODULE,
    StepSettings,
    random_corpus,
    settings_of_preset,
    settings_of_run_file,
)
from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError

GPU_STEPS = 3
"""Timed steps of each measurement on a GPU."""


def gpu_models(config: RunConfig | None, presets: Sequence[str]) -> dict[str, StepSettings]:
    """Return the models to measure on a GPU, by name."""
    if config is not None:
        return {"the run file": settings_of_run_file(config)}
    return {name: settings_of_preset(name) for name in presets}


def _gpu_rate(path: Path, is_plain: bool) -> Measurement:
    """Return the measurement of one loop's rate, on a GPU."""
    as_json = json.dumps({"config": str(path), "is_plain": is_plain, "steps": GPU_STEPS})
    return lambda: run_python(MEASURING_MODULE, "measure_rate", as_json).measured


def measure_on_gpu(
    models: Mapping[str, StepSettings],
    templates: Sequence[str],
    folder: Path,
    count: int,
    output: Path,
) -> None:
    """Measure every template and plain PyTorch, and the same GPU's matrix product.

    Writes the results after each model. Raises ConfigError where no template fits a model.
    """
    # ZeRO 0 is for fp32 only.
    chosen = {
        name: [each for each in templates if each != "zero0" or settings.dtype == "fp32"]
        for name, settings in models.items()
    }
    problems = [
        f"--template zero0: is for fp32, and {name} is trained in {models[name].dtype}"
        for name, fitting in chosen.items()
        if not fitting
    ]
    if problems:
        raise ConfigError(problems)
    product: MatrixProduct = run_python(MEASURING_MODULE, "measure_matrix_product", "{}").measured
    results: GpuResults = {"rounds": count, "matmul": product, "rates": {}}
    limits: Limits = {}
    for name, settings in models.items():
        corpus = random_corpus(folder, name, settings)
        files = {template: settings.write(corpus, template, template) for template in chosen[name]}
        parts = {template: _gpu_rate(path, is_plain=False) for template, path in files.items()}
        parts[PLAIN] = _gpu_rate(files[chosen[name][0]], is_plain=True)
        speeds = {
            loop: gpu_speed(figures, product)
            for loop, figures in measure_in_rounds(count, parts).items()
        }
        show_gpu_speeds(_gpu_title(name, settings), speeds, product)
        results["rates"][name] = speeds

        # The best template is compared with the limit, where the GPU's peak is known.
        utilisations = [
            speed["mfu"]
            for loop, speed in speeds.items()
            if loop != PLAIN and speed["mfu"] is not None
        ]
        if utilisations and name in LEAST_MFU:
            limits[f"{name}: MFU"] = (max(utilisations), LEAST_MFU[name])
        write_results(output, results)
    write_results(output, {**results, "limits": check_limits(limits)})


def _gpu_title(name: str, settings: StepSettings) -> str:
    return (
        f"{name}, {settings.sequence_length:,} tokens, {settings.dtype}, "
        f"{settings.micro_batch_sequences} sequences at a time, "
        f"{settings.global_batch_tokens:,} tokens a step"
    )
