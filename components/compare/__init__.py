"""The Compare capability: one prompt over several engines, independent streams, stored turns."""
