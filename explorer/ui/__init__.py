"""The page: theme, sessions, one panel per file. The only importer of gradio besides app.py."""
