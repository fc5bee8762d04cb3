"""Text made small."""

import base64
import bz2
import lzma
import zlib

import corpus

ALGORITHMS = {
    "zlib": (zlib.compress, zlib.decompress),
    "bz2": (bz2.compress, bz2.decompress),
    "lzma": (lambda data, level: lzma.compress(data, preset=level), lzma.decompress),
}


class Compressor:
    def __init__(self, algorithm="zlib", level=6):
        self._compress, self._decompress = ALGORITHMS[algorithm]
        self._level = level

    def ratio(self, name):
        """Compressed size over size of one text."""
        data = corpus.text(name).encode()
        return len(self._compress(data, self._level)) / len(data)

    def archive(self, names):
        """Size of many texts compressed as one with LZMA's best preset: slow by its nature."""
        data = "".join(corpus.text(name) for name in names).encode()
        return len(lzma.compress(data, preset=9))

    def compress(self, text):
        return base64.b64encode(self._compress(text.encode(), self._level)).decode()

    def decompress(self, encoded):
        """The text again; zlib.error (or what the algorithm raises) when the data is damaged."""
        return self._decompress(base64.b64decode(encoded)).decode()
