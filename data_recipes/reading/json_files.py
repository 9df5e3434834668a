"""The forms of JSON files: an object on each line, an array, or objects over several lines; known by how they begin.

Values are parsed one by one, so that an array of any size takes the memory of its largest element; lines are read many
at a time.
"""

import codecs
import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, cast

JsonForm = Literal["lines", "array", "objects"]
HEAD_LINES = 100
HEAD_BYTES = 16 * 2**20
CHUNK_BYTES = 2**20
BLOCK_BYTES = 4 * 2**20
LARGEST_VALUE = 256 * 2**20
SPACE = " \t\r\n"
BLANK = b" \t\r\n" + codecs.BOM_UTF8
ENDS = (*SPACE, ",", "]")


class MalformedJson(ValueError):
    """A file that stops being JSON: what follows cannot be found any more."""


def json_form(stream: BinaryIO) -> JsonForm:
    """How the values follow each other, by the first character and the first lines."""
    line = b""
    while not line.strip(BLANK):
        line = stream.readline(HEAD_BYTES)
        if not line:
            return "lines"
    first = line.lstrip(BLANK)[:1]
    if first == b"[":
        return "array"
    if first != b"{":
        return "lines"
    read = 0
    for _ in range(HEAD_LINES):  # the first may be damaged; a line within an object is no object by itself
        if _is_object(line):
            return "lines"
        read += len(line)
        if not line or read > HEAD_BYTES:
            break
        line = stream.readline(HEAD_BYTES)
    return "objects"


def _is_object(line: bytes) -> bool:
    try:
        return not line[:1].isspace() and isinstance(json.loads(line.removeprefix(codecs.BOM_UTF8)), dict)
    except (ValueError, RecursionError):
        return False


def whole_lines(stream: BinaryIO, position: int, stop: int) -> Iterator[memoryview]:
    """The lines that begin between `position`, where the stream is, and `stop` (-1: at its end), about `BLOCK_BYTES` of
    them at a time, all read into one buffer. The error of a damaged compressed file comes behind the lines before it.
    """
    buffer = bytearray(2 * BLOCK_BYTES)
    view, readable = memoryview(buffer), memoryview(buffer).toreadonly()
    held = 0  # bytes of a line that goes on in the next block
    while stop < 0 or position < stop:
        # Up to a multiple of the size: whole pieces of an `UnchangedFile` are read without a copy.
        size = BLOCK_BYTES - position % BLOCK_BYTES
        wanted = held + (size if stop < 0 else min(size, stop - position))
        end, tail = held, b""
        try:
            while end < wanted and (read := cast(Any, stream).readinto1(view[end:wanted])):
                end += read
            position += end - held
            ended = end < wanted or position == stop
            cut = buffer.rfind(b"\n", 0, end) + 1
            if cut < end and (ended or not cut):
                tail = stream.readline()
                position += len(tail)
        except (EOFError, OSError, zlib.error):
            yield readable[: buffer.rfind(b"\n", 0, end) + 1]
            raise
        if tail and end + len(tail) > len(buffer):
            yield memoryview(bytes(readable[:end]) + tail)
            held = 0
        elif ended or tail:
            view[end : end + len(tail)] = tail
            yield readable[: end + len(tail)]
            held = 0
        else:
            yield readable[:cut]
            held = end - cut
            view[:held] = view[cut:end]
        if end < wanted:
            return


def json_values(stream: BinaryIO, form: JsonForm) -> Iterator[tuple[int, Any]]:
    """The elements of an array, or values one after the other, numbered from 0. `MalformedJson` where they end.

    Bytes that are not UTF-8 become lone surrogates, which no text of a document may hold.
    """
    text = _Text(stream)
    if form == "array":
        text.expect("[", "a value")
        if text.next_is("]"):
            return text.expect_end()
    number = 0
    while form == "array" or not text.at_end():
        yield number, text.value(number)
        number += 1
        if form == "array":
            if text.next_is("]"):
                return text.expect_end()
            text.expect(",", f"value {number}")
    return None


class _Text:
    """The part of a stream that is read and not yet parsed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        self._parse = json.JSONDecoder().raw_decode
        self._held = ""
        self._place = 0
        self._ended = False

    def value(self, number: int) -> Any:
        """The next value; more is read as long as it may lie in what was not read yet."""
        self._skip_space()
        size = CHUNK_BYTES
        while True:
            try:
                value, end = self._parse(self._held, self._place)
            except (ValueError, RecursionError) as error:
                if self._ended or len(self._held) - self._place > LARGEST_VALUE:
                    raise MalformedJson(f"value {number} is not JSON: {error}") from error
            else:
                # A number may continue in the next chunk: 1.5e6 begins with 1.
                if self._ended or self._held[end : end + 1] in ENDS or not isinstance(value, int | float):
                    self._place = end
                    return value
            self._read(size)
            size *= 2  # so that a large value is parsed again a few times only

    def next_is(self, sign: str) -> bool:
        """Whether the next character is this one; if so, it is skipped."""
        self._skip_space()
        if self._held[self._place : self._place + 1] != sign:
            return False
        self._place += 1
        return True

    def expect(self, sign: str, before: str) -> None:
        if not self.next_is(sign):
            found = self._held[self._place : self._place + 1]
            raise MalformedJson(f"{repr(found) if found else 'the end'} found before {before}, expected {sign!r}")

    def expect_end(self) -> None:
        if not self.at_end():
            raise MalformedJson("something follows the array")

    def at_end(self) -> bool:
        self._skip_space()
        return self._place == len(self._held)

    def _skip_space(self) -> None:
        while True:
            while self._place < len(self._held) and self._held[self._place] in SPACE:
                self._place += 1
            if self._place < len(self._held) or self._ended:
                return
            self._read(CHUNK_BYTES)

    def _read(self, size: int) -> None:
        content = self._stream.read(size)
        self._ended = not content
        self._held = self._held[self._place :] + self._decode(content, final=self._ended)
        self._place = 0
