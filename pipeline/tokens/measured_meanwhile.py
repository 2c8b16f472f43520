"""Measure the tokenizer for the report in a thread, while the shards of documents are encoded.

Writes data_dir/tokenizer/statistics.json, as `tokenizer_report.py` does.
"""

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, Interrupted
from pipeline.tokens.tokenizer_report import Measurement, Update, begin_measurement, report_bar

LOOK_SECONDS = 0.1
"""Time between two looks how far the measurement is."""


@contextmanager
def measured_meanwhile(config: RunConfig) -> Generator[None]:
    """Measure in a thread, and wait for it at the end of the context; after an error, stop it.

    The texts are read first: with a large document, this takes memory that encoding takes, too.
    Where measuring fails, as for a missing tokenizer to compare with, nothing is raised: `report` will.
    """
    measurement = None
    with suppress(DataError):
        measurement = begin_measurement(config)
    if measurement is None:
        yield
        return
    background = _Background()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(background.run, measurement)
        try:
            yield
        except BaseException:
            background.has_to_stop = True
            raise
        background.wait_for(future)


class _Background:
    """A measurement in a thread, and how far it is, which another thread shows."""

    def __init__(self) -> None:
        self.has_to_stop = False
        self._work = 1.0
        self._done = 0.0
        self._source = ""

    def run(self, measurement: Measurement) -> None:
        """Measure, unless the measurements are kept."""
        with suppress(DataError):
            measurement.finish(self._bar)

    def wait_for(self, future: "Future[None]") -> None:
        """Show the rest of the measurement; raise what it has raised."""
        # Most often it ended long ago. Its size is known soon after it began.
        if not wait([future], LOOK_SECONDS).done:
            with report_bar(self._work) as update:
                while not wait([future], LOOK_SECONDS).done:
                    update(self._done, self._source)
        future.result()

    @contextmanager
    def _bar(self, work: float) -> Generator[Update]:
        self._work = work
        yield self._update

    def _update(self, done: float, source: str) -> None:
        if self.has_to_stop:
            raise Interrupted("stopped")
        self._done = done
        self._source = source
