"""What `pipeline benchmark train` has measured on GPUs: figures, their limits, tables.

Prints the tables; reads and writes no file.
"""

from collections.abc import Mapping
from typing import TypedDict

from pipeline.benchmarks.common import Figures, met_or_missed, show_table
from pipeline.benchmarks.training.side_names import PLAIN

LEAST_MFU = {"gpt3-125m": 0.45, "gpt3-1.3b": 0.55}
"""Preset -> model FLOPs utilisation that the best template has to reach on one H200."""
Limits = dict[str, tuple[float, float]]
"""Name of a figure -> what was measured, and the lowest that is accepted."""


class MatrixProduct(TypedDict):
    """Rate of a GPU in one large product of bf16 matrices."""

    size: int
    """Rows and columns of the matrices."""
    flops: float
    """FLOP/s that were measured."""
    peak_flops: float | None
    """FLOP/s that the GPU's maker states; None for an unknown GPU."""


class GpuSpeed(TypedDict):
    """Speed of one loop on a GPU."""

    tokens_per_second: float
    flops_per_token: float
    parameters: float
    build_seconds: float
    first_step_seconds: float
    """Seconds of the first step, which compiles."""
    peak_gib: float
    """Peak memory of the later steps, in GiB."""
    flops: float
    """FLOP/s."""
    mfu: float | None
    """Model FLOPs utilisation; None for an unknown GPU."""


class GpuResults(TypedDict):
    """Everything that is measured on GPUs."""

    rounds: int
    matmul: MatrixProduct
    rates: dict[str, dict[str, GpuSpeed]]
    """Model -> template, or plain PyTorch -> speed."""


class CheckedMinimum(TypedDict):
    """A measured figure and its lower limit."""

    measured: float
    at_least: float
    met: bool


def check_limits(limits: Limits) -> dict[str, CheckedMinimum]:
    """Compare figures with their limits; print a table."""
    checked: dict[str, CheckedMinimum] = {
        name: {"measured": measured, "at_least": least, "met": measured >= least}
        for name, (measured, least) in limits.items()
    }
    show_table(
        "Limits",
        ("", "measured", "at least", ""),
        [
            (
                name,
                f"{limit['measured']:.3f}",
                f"{limit['at_least']}",
                met_or_missed(limit["met"]),
            )
            for name, limit in checked.items()
        ],
    )
    return checked


def gpu_speed(figures: Figures, product: MatrixProduct) -> GpuSpeed:
    """Return the speed of one loop, with its utilisation of the GPU."""
    flops = figures["tokens_per_second"] * figures["flops_per_token"]
    mfu = None
    if product["peak_flops"] is not None:
        mfu = flops / product["peak_flops"]
    return {
        "tokens_per_second": figures["tokens_per_second"],
        "flops_per_token": figures["flops_per_token"],
        "parameters": figures["parameters"],
        "build_seconds": figures["build_seconds"],
        "first_step_seconds": figures["first_step_seconds"],
        "peak_gib": figures["peak_gib"],
        "flops": flops,
        "mfu": mfu,
    }


def show_gpu_speeds(title: str, speeds: Mapping[str, GpuSpeed], product: MatrixProduct) -> None:
    """Print the speeds of one model as a table. `title`: model, shapes and batch."""
    plain = speeds[PLAIN]["tokens_per_second"]
    show_table(
        f"{title}; FLOPs: 6 N + 6 L d T a token (causal attention); a {product['size']}^3 product: "
        f"{product['flops'] / 1e12:.0f} TFLOP/s",
        ("", "tokens/s", "MFU", "of the product", "of plain", "GiB", "first step, s"),
        [
            (
                loop,
                f"{speed['tokens_per_second']:,.0f}",
                _utilisation_in_words(speed["mfu"]),
                f"{speed['flops'] / product['flops']:.1%}",
                f"{speed['tokens_per_second'] / plain:.3f}",
                f"{speed['peak_gib']:.1f}",
                f"{speed['first_step_seconds']:.0f}",
            )
            for loop, speed in speeds.items()
        ],
    )


def _utilisation_in_words(mfu: float | None) -> str:
    if mfu is None:
        return "unknown peak"
    return f"{mfu:.1%}"
