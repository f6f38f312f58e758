"""Life of model servers: preparing, starting, watching, asking. Nothing here knows the page."""
