"""The model card, written from records."""
