"""The web page: brush a hole into a picture, see many completions, keep one, walk between them."""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import gradio as gr
import numpy as np

from uctgan_jax import images
from uctgan_jax.inpainting.image_file import Picture, with_completion, write_picture
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.web import pictures
from uctgan_jax.web.drawing import NUM_SAMPLES, REFERENCE, WALK_STEPS, Drawing, draw, walk
from uctgan_jax.web.examples import examples, subject

CACHE_SECONDS = 3600  # written pictures and left sessions are forgotten after this
SELECT_LABELS = {
    "": "as they come",
    "diverse": "most different",
    "realistic": "most realistic",
    "both": "different and realistic",
}

# Options of events. The model takes one at a time, whichever event asks.
_PLAIN = dict(api_visibility="private", show_progress="hidden")
_MODEL = dict(concurrency_id="model", concurrency_limit=1, api_visibility="private")


def build_page(inpainter: Inpainter) -> gr.Blocks:
    """The page, ready for `serve`; all its readers share the model."""
    return _Page(inpainter).blocks


class _Page:
    """The components, laid out in the order of the page, and the events between them.

    A handler takes the values of components, and returns component -> its new value.
    """

    def __init__(self, inpainter: Inpainter):
        self.inpainter = inpainter
        source, size = inpainter.config.data.source, inpainter.image_size
        self.examples = examples(source, size)
        with gr.Blocks(
            title="UCTGAN",
            analytics_enabled=False,
            delete_cache=(CACHE_SECONDS, CACHE_SECONDS),
        ) as self.blocks:
            self.add_states()
            gr.Markdown(
                "# One picture, many completions\n"
                "Brush over a part of a picture: the model draws it anew, each time differently."
                f" It completes {subject(source)}, in parts of {size} pixels a side.",
                elem_classes="title",
            )
            with gr.Row(equal_height=False, elem_classes="panes"):
                with gr.Column(min_width=320):
                    self.add_choice()
                    self.add_brush()
                    self.add_options()
                with gr.Column(min_width=320):
                    self.add_completions()
                    self.add_keeping()
            self.connect()

    # Layout.

    def add_states(self) -> None:
        """What a session remembers between events."""
        self.picture = gr.State(time_to_live=CACHE_SECONDS)
        self.reference = gr.State(time_to_live=CACHE_SECONDS)
        self.drawing = gr.State(time_to_live=CACHE_SECONDS)
        self.chosen = gr.State(time_to_live=CACHE_SECONDS)
        self.kept = gr.State(time_to_live=CACHE_SECONDS)

    def add_choice(self) -> None:
        _add_step(1, "Choose a picture")
        self.upload = gr.File(
            label="Picture", show_label=False, elem_id="upload", file_types=["image"], height=84
        )
        self.thumbnails = gr.Gallery(
            [pictures.view(picture.pixels) for picture, _ in self.examples],
            label="Examples",
            show_label=False,
            columns=len(self.examples) or 1,
            height="auto",
            allow_preview=False,
            object_fit="cover",
            buttons=[],
            interactive=False,
            visible=bool(self.examples),
            elem_id="examples",
        )

    def add_brush(self) -> None:
        _add_step(2, "Brush over what is to change")
        self.brush = gr.HTML(
            html_template=read_asset("brush.html"),
            js_on_load=read_asset("brush.js"),
            picture="",
            elem_id="brush",
        )
        self.number = gr.Radio(NUM_SAMPLES, value=8, label="How many completions")
        self.go = gr.Button("Complete", variant="primary", size="lg")

    def add_options(self) -> None:
        selections = [
            (label, value)
            for value, label in SELECT_LABELS.items()
            if value in ("", "diverse") or self.inpainter.judges_realism
        ]
        with gr.Accordion("Follow a reference picture, and more", open=False):
            with gr.Row():
                self.add = gr.UploadButton(
                    "Choose a reference picture", file_types=["image"], size="sm"
                )
                self.remove = gr.Button("Remove it", size="sm", visible=False)
            self.reference_view = gr.Image(
                label="One more completion follows this picture",
                height=140,
                buttons=[],
                interactive=False,
                visible=False,
                elem_id="reference_view",
            )
            self.select = gr.Radio(selections, value="", label="Which to show")
            self.grow = gr.Slider(
                0,
                pictures.MOST_GROWTH,
                value=0,
                step=1,
                label="Grow the hole, in pixels: for an edge that the brush has missed",
            )
            self.seed = gr.Number(
                0, label="Seed: the same gives the same completions", precision=0, minimum=0
            )

    def add_completions(self) -> None:
        _add_step(3, "Pick one")
        self.gallery = gr.Gallery(
            label="Completions",
            show_label=False,
            columns=4,
            height="auto",
            allow_preview=False,
            object_fit="contain",
            buttons=[],
            format="png",
            interactive=False,
            elem_id="completions",
        )
        self.time = gr.Markdown(elem_id="time")
        self.others = gr.Button("Draw others", interactive=False)

    def add_keeping(self) -> None:
        with gr.Column(visible=False) as self.keeping:
            _add_step(4, "Keep it, or walk on")
            self.kept_view = gr.Image(
                show_label=False, format="png", buttons=[], interactive=False, elem_id="kept"
            )
            self.target = gr.Dropdown(label="Walk towards completion", interactive=True)
            self.distance = gr.Slider(
                0,
                100,
                0,
                step=100 / WALK_STEPS,
                label="How far, in percent",
                elem_id="distance",
            )
            with gr.Row():
                self.download = gr.DownloadButton("Download", variant="primary")
                self.reuse = gr.Button("Use as next picture")

    # Events.

    def connect(self) -> None:
        self.connect_pictures()
        self.connect_completions()
        self.connect_keeping()

    def connect_pictures(self) -> None:
        shown = [
            self.upload,
            self.picture,
            self.brush,
            self.drawing,
            self.gallery,
            self.time,
            self.others,
            self.keeping,
        ]
        guided = [self.reference, self.reference_view, self.remove]
        if self.examples:
            self.blocks.load(self.show_first, None, shown, **_PLAIN)
        self.thumbnails.select(self.choose_example, None, shown, **_PLAIN)
        take_upload = _told(self.take_upload, {self.upload: None})
        self.upload.upload(take_upload, self.upload, shown, **_PLAIN)
        self.add.upload(_told(self.add_reference), self.add, guided, **_PLAIN)
        self.remove.click(self.remove_reference, None, guided, **_PLAIN)
        self.reuse.click(_told(self.use_next), self.kept, shown, **_PLAIN)

    def connect_completions(self) -> None:
        given = [
            *(self.picture, self.brush, self.grow),
            *(self.number, self.seed, self.select, self.reference),
        ]
        completed = [self.drawing, self.gallery, self.time, self.others, self.keeping]
        options = dict(show_progress_on=self.gallery, **_MODEL)
        self.go.click(None, js=_scroll_to("completions"), **_PLAIN)
        self.go.click(_told(self.complete), given, completed, **options)
        self.others.click(_next_seed, self.seed, self.seed, **_PLAIN).then(
            _told(self.complete), given, completed, **options
        )

    def connect_keeping(self) -> None:
        stepped = [self.kept, self.kept_view, self.download]
        opened = [self.chosen, self.keeping, self.target, self.distance, *stepped]
        options = dict(show_progress="hidden", **_MODEL)
        self.gallery.select(_told(self.keep), self.drawing, opened, **options).then(
            None, js=_scroll_to("kept"), **_PLAIN
        )
        gr.on(
            [self.distance.input, self.target.input],
            _told(self.step),
            [self.drawing, self.chosen, self.target, self.distance],
            stepped,
            trigger_mode="always_last",
            **options,
        )

    # Handlers.

    def show(self, picture: Picture, mask: np.ndarray | None = None) -> dict:
        """A new picture to brush on; completions of the last one go."""
        shown = pictures.view(picture.pixels)
        hole = "" if mask is None else pictures.strokes(mask, *shown.shape[:2])
        return {
            self.upload: None,  # so that the next picture can be dropped there
            self.picture: picture,
            self.brush: gr.HTML(value=hole, picture=pictures.data_url(shown, "jpeg")),
            self.drawing: None,
            self.gallery: gr.Gallery([], selected_index=None),
            self.time: "",
            self.others: gr.Button(interactive=False),
            self.keeping: gr.Column(visible=False),
        }

    def show_first(self) -> dict:
        return self.show(*self.examples[0])

    def choose_example(self, event: gr.SelectData) -> dict:
        return self.show(*self.examples[event.index])

    def take_upload(self, path: str) -> dict:
        return self.show(pictures.open_picture(path))

    def use_next(self, kept: Picture | None) -> dict:
        _check_kept(kept)
        return self.show(kept)

    def add_reference(self, path: str) -> dict:
        image = pictures.open_picture(path).pixels
        return {
            self.reference: images.resize_and_crop(image, self.inpainter.image_size),
            self.reference_view: gr.Image(pictures.view(image), visible=True),
            self.remove: gr.Button(visible=True),
        }

    def remove_reference(self) -> dict:
        return {
            self.reference: None,
            self.reference_view: gr.Image(None, visible=False),
            self.remove: gr.Button(visible=False),
        }

    def complete(
        self,
        picture: Picture | None,
        brushed: str | None,
        grow: int,
        num_samples: int,
        seed: int,
        select: str,
        reference: np.ndarray | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here
    ) -> dict:
        _check_kept(picture)
        mask = pictures.brushed_hole(brushed, *picture.pixels.shape[:2], grow=grow)
        progress(0.1, desc=f"Drawing {num_samples} completions")
        start = time.perf_counter()
        drawing, completions = draw(
            self.inpainter,
            picture,
            mask,
            num_samples=num_samples,
            seed=seed,
            select=select or None,
            reference=reference,
        )
        seconds = time.perf_counter() - start
        progress(0.8, desc="Bringing them here")
        tiles = [
            (pictures.view(completion), name)
            for completion, name in zip(completions, drawing.names, strict=True)
        ]
        return {
            self.drawing: drawing,
            self.gallery: gr.Gallery(tiles, selected_index=None),
            self.time: f"{len(tiles)} completions in {seconds:.2f} s",
            self.others: gr.Button(interactive=True),
            self.keeping: gr.Column(visible=False),
        }

    def keep(self, drawing: Drawing | None, event: gr.SelectData) -> dict:
        _check_kept(drawing)
        start = event.index
        targets = [(name, k) for k, name in enumerate(drawing.names) if k != start]
        # The reference, which is the last, is there to be walked to.
        end = targets[-1][1] if drawing.names[-1] == REFERENCE else targets[0][1]
        return {
            self.chosen: start,
            self.keeping: gr.Column(visible=True),
            self.target: gr.Dropdown(choices=targets, value=end),
            self.distance: 0,
            **self.step(drawing, start, end, 0),
        }

    def step(self, drawing: Drawing | None, start: int, end: int, percent: float) -> dict:
        _check_kept(drawing)
        image = walk(self.inpainter, drawing, start=start, end=end, percent=percent)
        kept = with_completion(drawing.picture, image, drawing.mask)
        # A new name each time: two readers never share a file.
        folder = Path(self.download.GRADIO_CACHE) / secrets.token_hex(16)
        write_picture(folder / "completion.png", kept)
        return {
            self.kept: kept,
            self.kept_view: pictures.view(image),
            self.download: gr.DownloadButton(value=folder / "completion.png"),
        }


def _add_step(number: int, title: str) -> None:
    gr.Markdown(f"### **{number}** {title}", elem_classes="step")


def _next_seed(seed: int | None) -> int:
    return (seed or 0) + 1


def _scroll_to(element: str) -> str:
    """A script for phones, where steps are below each other; what is seen already stays."""
    return (
        f"() => document.getElementById('{element}')"
        ".scrollIntoView({behavior: 'smooth', block: 'nearest'})"
    )


def _told(handler: Callable[..., dict], otherwise: dict | None = None) -> Callable[..., dict]:
    """The same handler, but a refusal is a message, with no error on the page.

    Args:
        otherwise: what changes after a refusal; nothing by default.
    """

    @functools.wraps(handler)
    def event(*arguments):
        try:
            return handler(*arguments)
        except gr.Error as error:
            gr.Warning(error.message, title="Please look again")
            return otherwise or gr.skip()

    return event


def _check_kept(state: object) -> None:
    """Refuses without a picture: sessions are forgotten after a while, or for want of memory."""
    if state is None:
        raise pictures.refusal(
            "There is no picture: choose one, again if you had one. Pictures are kept for an hour."
        )


def read_asset(name: str) -> str:
    """A text file of this folder."""
    return resources.files(__package__).joinpath(name).read_text()
