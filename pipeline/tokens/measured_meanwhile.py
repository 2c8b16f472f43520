"""Measure the tokenizer for the report in a thread, while the shards of documents are encoded.

Writes data_dir/tokenizer/statistics.json, as `tokenizer_report.py` does.
"""

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from pipeline.config.run_config import RunConfig
from pipeline.errors import Interrupted
from pipeline.tokens.tokenizer_report import Update, keep_measurements, report_bar

LOOK_SECONDS = 0.1
"""Time between two looks how far the measurement is."""


@contextmanager
def measured_meanwhile(config: RunConfig) -> Generator[None]:
    """Measure in a thread, and wait for it at the end of the context; after an error, stop it."""
    measurement = _Measurement()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(keep_measurements, config, measurement.bar)
        try:
            yield
        except BaseException:
            measurement.has_to_stop = True
            raise
        measurement.wait_for(future)


class _Measurement:
    """How far a measurement in a thread is; another thread shows it."""

    def __init__(self) -> None:
        self.has_to_stop = False
        self._work = 1.0
        self._done = 0.0
        self._source = ""

    @contextmanager
    def bar(self, work: float) -> Generator[Update]:
        """Take the bytes to measure; yield what takes those that are measured."""
        self._work = work
        yield self._update

    def _update(self, done: float, source: str) -> None:
        if self.has_to_stop:
            raise Interrupted("stopped")
        self._done = done
        self._source = source

    def wait_for(self, future: "Future[None]") -> None:
        """Show the rest of the measurement; raise what it has raised."""
        # Most often it ended long ago. Its size is known soon after it began.
        if not wait([future], LOOK_SECONDS).done:
            with report_bar(self._work) as update:
                while not wait([future], LOOK_SECONDS).done:
                    update(self._done, self._source)
        future.result()
