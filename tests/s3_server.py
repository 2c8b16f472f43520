"""An S3 server of this machine and a bucket in it, for the tests of URLs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.corpus.remote.listing import forget_listings

clients: list[tuple[int, str | None]] = []
"""Server and key of the clients of S3 that were made."""


@contextmanager
def s3_server() -> Iterator[int]:
    """Start a server that speaks S3, and give its port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


def use_s3(monkeypatch: pytest.MonkeyPatch, port: int, key: str | None = "key") -> None:
    """Set the variables of S3, without credentials if `key` is None; forget what was listed."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if key is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, key)
    # A client is made once for many tests, as making one takes a second.
    if clients[-1:] != [(port, key)]:
        s3fs.S3FileSystem.clear_instance_cache()
        clients.append((port, key))
    forget_listings()


class Bucket:
    """A bucket of the server that `use_s3` has set, empty at the start."""

    url = "s3://corpora"

    def __init__(self) -> None:
        import fsspec

        self._system = fsspec.filesystem("s3")
        if self._system.exists("corpora"):
            self._system.rm("corpora", recursive=True)
        self._system.mkdir("corpora")

    def put(self, name: str, content: bytes) -> None:
        """Write an object; what was listed of the bucket is forgotten, as in a new command."""
        self._system.pipe(f"corpora/{name}", content)
        forget_listings()

    def remove(self, name: str) -> None:
        self._system.rm(f"corpora/{name}")
