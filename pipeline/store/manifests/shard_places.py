"""Where the files of a source's shards lie: all in its folder, or in 256 folders of it.

A shard has up to three files, so a source of 100,000 shards would make a folder of 300,000 entries.
A source of more than MOST_ITEMS_IN_A_FOLDER work items has its shards one folder deeper:
`<source>/<part>/<file>` instead of `<source>/<file>`, where the part follows from the file's name.

A shard is called by its logical name, `<source>/<file>`, wherever it lies. Ids of documents, names of
work items, fingerprints and digests hold logical names, so moving files makes nothing stale.
Manifests list the paths that exist. A source's name holds no slash; a path here is relative to the
stage's folder. Reads and writes nothing.
"""

import re

import xxhash

MOST_ITEMS_IN_A_FOLDER = 2000
"""Work items of one list whose files lie together; of 100,000 items, 400 lie in each part."""
KEY = re.compile(r"\.?(?:(?:train|validation)_)?([0-9a-f]{2})[0-9a-f]{10}(?:_\d{3,})?\.\w+")
"""The name of a file that a work item of `prepare` made: the item's key, of a shard with its split
before it and its number after it."""
PART = re.compile(r"[0-9a-f]{2}")


def needs_parts(items: int) -> bool:
    """Tell whether the files of that many work items have to lie in parts."""
    return items > MOST_ITEMS_IN_A_FOLDER


def part_of(file: str) -> str:
    """Return the part of a shard's file, two hexadecimal digits; the same for all of its files.

    They are the first digits of the work item's key, so that paths sort as file names do within a
    split; for other names, such as those of token files made elsewhere, a hash of the name without
    its suffix.
    """
    key = KEY.fullmatch(file)
    if key is not None:
        return key[1]
    stem = file.removeprefix(".").rpartition(".")[0]
    return f"{xxhash.xxh3_64_intdigest(stem.encode()) & 0xFF:02x}"


def source_of(path: str) -> str:
    """Return the source of a shard's file."""
    return path.partition("/")[0]


def file_of(path: str) -> str:
    """Return the name of a shard's file, with its suffix."""
    return path.rpartition("/")[2]


def stem_of(path: str) -> str:
    """Return the name of a shard: its file's without the last suffix, such as `train_0a1b2c3d4e5f_000`."""
    return file_of(path).rpartition(".")[0]


def logical_name(path: str) -> str:
    """Return `<source>/<file>` of a shard's file in a part; any other path as it is."""
    names = path.split("/")
    if len(names) == 3 and PART.fullmatch(names[1]):
        return f"{names[0]}/{names[2]}"
    return path


def placed(name: str, in_parts: bool) -> str:
    """Return the path of a shard's file with a logical name, in a part or not."""
    if not in_parts:
        return name
    source, _, file = name.rpartition("/")
    return f"{source}/{part_of(file)}/{file}"
