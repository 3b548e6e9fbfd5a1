"""What stands between the brackets of JSON, as regular expressions over bytes.

Rules: possessive throughout: nothing is gained by going back, and the marks for it take memory.
This module must not know members, pieces or bounds.

Source: RFC 8259 sections 2, 6 and 7.
"""

import re
from typing import Final

# Before 3.11.5 a group repeated so was left where its last, failed try had come to (CPython issue
# 106052): a last alternative that always fails begins where the try began, and so puts it back.
_BACK: Final = rb"|(?!)"
WS: Final = re.compile(rb"[ \t\n\r]*+")
_SPACE: Final = rb"[ \t\n\r]*+"
_PLAIN: Final = rb'[^"\\\x00-\x1f]*+'
_ESCAPED: Final = (
    rb'\\(?:["\\/bfnrt]|u(?:[0-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    rb"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
TEXT: Final = re.compile(_PLAIN + rb"(?:" + _ESCAPED + _PLAIN + _BACK + rb")*+")
_HEX: Final = rb"[0-9a-fA-F]"
ESCAPE_BEGUN: Final = re.compile(
    rb"\\(?:u(?:[0-9a-cefA-CEF]H{0,3}|[dD](?:[0-7]H{0,2}|[c-fC-F]H?|[89abAB](?:H?"
    rb"|H{2}(?:\\(?:u(?:[dD](?:[c-fC-F]H?)?)?)?)?))?)?)?".replace(b"H", _HEX)
)
SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NUMBER: Final = (
    rb"-?+(?!0[0-9])[0-9]++(?:\.[0-9]++" + _BACK + rb")?+(?:[eE][+-]?+[0-9]++" + _BACK + rb")?+"
)
ONE_NUMBER: Final = re.compile(_NUMBER)
NUMERIC: Final = re.compile(rb"[-+.0-9eE]*+")
NUMBERS: Final = re.compile(rb"(?:" + _SPACE + _NUMBER + _SPACE + rb"," + _BACK + rb")*+")
STRINGS: Final = re.compile(
    rb"(?:" + _SPACE + rb'"' + _PLAIN + rb'"' + _SPACE + rb"," + _BACK + rb")*+"
)
ESCAPE: Final = re.compile(rb"\\(u[dD][c-fC-F]|u|.)", re.DOTALL)
