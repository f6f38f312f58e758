"""What runs in the tools' own interpreters. Imports nothing else of Diptych; see ``components/quantize/script.py``."""
