"""A run folder as `train` leaves it after some steps, without any training."""

import json
from pathlib import Path

from pipeline.config.run_file import dump, load
from pipeline.sampling.outlook import look_ahead
from pipeline.sampling.pack import pack
from pipeline.sampling.traced_run import TracedRun, open_run, read_run


def begin_run(run_file: Path, overrides: list[str], completed: int = 12) -> TracedRun:
    """Leave what `train` would after some steps on 2 ranks, and open it."""
    config = load(run_file, overrides)
    if config.data.packing == "best-fit":
        pack(config)
    look_ahead(config)
    run_dir = config.paths.run_dir
    run_dir.mkdir(exist_ok=True)
    (run_dir / "config.yaml").write_text(dump(config))
    (run_dir / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": s, "loss": 1}) + "\n" for s in range(1, completed + 1))
    )
    (run_dir / "events.jsonl").write_text('{"event": "start", "step": 0, "ranks": 2}\n')
    return read_run(open_run(run_dir, []))
