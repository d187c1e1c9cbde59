"""Which text bytes hold, where the sender does not name the charset, or names a wrong one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

# By the names without signs. Others are not trusted: web frameworks name Latin-1 and ASCII unasked, every byte is
# something in Latin-1, and Python has codecs that take quadratic time.
_CODECS = {
    "utf8": "utf-8",
    "utf16": "utf-16",
    "utf16le": "utf-16-le",
    "utf16be": "utf-16-be",
    "utf32": "utf-32",
    "utf32le": "utf-32-le",
    "utf32be": "utf-32-be",
    # GB18030 holds the two before it.
    **dict.fromkeys(["gb2312", "euccn", "gbk", "cp936", "ms936", "windows936", "gb18030"], "gb18030"),
    **dict.fromkeys(["big5", "cnbig5", "big5eten", "cp950", "ms950", "windows950"], "cp950"),
    "big5hkscs": "big5hkscs",
}
# GB18030 reads nearly all that is Big5, and reads it wrongly. GB2312 holds the simplified characters alone, and Big5
# mostly fails in it: so it comes first. All of these leave ASCII as it is, also where they guess wrongly.
_UNNAMED = ("utf-8", "gb2312", "cp950", "gb18030", "latin-1")


def texts(content: bytes, charset: str | None = None) -> Iterator[str]:
    """
    Give the texts that the bytes may be, the likeliest first. There is at least one.

    The order: what the bytes prove (a byte order mark, the zeros of UTF-16), the charset that is named, UTF-8, then the
    charsets of the region. The last one reads any bytes.

    Args:
        charset: The name that the sender gives, as "GBK". One that is not known, or cannot be right, is not heeded.
    """
    proved = json.detect_encoding(content)
    if proved == "utf-8" and content.isascii():
        yield content.decode()
        return
    named = _CODECS.get(re.sub(r"[^a-z0-9]", "", charset.lower()).lstrip("x")) if charset else None
    for codec in dict.fromkeys([*([] if proved == "utf-8" else [proved]), *([named] if named else []), *_UNNAMED]):
        try:
            # JSON may hold half of a surrogate pair.
            text = content.decode(codec, "surrogatepass" if codec.startswith("utf") else "strict")
        except UnicodeDecodeError:
            continue
        yield text


def charset_of(content_type: str | None) -> str | None:
    """Give the charset that a Content-Type header names; None where it names none."""
    found = re.search(r"""charset\s*=\s*["']?([^\s;"']+)""", content_type or "", re.IGNORECASE)
    return found[1] if found else None
