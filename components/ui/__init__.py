"""The look of the page and what stands in front of it: theme, views, request guards. No meaning of its own."""
