"""Decode bytes whose charset the sender does not name, or names wrongly."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

# Keys are charset names without punctuation. Other charsets are ignored: web frameworks declare Latin-1 and ASCII by
# default, any bytes are valid Latin-1, and some of Python's codecs take quadratic time.
_CODECS = {
    "utf8": "utf-8",
    "utf16": "utf-16",
    "utf16le": "utf-16-le",
    "utf16be": "utf-16-be",
    "utf32": "utf-32",
    "utf32le": "utf-32-le",
    "utf32be": "utf-32-be",
    # GB18030 contains GB2312 and GBK.
    **dict.fromkeys(["gb2312", "euccn", "gbk", "cp936", "ms936", "windows936", "gb18030"], "gb18030"),
    **dict.fromkeys(["big5", "cnbig5", "big5eten", "cp950", "ms950", "windows950"], "cp950"),
    "big5hkscs": "big5hkscs",
}
# Nearly all Big5 is also valid GB18030, with a wrong meaning. It is mostly invalid GB2312, so that comes first. All of
# these charsets leave ASCII unchanged, so a wrong guess keeps it.
_UNNAMED = ("utf-8", "gb2312", "cp950", "gb18030", "latin-1")


def texts(content: bytes, charset: str | None = None) -> Iterator[str]:
    """
    Yield the texts that the bytes may stand for, the most likely first. There is at least one.

    The order: the charset that the bytes prove (a byte order mark, the zeros of UTF-16), the declared charset, UTF-8,
    the charsets of the region. The last one decodes any bytes.

    Args:
        charset: The charset that the sender declares, such as "GBK". An unknown or wrong one is ignored.
    """
    proved = json.detect_encoding(content)
    if proved == "utf-8" and content.isascii():
        yield content.decode()
        return
    named = _CODECS.get(re.sub(r"[^a-z0-9]", "", charset.lower()).lstrip("x")) if charset else None
    for codec in dict.fromkeys([*([] if proved == "utf-8" else [proved]), *([named] if named else []), *_UNNAMED]):
        try:
            # JSON may contain an unpaired surrogate.
            text = content.decode(codec, "surrogatepass" if codec.startswith("utf") else "strict")
        except UnicodeDecodeError:
            continue
        yield text


def charset_of(content_type: str | None) -> str | None:
    """Return the charset that a Content-Type header declares, or None."""
    found = re.search(r"""charset\s*=\s*["']?([^\s;"']+)""", content_type or "", re.IGNORECASE)
    return found[1] if found else None
