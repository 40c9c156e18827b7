"""An answer that the browser keeps as a file."""

from authz.protocol.request import Answer


def kept_file(content: bytes, media_type: str, name: str) -> Answer:
    """A file for the person to keep."""
    return Answer(
        200,
        (
            ("Content-Type", media_type),
            ("Content-Disposition", f'attachment; filename="{name}"'),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ),
        content,
    )
