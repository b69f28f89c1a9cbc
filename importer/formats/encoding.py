"""Which encoding a file is in: by byte order mark, then UTF-8 strictly, then as format or operator name it."""

import codecs

from importer.errors import InputUnusableError
from importer.files.export import ExportFile

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

BLOCK_BYTES = 1 << 20


def certain_encoding(file: ExportFile, override: str | None) -> str | None:
    """Return the encoding that the operator or the file itself makes certain, or None when it is not UTF-8.

    Raises InputUnusableError when the file contradicts the operator's ``override``.
    """
    if override is not None:
        return _require(file, override)
    with file.open() as source:
        start = source.read(4)
    for mark, encoding in BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return _require(file, encoding)
    return "utf-8" if first_undecodable(file, "utf-8") is None else None


def fallback_encoding(file: ExportFile, encodings: tuple[str, ...]) -> str:
    """Return the first of a format's single-byte encodings in which a file that is not UTF-8 can be read."""
    others = (each for each in encodings if each != "utf-8" and first_undecodable(file, each) is None)
    return next(others, "") or _require(file, "utf-8")


def first_undecodable(file: ExportFile, encoding: str) -> int | None:
    """Return the offset of the first byte that is not of this encoding, or None when all are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    with file.open() as source:
        while True:
            block = source.read(BLOCK_BYTES)
            held = len(decoder.getstate()[0])
            if encoding == "utf-8" and block.isascii() and block and not held:
                offset += len(block)  # found in a tenth of the time of decoding
                continue
            try:
                decoder.decode(block, final=not block).encode("utf-8")
            except UnicodeDecodeError as error:
                return offset - held + error.start
            except UnicodeError:  # UTF-16 without its mark; what is no text in UTF-8 either
                return offset
            if not block:
                return None
            offset += len(block)


def _require(file: ExportFile, encoding: str) -> str:
    offset = first_undecodable(file, encoding)
    if offset is None:
        return encoding
    with file.open() as source:
        line = source.read(offset).count(b"\n") + 1
    raise InputUnusableError(
        f"{file.shown}: line {line} holds a letter that is not saved as {encoding.upper()} (byte {offset + 1})",
        hint="Name its encoding, for example --encoding cp1252, or save it anew as UTF-8 (in Excel: CSV UTF-8).",
    )
