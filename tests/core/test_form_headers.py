"""Header lines of form data: what they say, and what two readers could take for two things."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import form_headers
from proxy.core.form_headers import PartHead, read_boundary, read_head


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ("Multipart/Form-Data;boundary=abc", b"abc"),
        ('multipart/form-data; boundary="a b:c"', b"a b:c"),
        ("multipart/form-data; charset=utf-8; BOUNDARY=abc;", b"abc"),
        ("multipart/form-data ; boundary = abc ", b"abc"),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxk",
            b"----WebKitFormBoundary7MA4YWxk",
        ),
        ("multipart/form-data; boundary=a=b?c/d", b"a=b?c/d"),
        ("multipart/form-data; boundary=" + "x" * 70, b"x" * 70),
        ("multipart/form-data; boundary='abc'", b"'abc'"),
    ],
)
def test_a_boundary_is_read(header: str, boundary: bytes) -> None:
    assert read_boundary(header) == boundary


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("", "must be multipart"),
        ("application/json", "must be multipart"),
        ("multipart/mixed; boundary=abc", "must be multipart"),
        ("multipart/form-data", "names no boundary"),
        ("multipart/form-data; charset=utf-8", "names no boundary"),
        ("multipart/form-data; boundary=a; boundary=a", "names two boundaries"),
        ("multipart/form-data; boundary=", "is none"),
        ('multipart/form-data; boundary=""', "is none"),
        ('multipart/form-data; boundary="abc "', "is none"),
        ("multipart/form-data; boundary=" + "x" * 71, "is none"),
        ("multipart/form-data; boundary=a\\b", "is none"),
        ("multipart/form-data; boundary=é", "is none"),
        ('multipart/form-data; boundary="abc', "cannot be read"),
        ('multipart/form-data; boundary="a"b', "cannot be read"),
        ("multipart/form-data; what", "cannot be read"),
        ('multipart/form-data; boundary="a\\"b"', "is none"),
    ],
)
def test_what_names_no_boundary_says_so(header: str, problem: str) -> None:
    said = read_boundary(header)
    assert isinstance(said, str)
    assert problem in said


NAMED = 'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    ("block", "head"),
    [
        (NAMED, PartHead("a", None, "")),
        ("content-disposition:form-data;name=a", PartHead("a", None, "")),
        ("CONTENT-DISPOSITION: FORM-DATA; NAME=a", PartHead("a", None, "")),
        (
            NAMED + "\r\nContent-Type: text/plain; charset=x",
            PartHead("a", None, "text/plain; charset=x"),
        ),
        (
            NAMED + '; filename="b.mp3"\r\nContent-Type: audio/mpeg',
            PartHead("a", "b.mp3", "audio/mpeg"),
        ),
        (NAMED + '; filename=""', PartHead("a", "", "")),
        (NAMED + "; filename=b.mp3", PartHead("a", "b.mp3", "")),
        (NAMED + '; filename="C:\\\\b\\".mp3"', PartHead("a", 'C:\\b".mp3', "")),
        (NAMED + '; filename="%22b%0D.mp3"', PartHead("a", '"b\r.mp3', "")),
        (NAMED + "; filename=x; filename*=UTF-8''%c3%a9.mp3", PartHead("a", "é.mp3", "")),
        (NAMED + "; filename*=utf-8'en'%ff", PartHead("a", "\ufffd", "")),
        (NAMED + "; filename*=latin1''%e9", PartHead("a", "latin1''\ufffd", "")),
        (NAMED + "; filename*=plain", PartHead("a", "plain", "")),
        ('Content-Disposition: form-data; name="%6dodel"', PartHead("model", None, "")),
        ('Content-Disposition: form-data; name="image[]"', PartHead("image[]", None, "")),
        ('Content-Disposition: form-data; name="日本"', PartHead("日本", None, "")),
        (NAMED + "\r\nContent-Transfer-Encoding: 8BIT\r\nX-Other: 1", PartHead("a", None, "")),
    ],
)
def test_a_head_is_read(block: str, head: PartHead) -> None:
    assert read_head(block.encode()) == head


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("", "a header line that is none"),
        ("X: 1", "no Content-Disposition"),
        ("no colon", "a header line that is none"),
        ("X : 1", "a header line that is none"),
        (NAMED + "\r\n folded: yes", "a header line that is none"),
        (NAMED + "\nX: 1", "a header line that is none"),
        (NAMED + "\0", "a header line that is none"),
        (NAMED + "\r\n" + NAMED, "the header Content-Disposition twice"),
        (NAMED + "\r\nX: 1\r\nx: 2", "the header x twice"),
        (NAMED + "\r\nContent-Transfer-Encoding: base64", "a Content-Transfer-Encoding"),
        ('Content-Disposition: attachment; name="a"', "that is not form-data"),
        ("Content-Disposition: form-data", "without a plain name"),
        ("Content-Disposition: form-data; filename=a", "without a plain name"),
        ("Content-Disposition: form-data; name*=UTF-8''model", "without a plain name"),
        (NAMED + "; name*=UTF-8''model", "without a plain name"),
        (NAMED + "; name=b", "a parameter twice"),
        (NAMED + "; filename=b; FILENAME=c", "a parameter twice"),
        ('Content-Disposition: form-data; name="a', "cannot be read"),
        ('Content-Disposition: form-data; name="a"b', "cannot be read"),
        ("Content-Disposition: form-data; a", "cannot be read"),
        ('Content-Disposition: form-data; name=""', "a name that is empty"),
        ("Content-Disposition: form-data; name=", "a name that is empty"),
        ('Content-Disposition: form-data; name="mod\\el"', "or escaped"),
        ('Content-Disposition: form-data; name="=?utf-8?q?model?="', "or escaped"),
        (f'Content-Disposition: form-data; name="{"x" * 257}"', "longer than 256"),
        (NAMED + f'; filename="{"x" * 1025}"', "a file name longer than 1024"),
    ],
)
def test_an_odd_head_is_refused(block: str, problem: str) -> None:
    said = read_head(block.encode())
    assert isinstance(said, str)
    assert problem in said
    assert said.startswith("has ")


def test_headers_must_be_utf8() -> None:
    assert read_head(NAMED.encode() + b'; filename="\xe9"') == "has headers that are not UTF-8"


@given(st.binary(max_size=60), st.text(max_size=60))
def test_nothing_raises(block: bytes, header: str) -> None:
    read_head(block)
    read_head(NAMED.encode() + b"; " + block)
    read_boundary(header)
    read_boundary("multipart/form-data; " + header)
    assert form_headers.BOUNDARY_CHARS_MAX == 70
