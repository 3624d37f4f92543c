"""What libtiff tells while it decodes: told to us instead of being printed on stderr.

libtiff has one handler of errors for the whole process, which prints. Ours is put in its place, once, when the first
TIFF is decoded here: it keeps what comes from a thread that listens, and hands on everything else to the one before.
Where Pillow has libtiff built in (Windows) there is nothing to put a handler into, and it prints as before.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from clip_qdrant.errors import TruncatedImage, UnsupportedImage

__all__ = ["check_messages", "collect_messages"]

_LONGEST = 500  # bytes of a message
_MOST_MESSAGES = 20
_UNSUPPORTED = ("not configured", "not supported", "not implemented", "cannot handle", "unsupported")
# void handler(const char *module, const char *format, va_list arguments). A va_list is handed over as an address.
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


class _Listening(threading.local):
    messages: list[str] | None = None


_LISTENING = _Listening()
_INSTALLING = threading.Lock()


@contextlib.contextmanager
def collect_messages() -> Iterator[list[str]]:
    """Errors of libtiff in this thread, as they come."""
    _install_handler()
    before, messages = _LISTENING.messages, list[str]()
    _LISTENING.messages = messages
    try:
        yield messages
    finally:
        _LISTENING.messages = before


def check_messages(messages: Sequence[str]) -> None:
    """Raises UnsupportedImage or TruncatedImage if there was an error."""
    if not messages:
        return
    said = "; ".join(dict.fromkeys(messages[:3]))
    if any(word in said.lower() for word in _UNSUPPORTED):
        raise UnsupportedImage(f"it cannot be decoded here: {said}")
    raise TruncatedImage(f"it is damaged: {said}")


def _install_handler() -> Any:
    """The handler, one for the whole process; None where libtiff cannot be reached."""
    with _INSTALLING:  # of two threads the handler of one would be put in, and that of the other kept
        return _make_handler()


@functools.lru_cache(maxsize=1)
def _make_handler() -> Any:
    try:
        # Looked up in the module of Pillow and what it is linked to: the libtiff that Pillow uses.
        library = ctypes.CDLL(importlib.import_module("PIL._imaging").__file__)
        set_handler = library.TIFFSetErrorHandler
        write = ctypes.CDLL(None).vsnprintf
    except (AttributeError, OSError, TypeError):
        return None
    write.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p]
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    before: Any = None

    def handle(module: bytes | None, words: bytes, arguments: int) -> None:
        messages = _LISTENING.messages
        if messages is None:
            if before is not None:
                before(module, words, arguments)
        elif len(messages) < _MOST_MESSAGES:
            text = ctypes.create_string_buffer(_LONGEST)
            write(text, _LONGEST, words, arguments)
            messages.append(text.value.decode("utf-8", "replace").strip(". "))

    handler = _HANDLER(handle)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handler))  # threads may decode while the interpreter ends
    if address := set_handler(handler):
        before = _HANDLER(address)
    return handler
