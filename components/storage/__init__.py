"""Database, content-addressed files and canonical images. Knows nothing of engines or the page."""
