"""A format's regular expressions on single texts, under RE2 as on whole columns: none takes long on any text.

Arrow is loaded by who looks at files, not by who lists formats.
"""

from collections.abc import Sequence
from functools import lru_cache

from importer.formats.language import CdrFormat, Zone, named_group


@lru_cache(maxsize=8192)
def fits_whole(pattern: str, text: str) -> bool:
    """Say whether a pattern matches a text from end to end; asked anew, that takes 20 microseconds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.match_substring_regex(pa.scalar(text, pa.large_string()), pattern=f"^(?:{pattern})$")
    return bool(found.as_py())


def groups_of(extract: str, texts: Sequence[str]) -> list[str]:
    """Return the one group of a pattern in each text, "" where it does not match."""
    import pyarrow as pa
    import pyarrow.compute as pc

    groups = pc.extract_regex(pa.array(texts, pa.large_string()), pattern=named_group(extract))
    return [str(group or "") for group in pc.struct_field(groups, "value").to_pylist()]


def first_fault(cdr_format: CdrFormat) -> str:
    """Return the first fault of a format as `key: what is wrong`, "" when it is sound."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from schemas.times import TimeRules
    from schemas.zones import fixed_advice, is_fixed, is_zone

    for key, pattern, written in cdr_format.patterns():
        # Arrow compiles a pattern only when there is a cell to look at (checked with 26.0): not an empty array.
        try:
            pc.match_substring_regex(pa.array([""], type=pa.large_string()), pattern=written)
        except pa.ArrowInvalid as error:
            return f"{key}: regular expression {pattern!r}: {error}"
    time = cdr_format.time
    try:
        TimeRules(time.formats, None)
    except ValueError as error:
        return f"time.formats: {error}"
    if time.zone not in set(Zone) and not is_zone(time.zone):
        return f"time.zone: {time.zone!r} is neither `option` nor `value` nor an IANA time zone"
    if time.zone_default is not None and not is_zone(time.zone_default):
        return f"time.zone_default: {time.zone_default!r} is not an IANA time zone"
    for key, zone in (("zone", time.zone), ("zone_default", time.zone_default)):
        if zone is not None and is_fixed(zone):
            return f"time.{key}: {fixed_advice(zone)}"
    return ""
