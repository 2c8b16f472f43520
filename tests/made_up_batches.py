"""Points of a batch study that nobody trained, for tests of its figures and its report."""

from pipeline.planning.study.axes import AxisValue
from pipeline.planning.study.points import StudyPoint


def batch_point(
    batch: int, loss: float | None, *, scaling: str, seed: int = 1, **others: AxisValue
) -> StudyPoint:
    """Return a run of a batch under a rule of scaling; `others`: its place on further axes."""
    place: dict[str, AxisValue] = {
        "batch_tokens": batch,
        "learning_rate_scaling": scaling,
        **others,
    }
    name = "-".join(str(value) for value in (*place.values(), f"s{seed}"))
    return StudyPoint(
        name=name,
        size="base",
        budget="d102400",
        seed=seed,
        parameters_total=1000,
        parameters_non_embedding=1000,
        parameters_multiplying=1000,
        tokens=102_400,
        flops=6.144e8,
        loss=loss,
        bits_per_byte=None,
        steps=102_400 // batch,
        epochs=1.0,
        batch_tokens=batch,
        peak_learning_rate=0.001,
        tokenizer="t",
        held_out="tokens",
        held_out_text="text",
        run=f"runs/{name}/run",
        left_out="",
        place=place,
    )


def goyal_points() -> list[StudyPoint]:
    """Return batches of 256, 1,024 and 4,096 tokens with two seeds a quarter apart.

    Their mean losses are 4, 4.5, 6 with the rate unscaled, and 4, 4, 5 with the rate scaled linearly;
    the reference batch has one rule only.
    """
    means = {
        ("none", 256): 4.0,
        ("none", 1024): 4.5,
        ("none", 4096): 6.0,
        ("linear", 1024): 4.0,
        ("linear", 4096): 5.0,
    }
    return [
        batch_point(batch, mean + shift, scaling=scaling, warmup=0.1, seed=seed)
        for (scaling, batch), mean in means.items()
        for seed, shift in ((1, -0.0625), (2, 0.0625))
    ]
