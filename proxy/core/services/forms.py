"""Form data of a service as typed values, with the same errors as JSON.

Rules: a field that is asked for may be there once, and not as a file: two readers could choose
differently. This module must not know any endpoint.
"""

from collections.abc import Callable
from typing import Final

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.form_headers import read_boundary
from proxy.core.multipart import Field, FilePart, FormScanner, Sink
from proxy.core.services.fields import (
    NamedModel,
    TextSize,
    check_model,
    integer_of,
    invalid,
    missing_model,
)
from proxy.core.services.service import ModelPlace, ServiceRequest

_FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}


class FormFields:
    """The fields and files of a form that was read to its end."""

    __slots__ = ("_boundary", "_fields", "_first", "_named", "files")

    def __init__(self, scanner: FormScanner, boundary: bytes, named: str = "") -> None:
        self._named = named
        self.files = scanner.files
        self._fields = scanner.fields
        self._first = scanner.first
        self._boundary = boundary

    def model(self, default: str | None = None) -> NamedModel:
        """Return the model; without a default it must be there."""
        field = self._given("model")
        if field is not None:
            place = ModelPlace(field.start, field.end, quoted=False)
            return NamedModel(check_model(_text(field)), place, given=True)
        default = self._named or default
        if default is None:
            raise missing_model()
        before = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n' % self._boundary
        place = ModelPlace(self._first, self._first, before, b"\r\n", quoted=False)
        return NamedModel(default, place, given=False)

    def has(self, name: str) -> bool:
        """Tell whether a field is there."""
        return self._given(name) is not None

    def word(self, name: str) -> str:
        """Return a short string; empty for none."""
        field = self._given(name)
        return "" if field is None else _text(field)

    def integer(self, name: str, maximum: int, *, minimum: int = 1) -> int | None:
        """Return an integer of a range; None for none."""
        field = self._given(name)
        return None if field is None else integer_of(name, field.value or b"", maximum, minimum)

    def flag(self, name: str) -> bool:
        """Return true or false; False for none."""
        field = self._given(name)
        if field is None:
            return False
        value = _FLAGS.get(_text(field).lower())
        if value is None:
            raise invalid(name, "must be true or false")
        return value

    def text(self, name: str) -> TextSize:
        """Return the size of a field, if it is there."""
        field = self._given(name)
        return TextSize() if field is None else TextSize(field.narrow, field.wide)

    def file(self, name: str, what: str) -> FilePart:
        """Return the one file of that name, which must be there and not empty."""
        found = [file for file in self.files if file.name == name]
        if not found:
            raise invalid(name, f"is required: send {what} as a file")
        if len(found) > 1:
            raise invalid(name, "is there twice: send it once")
        if not found[0].size:
            raise invalid(name, "is empty: send the whole file")
        return found[0]

    def _given(self, name: str) -> Field | None:
        found = [field for field in self._fields if field.name == name]
        if len(found) > 1:
            raise invalid(name, "is there twice: send it once")
        if any(file.name == name for file in self.files):
            raise invalid(name, "must be a plain field, not a file")
        return found[0] if found else None


class FormReader:
    """Reads form data; a `RequestReader`."""

    __slots__ = ("_boundary", "_named", "_read", "_scanner")

    def __init__(
        self,
        content_type: str,
        read: Callable[[FormFields], ServiceRequest],
        watch: Callable[[FilePart], Sink | None],
        named: str = "",
    ) -> None:
        """Raise RelayError for a content type that is no form's."""
        self._named = named
        boundary = read_boundary(content_type)
        if isinstance(boundary, str):
            raise RelayError(
                ErrorCode.INVALID_REQUEST,
                f"This endpoint takes form data, but the content type {boundary}.",
            )
        self._boundary = boundary
        self._scanner = FormScanner(boundary, watch)
        self._read = read

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises RelayError."""
        self._scanner.feed(piece)
        self._check()

    def finish(self) -> ServiceRequest:
        """Say that the body has ended. Raises RelayError."""
        self._scanner.finish()
        self._check()
        return self._read(FormFields(self._scanner, self._boundary, self._named))

    def _check(self) -> None:
        if self._scanner.fault is not None:
            raise RelayError(
                ErrorCode.INVALID_REQUEST, f"The form data {self._scanner.fault.problem}."
            )


def _text(field: Field) -> str:
    """Return the text of a small field. Raises RelayError."""
    if field.value is None:
        raise invalid(field.name, "must be a short string")
    try:
        return field.value.decode()
    except UnicodeDecodeError:
        raise invalid(field.name, "must be UTF-8") from None
