"""Parts of every tool's script."""
