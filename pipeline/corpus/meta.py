"""The meta of a document: one JSON object out of all that a raw row has besides its text.

Whatever a value is, it costs no document: what JSON cannot hold becomes null, and its column is
named. Integers beyond 64 bits keep their digits.
"""

import json
from typing import Any

import orjson

from pipeline.corpus.exact_json import (
    LARGE_FLOAT,
    StandIns,
    may_have_lost_digits,
    parse_with_stand_ins,
    replace_stand_ins,
    room_for_nesting,
)


def plain_meta(fields: dict[str, Any]) -> bytes | None:
    """Return the meta of a row as orjson has read it; None where a value may have been lost, which
    `exact_meta` keeps."""
    meta = fields.get("meta")
    if isinstance(meta, str):
        try:
            meta = orjson.loads(meta)
        except orjson.JSONDecodeError:
            if meta.lstrip().startswith("{"):
                return None
    joined = _joined(fields, meta)
    encoded = _encoded(joined)
    return None if LARGE_FLOAT in encoded and may_have_lost_digits(joined) else encoded


def exact_meta(fields: dict[str, Any], stand_ins: StandIns) -> tuple[bytes, tuple[str, ...]]:
    """Return the meta of a row whose values hold these stand-ins, and the keys of which something
    became null."""
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


def _joined(fields: dict[str, Any], meta: Any) -> dict[str, Any]:
    """Join `meta`, where it is an object, with the other fields; of a key in both, meta's stays."""
    if not isinstance(meta, dict):
        return fields
    if len(fields) == 1:  # of RedPajama v1's rows none has others
        return meta
    return {
        **meta,
        **{name: value for name, value in fields.items() if name not in meta and name != "meta"},
    }


def _encoded(value: Any) -> bytes:
    try:
        # A copy, as orjson's own result, cut from a buffer of some kilobytes, keeps the allocator
        # from using the rest.
        return memoryview(orjson.dumps(value, default=str)).tobytes()
    except TypeError:  # nested more than 254 deep; orjson reads up to 1024
        with room_for_nesting():
            return json.dumps(value, default=str).encode()
