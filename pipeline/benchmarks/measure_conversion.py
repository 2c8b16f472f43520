"""Measure the barest loop from raw files to Parquet, in a process that has imported no library yet.

`python -m pipeline.benchmarks.measure_conversion LIST`: LIST is a text file that lists raw `.jsonl`
or `.jsonl.zst` files, one path a line. Prints one line of JSON: `seconds`, with the imports as in
the seconds of a stage, `loop_seconds` without them, and `documents`. Writes no file.
"""

import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def measure_conversion(paths: Sequence[Path]) -> dict[str, float]:
    """Convert raw files to Parquet in memory without any check; return seconds and documents."""
    documents = 0
    started = time.perf_counter()
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    import_seconds = time.perf_counter() - started
    # With its first array pyarrow imports pandas. `prepare` avoids that, so it is not counted here.
    pa.array([0])

    started = time.perf_counter()
    for path in paths:
        content = path.read_bytes()
        if path.suffix == ".zst":
            decompressor = zstandard.ZstdDecompressor()
            stream = decompressor.stream_reader(io.BytesIO(content), read_across_frames=True)
            content = stream.read()
        rows = [orjson.loads(line) for line in content.splitlines()]
        documents += len(rows)
        texts = pa.array([row["text"] for row in rows], pa.large_string())
        meta = pa.array([orjson.dumps(row.get("meta")) for row in rows], pa.binary())
        pq.write_table(
            pa.table({"text": texts, "meta": meta}),
            io.BytesIO(),
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,
        )
    loop_seconds = time.perf_counter() - started
    return {
        "seconds": import_seconds + loop_seconds,
        "loop_seconds": loop_seconds,
        "documents": documents,
    }


if __name__ == "__main__":
    listed = Path(sys.argv[1]).read_text().splitlines()
    print(json.dumps(measure_conversion(list(map(Path, listed)))))
