"""Runs inside vLLM's worker, not in the app: exact same-path scoring from hidden states.

Needs torch, numpy, safetensors and vLLM only; must never import from ``components``. The app asks through the
sampling parameter ``extra_args`` of ordinary requests (see ``jobs.py``) and reads what comes back as files.
"""
