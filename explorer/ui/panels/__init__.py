"""One panel per file: layout, then events."""
