"""Content that runs, or hides what it is, told by its declared type and by its bytes.

What a clinical document carries is opened by people at other places, with whatever their machine opens it with. So
what runs there is refused, and what cannot be looked into. This is no virus scanner: a picture that breaks a viewer
passes.
"""

import binascii
import re
from enum import StrEnum

_BEGINNING = 1024
_LONGEST_MARK = 32
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


class Harm(StrEnum):
    """Kinds of content that may be refused."""

    EXECUTABLE = "executable"
    SCRIPT = "script"
    MACRO = "macro"
    MARKUP = "markup"
    ARCHIVE = "archive"


class RefusedContent(Exception):
    """Content that is not taken. The text says what kind it is, and nothing of it."""

    def __init__(self, harm: Harm) -> None:
        super().__init__(f"the content is of a kind that is not taken here: {harm}")


_TYPES: dict[Harm, frozenset[str]] = {
    Harm.EXECUTABLE: frozenset(
        {
            "application/java-archive", "application/vnd.android.package-archive", "application/wasm",
            "application/vnd.microsoft.portable-executable", "application/x-dosexec", "application/x-elf",
            "application/x-executable", "application/x-mach-binary", "application/x-ms-installer",
            "application/x-msdos-program",
            "application/x-msdownload", "application/x-ms-shortcut", "application/x-msi", "application/x-sharedlib",
        }
    ),
    Harm.SCRIPT: frozenset(
        {
            "application/ecmascript", "application/hta", "application/javascript", "application/x-bat", "application/x-csh",
            "application/x-httpd-php", "application/x-javascript", "application/x-perl", "application/x-php",
            "application/x-powershell", "application/x-python", "application/x-python-code", "application/x-sh",
            "application/x-shellscript", "text/ecmascript", "text/javascript", "text/vbscript", "text/x-php",
            "text/x-python", "text/x-sh", "text/x-shellscript",
        }
    ),
    Harm.MARKUP: frozenset(
        {
            "application/x-mimearchive", "application/xhtml+xml", "application/xslt+xml", "image/svg+xml", "message/rfc822",
            "multipart/related", "text/html", "text/xsl",
        }
    ),
    Harm.ARCHIVE: frozenset(
        {
            "application/gzip", "application/vnd.ms-cab-compressed", "application/vnd.rar", "application/x-7z-compressed",
            "application/x-bzip2", "application/x-compress", "application/x-gzip", "application/x-iso9660-image",
            "application/x-lzip", "application/x-rar-compressed", "application/x-tar", "application/x-xz", "application/zip",
            "application/x-zip-compressed", "application/zstd",
        }
    ),
}  # fmt: skip
_OFFICE = ("application/vnd.openxmlformats-officedocument.", "application/vnd.oasis.opendocument.")
_ZIP = b"PK\x03\x04"
_BEGINS: tuple[tuple[bytes, Harm], ...] = (
    (b"MZ", Harm.EXECUTABLE), (b"\x7fELF", Harm.EXECUTABLE), (b"\xfe\xed\xfa\xce", Harm.EXECUTABLE),
    (b"\xfe\xed\xfa\xcf", Harm.EXECUTABLE), (b"\xce\xfa\xed\xfe", Harm.EXECUTABLE), (b"\xcf\xfa\xed\xfe", Harm.EXECUTABLE),
    (b"\xca\xfe\xba\xbe", Harm.EXECUTABLE), (b"\x00asm", Harm.EXECUTABLE), (b"dex\n", Harm.EXECUTABLE),
    (b"L\x00\x00\x00\x01\x14\x02\x00", Harm.EXECUTABLE), (b"#!", Harm.SCRIPT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Harm.MACRO),  # an office file of old: whether it has macros takes a reader
    (_ZIP, Harm.ARCHIVE), (b"PK\x05\x06", Harm.ARCHIVE), (b"PK\x07\x08", Harm.ARCHIVE), (b"\x1f\x8b", Harm.ARCHIVE),
    (b"\x1f\x9d", Harm.ARCHIVE), (b"7z\xbc\xaf\x27\x1c", Harm.ARCHIVE), (b"Rar!\x1a\x07", Harm.ARCHIVE),
    (b"BZh", Harm.ARCHIVE), (b"\xfd7zXZ\x00", Harm.ARCHIVE), (b"\x28\xb5\x2f\xfd", Harm.ARCHIVE), (b"MSCF", Harm.ARCHIVE),
    (b"LZIP", Harm.ARCHIVE),
)  # fmt: skip
_MARKUP = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|svg|iframe|object|embed|[a-z]+:svg|[a-z]+:html|xsl:)[\s>/:]|mime-version:",
    re.I,
)
_SCRIPT = re.compile(rb"<script[\s>/]|<\?php|<%@|^\s*@echo\s+off", re.I)
# Marks within content of a kind, by how it begins.
_MARKS: tuple[tuple[bytes, tuple[bytes, ...], Harm], ...] = (
    (_ZIP, (b"vbaProject.bin", b"vbaData.xml", b"Basic/script-lb.xml", b"META-INF/MANIFEST.MF"), Harm.MACRO),
    (b"{\\rt", (b"\\objdata", b"\\objupdate"), Harm.MACRO),
    (b"%PDF", (b"/JavaScript", b"/Launch"), Harm.SCRIPT),
)


def harm_of_type(media_type: str) -> Harm | None:
    """What content of this type is; None for nothing that is refused."""
    kind = media_type.partition(";")[0].strip().lower()
    if "macroenabled" in kind:
        return Harm.MACRO
    return next((harm for harm, types in _TYPES.items() if kind in types), None)


def harm_of_beginning(beginning: bytes, media_type: str) -> Harm | None:
    """What content that begins so is. A package of an office format is none, where that is its declared type."""
    for mark, harm in _BEGINS:
        if beginning.startswith(mark):
            is_office = mark == _ZIP and media_type.lower().startswith(_OFFICE)
            return None if is_office else harm
    if beginning[257:262] == b"ustar":
        return Harm.ARCHIVE
    text = beginning.replace(b"\x00", b"")  # in wider encodings as well
    if _SCRIPT.search(text):
        return Harm.SCRIPT
    return Harm.MARKUP if _MARKUP.search(text) else None


class ContentWatch:
    """Content as it comes, in pieces. Every method raises RefusedContent for what is in refused."""

    def __init__(self, media_type: str, refused: frozenset[Harm]) -> None:
        self._media_type = media_type.partition(";")[0].strip()
        self._refused = refused
        self._beginning = bytearray()
        self._is_told = False
        self._marks: tuple[bytes, ...] = ()
        self._marked: Harm | None = None
        self._tail = b""
        self._refuse(harm_of_type(self._media_type))

    def feed(self, piece: bytes) -> None:
        """The next bytes."""
        if not self._is_told:
            self._beginning += piece
            if len(self._beginning) >= _BEGINNING:
                self._tell()
            return
        self._look(piece)

    def finish(self) -> None:
        """There are no more bytes."""
        if not self._is_told:
            self._tell()

    def _tell(self) -> None:
        self._is_told = True
        whole = bytes(self._beginning)
        self._beginning.clear()
        self._refuse(harm_of_beginning(whole[:_BEGINNING].lstrip(b"\xef\xbb\xbf"), self._media_type))
        for begins, marks, harm in _MARKS:
            if begins in whole[:_BEGINNING]:  # readers of PDF take what stands before it
                self._marks, self._marked = marks, harm
        self._look(whole)

    def _look(self, piece: bytes) -> None:
        if not self._marks:
            return
        looked_at = self._tail + piece
        if any(mark in looked_at for mark in self._marks):
            self._refuse(self._marked)
        self._tail = looked_at[-_LONGEST_MARK:]

    def _refuse(self, harm: Harm | None) -> None:
        if harm is not None and harm in self._refused:
            raise RefusedContent(harm)


class Base64Watch:
    """The same of content in base64, as it stands in a document. feed() and finish() raise ValueError: it is none.

    What is not of the alphabet is passed over, as RFC 2045 6.8 has it and as readers do; nothing stands behind padding.
    """

    def __init__(self, watch: ContentWatch) -> None:
        self._watch = watch
        self._pending = ""

    def feed(self, text: str) -> None:
        """The next characters."""
        self._pending += _NOT_BASE64.sub("", text)
        end = self._pending.find("=")
        if 0 <= end < len(self._pending) - 2:
            raise ValueError("not base64")
        whole = (len(self._pending) if end < 0 else end) // 4 * 4
        if whole >= 4096:
            self._decode(self._pending[:whole])
            self._pending = self._pending[whole:]

    def finish(self) -> None:
        """There are no more."""
        rest = self._pending.rstrip("=")
        if len(self._pending) - len(rest) > 2 or "=" in rest:
            raise ValueError("not base64")
        # The end of content that was cut short is looked at as far as it goes.
        self._decode(rest + "=" * (-len(rest) % 4) if len(rest) % 4 != 1 else rest[:-1])
        self._watch.finish()

    def _decode(self, text: str) -> None:
        if not _BASE64.fullmatch(text):
            raise ValueError("not base64")
        try:
            self._watch.feed(binascii.a2b_base64(text, strict_mode=True) if text else b"")
        except binascii.Error as error:
            raise ValueError("not base64") from error
