"""Runs the page: its limits, its looks, and its end."""

import signal

import gradio as gr
import numpy as np

from uctgan_jax.inpainting.image_file import Picture
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.web.drawing import draw, walk
from uctgan_jax.web.page import read_asset

MAX_UPLOAD = "20mb"
MAX_WAITING = 16  # requests in the queue; more are told to come back
MAX_SESSIONS = 16  # whose pictures are kept in memory

THEME = gr.themes.Base(
    primary_hue="rose",
    neutral_hue="slate",
    radius_size="lg",
    font=("system-ui", "sans-serif"),  # of the reader's own system: nothing is fetched
    font_mono=("ui-monospace", "monospace"),
)


def warm_up(inpainter: Inpainter) -> None:
    """Compiles what the page's first reader would otherwise wait for."""
    side = inpainter.image_size
    pixels = np.full((side, side, 3), 128, np.uint8)
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 1
    picture = Picture(pixels, pixels)
    drawing, _ = draw(inpainter, picture, mask, num_samples=8, seed=0, reference=pixels)
    walk(inpainter, drawing, start=0, end=1, percent=50)


def serve(page: gr.Blocks, *, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Serves the page until interrupted or terminated; then its files are deleted.

    Args:
        host: the address to listen on; other machines reach the page only if it is not loopback.
        port: None for the first free one from 7860.

    Raises: OSError if the port is taken.
    """
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=1)
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        max_file_size=MAX_UPLOAD,
        state_session_capacity=MAX_SESSIONS,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        ssr_mode=False,
        theme=THEME,
        css=read_asset("page.css"),
        quiet=True,
        prevent_thread_lock=True,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"The page is ready: {url}", flush=True)
    page.block_thread()
