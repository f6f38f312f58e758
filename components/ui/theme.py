"""Theme and page assets: paper and ink, two colours with a meaning. The colours themselves are in assets/css."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gradio as gr

_SCRIPTS = ("vendor/purify-3.4.18.min.js", "vendor/marked-17.0.6.umd.js", "diptych.js", "column.js", "composer.js",
            "viewer.js", "eyes.js", "divergence.js", "repeat.js", "review.js", "review_side.js", "review_report.js",
            "models.js", "memory.js", "quantize.js", "publish.js", "jobs.js", "benchmark_charts.js",
            "benchmarks.js")  # fmt: skip


def diptych_theme() -> gr.themes.Base:
    """Gradio's own components in our colours; system fonts, so that no font is fetched from anywhere."""
    sans = ("Inter", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace")
    both = {
        "body_background_fill": "var(--paper)",
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--soft)",
        "background_fill_primary": "var(--panel)",
        "background_fill_secondary": "var(--paper)",
        "block_background_fill": "transparent",
        "block_border_width": "0px",
        "block_label_background_fill": "transparent",
        "block_label_text_color": "var(--soft)",
        "block_title_text_color": "var(--soft)",
        "block_shadow": "none",
        "border_color_primary": "var(--line)",
        "border_color_accent": "var(--base)",
        "color_accent": "var(--base)",
        "color_accent_soft": "var(--tint)",
        "input_background_fill": "var(--panel)",
        "input_border_color": "var(--line)",
        "input_border_color_focus": "var(--base)",
        "input_shadow": "none",
        "input_shadow_focus": "none",
        "panel_background_fill": "transparent",
        "panel_border_width": "0px",
        "button_secondary_background_fill": "transparent",
        "button_secondary_background_fill_hover": "var(--tint)",
        "button_secondary_text_color": "var(--ink)",
        "button_secondary_border_color": "var(--line)",
        "slider_color": "var(--base)",
        "link_text_color": "var(--base)",
    }
    dark = {f"{name}_dark": value for name, value in both.items() if name not in {"color_accent"}}
    theme = gr.themes.Base(
        font=[*sans], font_mono=[*mono], radius_size=gr.themes.sizes.radius_md, text_size=gr.themes.sizes.text_md
    )
    return theme.set(**both, **dark)


def page_head(assets: Path, *, recorded: bool = False) -> str:
    """Tags for the document's head; each address carries the files' hash, so that no old version is ever used.

    ``recorded``: the scripts leave out what would ask or start something.
    """
    files = [assets / "js" / name for name in _SCRIPTS]
    version = hashlib.sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()[:12]
    tags = [f'<script src="look/js/{name}?v={version}"></script>' for name in _SCRIPTS]
    mode = '<meta name="diptych-mode" content="recorded">' if recorded else ""
    return '<meta name="color-scheme" content="light dark">' + mode + "".join(tags)


def page_css(assets: Path) -> list[Path]:
    """Style sheets of the page."""
    return sorted((assets / "css").glob("*.css"))
