"""The ids of `prepare.validation`: documents that are held out because the run file lists them.

Reads the file of ids.
"""

from functools import lru_cache
from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.errors import DataError, first_of
from pipeline.logs import warn
from pipeline.store.files import fingerprint

SHOWN_IDS = 5
"""Maximum number of ids that a message lists."""


def listed_ids(config: RunConfig) -> frozenset[str]:
    """Return the ids in `prepare.validation`: those of the list, and the lines of the file.

    Raises DataError where the file cannot be read, is not UTF-8, or where no id is listed at all.
    """
    listed = config.prepare.validation
    if listed is None:
        return frozenset()
    ids = set(listed.ids)
    if listed.file is not None:
        ids |= _ids_in(listed.file)
    if not ids:
        raise DataError(
            f"prepare.validation.file: {listed.file} holds no id. Write one id a line, or remove "
            "prepare.validation."
        )
    return frozenset(ids)


def describe_ids(config: RunConfig) -> dict[str, str | None]:
    """Return what identifies the listed ids, for the fingerprint of `prepare`; nothing without any.

    None where the file was moved away; the text of any other error.
    """
    listed = config.prepare.validation
    if listed is None:
        return {}
    subject = "ids of prepare.validation"
    if listed.file is not None and not listed.file.exists():
        return {subject: None}
    try:
        return {subject: fingerprint(sorted(listed_ids(config)))}
    except DataError as error:
        return {subject: str(error)}


def check_ids_exist(listed: frozenset[str], present: set[str]) -> None:
    """Warn about listed ids that no document has. Raises DataError where none of them has one."""
    absent = sorted(listed - present)
    if not absent:
        return
    names = first_of(absent, SHOWN_IDS)
    where = "as the id, url or *_id of its meta"
    if not present:
        raise DataError(
            f"prepare.validation: no document has one of the {len(listed):,} listed ids {where}: "
            f"{names}. Correct the ids, or remove prepare.validation."
        )
    warn(
        f"prepare.validation: {len(absent):,} of {len(listed):,} listed ids are no document's "
        f"({where}): {names}"
    )


@lru_cache(maxsize=1)
def ids_in_lines(path: Path, digest: str) -> frozenset[str]:
    """Return the lines of the file of all listed ids that the stage wrote for its tasks.

    `digest`: of the ids, so that a process that lives on takes no former ones.
    """
    return frozenset(path.read_text("utf-8", errors="surrogatepass").split("\n"))


def _ids_in(file: Path) -> set[str]:
    """Return the ids in a file of the user, one a line."""
    try:
        # Not `splitlines`, which also cuts at characters that an id may have, such as U+2028.
        lines = file.read_text("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(
            f"prepare.validation.file: {file} cannot be read: {error.strerror}. Correct the path, "
            "or remove the setting."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"prepare.validation.file: byte {error.start:,} of {file} is not UTF-8. Write one id a "
            "line, in UTF-8."
        ) from None
    return {line.strip() for line in lines} - {""}
