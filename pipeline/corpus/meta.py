"""The meta of a document: one JSON object with all values of a raw row but its text.

No value costs a document: a value that JSON cannot hold becomes null, and its column is named.
Integers beyond 64 bits keep their digits. Reads and writes no file.
"""

import json

import orjson

from pipeline.corpus.exact_json import (
    LARGE_FLOAT,
    StandIns,
    may_have_lost_digits,
    parse_with_stand_ins,
    replace_stand_ins,
    room_for_nesting,
)
from pipeline.store.records import Json

NO_META = b"{}"
"""Meta of a row that is its text alone."""


def plain_meta(fields: dict[str, Json]) -> bytes | None:
    """Return the meta of a row that orjson has read; None where orjson may have lost a value.

    `exact_meta` keeps such a value.
    """
    if not fields:
        return NO_META
    meta = fields.get("meta")
    if isinstance(meta, str):
        try:
            meta = orjson.loads(meta)
        except orjson.JSONDecodeError:
            if meta.lstrip().startswith("{"):
                return None
    joined = _joined(fields, meta)
    encoded = _encoded(joined)
    if LARGE_FLOAT in encoded and may_have_lost_digits(joined):
        return None
    return encoded


def exact_meta(fields: dict[str, Json], stand_ins: StandIns) -> tuple[bytes, tuple[str, ...]]:
    """Return the meta of a row whose values hold stand-ins, and the keys of values that became null."""
    meta = fields.get("meta")
    if isinstance(meta, str):
        try:
            meta, inner = parse_with_stand_ins(meta.encode())
            stand_ins = stand_ins | inner
        except orjson.JSONDecodeError:
            pass
    members: list[bytes] = []
    nulls: list[str] = []
    for name, value in _joined(fields, meta).items():
        key, key_is_lost = replace_stand_ins(_encoded(name), stand_ins)
        written, value_is_lost = replace_stand_ins(_encoded(value), stand_ins)
        members.append(key + b":" + written)
        if key_is_lost or value_is_lost:
            nulls.append(orjson.loads(key))
    return b"{" + b",".join(members) + b"}", tuple(nulls)


def _joined(fields: dict[str, Json], meta: Json) -> dict[str, Json]:
    """Join `meta`, if it is an object, with the other fields; for a key in both, meta's value wins."""
    if not isinstance(meta, dict):
        return fields
    # Most rows of RedPajama v1 have no other field: their meta is not copied.
    if len(fields) == 1:
        return meta
    return {
        **meta,
        **{name: value for name, value in fields.items() if name not in meta and name != "meta"},
    }


def _encoded(value: Json) -> bytes:
    try:
        # Copied: orjson's result is cut from a buffer of some kilobytes, and while it lives the
        # allocator cannot use the rest of that buffer. Joining two parts is the quickest copy.
        return b"".join((orjson.dumps(value, default=str), b""))
    except TypeError:
        # Nested more than 254 deep: orjson reads up to 1,024 levels, but writes no more than these.
        with room_for_nesting():
            return json.dumps(value, default=str).encode()
