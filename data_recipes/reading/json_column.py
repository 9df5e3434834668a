"""One column of strings out of JSON lines, by a compiled pass that leaves Python's lock free.

`orjson` makes Python objects of every line while all other threads wait; `pyarrow.json` makes none, but takes 1.9 ns a
byte without checks for lines that are not one object, where this takes 1.2 (a whole build takes 9). This pass knows the
grammar of JSON (RFC 8259) and the plain case only: each line an object, in which the column is there once and holds a
string. Of anything else it says that it is there, and the libraries read those rows.
"""

from typing import Any

import numba
import numpy as np
import pyarrow as pa

# Deeper values are left to the libraries; 64 bits say which of the open values are objects.
DEEPEST = 63
TAB, NEWLINE, RETURN, SPACE = 0x09, 0x0A, 0x0D, 0x20
QUOTE, PLUS, COMMA, MINUS, DOT, SLASH, COLON, BACKSLASH = (ord(sign) for sign in '"+,-./:\\')
OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT = (ord(sign) for sign in "[]{}")
ZERO, NINE, SMALL_A, SMALL_B, SMALL_E, SMALL_F, SMALL_L = (ord(sign) for sign in "09abefl")
SMALL_N, SMALL_R, SMALL_S, SMALL_T, SMALL_U, LARGE_A, LARGE_E, LARGE_F = (ord(sign) for sign in "nrstuAEF")
WRONG = -1
"""In place of a position: this is not JSON, or not the plain case."""
# Bytes of a string that stand for themselves: no quote, no backslash, no control character.
PLAIN = np.array([byte >= SPACE and byte not in (QUOTE, BACKSLASH) for byte in range(256)])


def column_of_lines(block: bytes | memoryview, column: str, newlines: int) -> pa.LargeStringArray | None:
    """The strings of a column, one for each line; None where a line is not the plain case, or not UTF-8.
    `newlines`: so many has the block."""
    if block[-1:] != b"\n":  # every loop below ends at it
        block, newlines = bytes(block) + b"\n", newlines + 1
    data = np.frombuffer(block, np.uint8)
    content = np.empty(len(data), np.uint8)
    ends = np.zeros(newlines + 1, np.int64)
    if not _read_lines(data, np.array(bytearray(column.encode())), content, ends):
        return None
    try:  # what was passed over is UTF-8 too, or the libraries refuse the line
        whole = pa.py_buffer(np.array([0, len(data)], np.int64))
        pa.LargeStringArray.from_buffers(1, whole, pa.py_buffer(block)).validate(full=True)
    except pa.ArrowInvalid:
        return None
    return pa.LargeStringArray.from_buffers(len(ends) - 1, pa.py_buffer(ends), pa.py_buffer(content[: ends[-1]]))


def newlines_in(block: bytes | memoryview) -> int:
    """Five times as fast as `bytes.count`, and other threads run meanwhile."""
    return int(_newlines_in(np.frombuffer(block, np.uint8)))


@numba.njit(cache=True, nogil=True)
def _newlines_in(data):  # pragma: no cover - compiled
    count: Any = 0
    # No more at a time than a byte can count: 64 of them are added in one step.
    for start in range(0, len(data), 255):
        few: Any = np.uint8(0)
        for place in range(start, min(start + 255, len(data))):
            few = np.uint8(few + np.uint8(data[np.uint64(place)] == np.uint8(NEWLINE)))
        count += few
    return count


@numba.njit(cache=True, nogil=True)
def _read_lines(data, column, content, ends):  # pragma: no cover - compiled
    """Fill `content` with the strings, one behind the other, and `ends` with where each ends."""
    place, written = 0, 0
    for line in range(len(ends) - 1):
        if data[place] != OPEN_OBJECT:
            return False
        place = _behind_space(data, place + 1)
        found = False
        while True:
            start = place + 1
            value = _behind_key(data, place)
            if value == WRONG:
                return False
            is_column = True  # a key with an escape, or a longer one, differs at the latest at its closing quote
            for offset in range(len(column)):
                if data[start + offset] != column[offset]:
                    is_column = False
                    break
            if is_column and data[start + len(column)] == QUOTE:
                if found or data[value] != QUOTE:
                    return False
                found = True
                place, written = _copy_string(data, value + 1, content, written)
            else:
                place = _behind_value(data, value)
            if place == WRONG:
                return False
            place = _behind_space(data, place)
            if data[place] == CLOSE_OBJECT:
                break
            if data[place] != COMMA:
                return False
            place = _behind_space(data, place + 1)
        place = _behind_space(data, place + 1)
        if data[place] != NEWLINE or not found:
            return False
        place += 1
        ends[line + 1] = written
    return True


@numba.njit(cache=True, nogil=True, inline="always")
def _behind_space(data, place):  # pragma: no cover - compiled
    while data[place] == SPACE or data[place] == TAB or data[place] == RETURN:
        place += 1
    return place


@numba.njit(cache=True, nogil=True)
def _behind_key(data, place):  # pragma: no cover - compiled
    """Where the value of an object's member begins whose key begins here. An escape might spell the column's name."""
    if data[place] != QUOTE:
        return WRONG
    place += 1
    while PLAIN[data[place]]:
        place += 1
    if data[place] != QUOTE:
        return WRONG
    place = _behind_space(data, place + 1)
    return _behind_space(data, place + 1) if data[place] == COLON else WRONG


@numba.njit(cache=True, nogil=True)
def _copy_string(data, place, content, written):  # pragma: no cover - compiled
    """Write the string that begins here without its escapes; the places behind it, and behind what was written."""
    one = np.uint64(1)
    while True:
        # Unsigned, as numba looks at each signed index whether it counts from the end.
        source, target = np.uint64(place), np.uint64(written)
        while PLAIN[data[source]]:
            content[target] = data[source]
            source += one
            target += one
        place, written = int(source), int(target)
        if data[place] == QUOTE:
            return place + 1, written
        if data[place] != BACKSLASH:
            return WRONG, written
        sign = data[place + 1]
        if sign == SMALL_U:
            code = _hexadecimal(data, place + 2)
            place += 6
            if code == WRONG:
                return WRONG, written
            if 0xD800 <= code < 0xE000:
                # A pair of surrogates is a character; one alone is none.
                low = (
                    _hexadecimal(data, place + 2) if data[place] == BACKSLASH and data[place + 1] == SMALL_U else WRONG
                )
                if code >= 0xDC00 or low < 0xDC00 or low >= 0xE000:
                    return WRONG, written
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                place += 6
            written = _write_utf8(code, content, written)
            continue
        if sign == SMALL_N:
            sign = np.uint8(NEWLINE)
        elif sign == SMALL_T:
            sign = np.uint8(TAB)
        elif sign == SMALL_R:
            sign = np.uint8(RETURN)
        elif sign == SMALL_B:
            sign = np.uint8(0x08)
        elif sign == SMALL_F:
            sign = np.uint8(0x0C)
        elif sign != QUOTE and sign != BACKSLASH and sign != SLASH:
            return WRONG, written
        content[written] = sign
        written += 1
        place += 2


@numba.njit(cache=True, nogil=True)
def _hexadecimal(data, place):  # pragma: no cover - compiled
    code: Any = 0
    for offset in range(4):
        digit = np.int64(data[place + offset])
        if ZERO <= digit <= NINE:
            digit -= ZERO
        elif SMALL_A <= digit <= SMALL_F:
            digit -= SMALL_A - 10
        elif LARGE_A <= digit <= LARGE_F:
            digit -= LARGE_A - 10
        else:
            return WRONG
        code = 16 * code + digit
    return code


@numba.njit(cache=True, nogil=True)
def _write_utf8(code, content, written):  # pragma: no cover - compiled
    if code < 0x80:
        content[written] = code
        return written + 1
    further = 1 if code < 0x800 else 2 if code < 0x10000 else 3
    first_bits = 0xC0 if further == 1 else 0xE0 if further == 2 else 0xF0
    content[written] = first_bits | (code >> (6 * further))
    for offset in range(1, further + 1):
        content[written + offset] = 0x80 | ((code >> (6 * (further - offset))) & 0x3F)
    return written + further + 1


@numba.njit(cache=True, nogil=True)
def _behind_value(data, place):  # pragma: no cover - compiled
    depth = 0
    objects = np.uint64(0)
    one = np.uint64(1)
    while True:
        sign = data[place]
        if sign in (OPEN_OBJECT, OPEN_LIST):
            if depth == DEEPEST:
                return WRONG
            depth += 1
            objects = (objects << one) | np.uint64(sign == OPEN_OBJECT)
            place = _behind_space(data, place + 1)
            if data[place] != (CLOSE_OBJECT if sign == OPEN_OBJECT else CLOSE_LIST):
                if sign == OPEN_OBJECT:
                    place = _behind_key(data, place)
                    if place == WRONG:
                        return WRONG
                continue
        else:
            place = _behind_scalar(data, place)
            if place == WRONG:
                return WRONG
        while depth > 0:
            in_object = (objects & one) == one
            place = _behind_space(data, place)
            if data[place] == COMMA:
                place = _behind_space(data, place + 1)
                if in_object:
                    place = _behind_key(data, place)
                    if place == WRONG:
                        return WRONG
                break
            if data[place] != (CLOSE_OBJECT if in_object else CLOSE_LIST):
                return WRONG
            depth -= 1
            objects >>= one
            place += 1
        else:
            return place


@numba.njit(cache=True, nogil=True)
def _behind_scalar(data, place):  # pragma: no cover - compiled
    sign = data[place]
    if sign == QUOTE:
        return _behind_string(data, place + 1)
    if sign in (SMALL_T, SMALL_F, SMALL_N):
        return _behind_word(data, place)
    if sign == MINUS:
        place += 1
    if data[place] == ZERO:
        place += 1
    else:
        place = _behind_digits(data, place)
    if place != WRONG and data[place] == DOT:
        place = _behind_digits(data, place + 1)
    if place != WRONG and (data[place] == SMALL_E or data[place] == LARGE_E):
        place += 1
        if data[place] == PLUS or data[place] == MINUS:
            place += 1
        place = _behind_digits(data, place)
    return place


@numba.njit(cache=True, nogil=True)
def _behind_digits(data, place):  # pragma: no cover - compiled
    start = place
    while ZERO <= data[place] <= NINE:
        place += 1
    return place if place > start else WRONG


@numba.njit(cache=True, nogil=True)
def _behind_word(data, place):  # pragma: no cover - compiled
    """Behind true, false or null."""
    second, third, fourth = data[place + 1], data[place + 2], data[place + 3]
    if data[place] == SMALL_T:
        return place + 4 if second == SMALL_R and third == SMALL_U and fourth == SMALL_E else WRONG
    if data[place] == SMALL_N:
        return place + 4 if second == SMALL_U and third == SMALL_L and fourth == SMALL_L else WRONG
    is_false = second == SMALL_A and third == SMALL_L and fourth == SMALL_S and data[place + 4] == SMALL_E
    return place + 5 if is_false else WRONG


@numba.njit(cache=True, nogil=True)
def _behind_string(data, place):  # pragma: no cover - compiled
    while True:
        while PLAIN[data[place]]:
            place += 1
        if data[place] == QUOTE:
            return place + 1
        if data[place] != BACKSLASH:
            return WRONG
        sign = data[place + 1]
        if sign == SMALL_U:
            if _hexadecimal(data, place + 2) == WRONG:
                return WRONG
            place += 6
        elif sign in (QUOTE, BACKSLASH, SLASH, SMALL_N, SMALL_T, SMALL_R, SMALL_B, SMALL_F):
            place += 2
        else:
            return WRONG
