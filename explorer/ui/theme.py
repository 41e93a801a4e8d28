"""Gradio's own components in our design: the same tokens as `assets/theme.css`, light and dark."""

from __future__ import annotations

import gradio as gr


def theme() -> gr.themes.Base:
    """A quiet theme whose colours are the tokens of `assets/theme.css`, so that there is one palette."""
    sans = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")
    mono = (gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace")
    both = {
        "body_background_fill": "var(--lr-bg)",
        "body_text_color": "var(--lr-ink)",
        "body_text_color_subdued": "var(--lr-ink-3)",
        "background_fill_primary": "var(--lr-surface)",
        "background_fill_secondary": "var(--lr-raised)",
        "block_background_fill": "transparent",
        "block_border_color": "var(--lr-line)",
        "block_label_text_color": "var(--lr-ink-2)",
        "block_title_text_color": "var(--lr-ink)",
        "block_info_text_color": "var(--lr-ink-3)",
        "border_color_primary": "var(--lr-line)",
        "border_color_accent": "var(--lr-accent)",
        "color_accent_soft": "var(--lr-toward-soft)",
        "input_background_fill": "var(--lr-surface)",
        "input_border_color": "var(--lr-line-strong)",
        "input_border_color_focus": "var(--lr-focus)",
        "input_placeholder_color": "var(--lr-ink-3)",
        "button_primary_background_fill": "var(--lr-accent)",
        "button_primary_background_fill_hover": "var(--lr-accent)",
        "button_primary_text_color": "var(--lr-on-accent)",
        "button_primary_border_color": "var(--lr-accent)",
        "button_secondary_background_fill": "var(--lr-surface)",
        "button_secondary_background_fill_hover": "var(--lr-raised)",
        "button_secondary_text_color": "var(--lr-ink)",
        "button_secondary_border_color": "var(--lr-line-strong)",
        "slider_color": "var(--lr-accent)",
        "checkbox_background_color": "var(--lr-surface)",
        "checkbox_background_color_selected": "var(--lr-accent)",
        "checkbox_border_color": "var(--lr-line-strong)",
        "checkbox_label_background_fill": "var(--lr-surface)",
        "checkbox_label_background_fill_selected": "var(--lr-toward-soft)",
        "checkbox_label_text_color": "var(--lr-ink)",
        "checkbox_label_text_color_selected": "var(--lr-ink)",
        "panel_background_fill": "var(--lr-surface)",
    }
    base = gr.themes.Base(font=sans, font_mono=mono, radius_size="md", spacing_size="md", text_size="md")
    dark = {f"{key}_dark": value for key, value in both.items()}
    return base.set(
        **both,
        **dark,
        block_shadow="none",
        block_border_width="0px",
        block_padding="0",
        form_gap_width="16px",
        layout_gap="16px",
        input_border_width="1px",
        input_padding="8px 10px",
        input_shadow="none",
        input_shadow_focus="0 0 0 2px var(--lr-focus)",
        button_border_width="1px",
        button_primary_shadow="none",
        button_large_text_weight="600",
        block_title_text_weight="600",
        block_label_text_weight="600",
    )
