"""The web page: brush a hole into a picture, see many completions, keep one, walk between them.

`build_page` makes the Gradio page and `serve` runs it. The functions above them take and return
plain arrays, so that they can be used and tested without a browser. What the reader of the page
did wrong is raised as `gr.Error`, which the page shows as a message.

The editor gets a copy of the picture that fits a screen, and only the hole is taken from it: the
picture itself stays on the server as it was uploaded, so that its known pixels come out bit for
bit whatever the browser does with colours.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import html
import io
import secrets
import signal
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from uctgan_jax import images
from uctgan_jax.avatars import dataset as avatars
from uctgan_jax.avatars.posterior import FACE_WINDOW
from uctgan_jax.data.masks import MaskOptions, draw_mask
from uctgan_jax.inpainting.image_file import Picture, read_picture, with_completion, write_picture
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.inpainting.interpolation import interpolate

MAX_UPLOAD = "20mb"
MAX_PIXELS = 16_000_000  # a phone's photograph has 12 million
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MIN_SIDE, MAX_SIDE = 16, 8192
MAX_WAITING = 16  # requests in the queue; more are told to come back
MAX_SESSIONS = 16  # whose pictures are kept in memory
CACHE_SECONDS = 3600  # written pictures and left sessions are forgotten after this
NUM_SAMPLES = (4, 8, 12, 16)
WALK_STEPS = 20
VIEW_SIDE = 512  # smaller pictures are shown enlarged to at least this
MAX_VIEW_SIDE = 1024
MAX_STROKES = 4_000_000  # characters
BRUSH = (255, 64, 110, 255)  # as in brush.js
NOTHING_BRUSHED = "Nothing is brushed yet. Brush over the part that is to be drawn anew."
REFERENCE = "reference"
SELECT_LABELS = {
    "": "as they come",
    "diverse": "most different",
    "realistic": "most realistic",
    "both": "different and realistic",
}
# Some of the test portraits, chosen to differ.
EXAMPLES = (11, 15, 0, 28, 45, 53)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What one press of "Complete" made, and what is needed to make more of it.

    Attributes:
        picture: what was completed.
        mask: uint8 [H, W], 1 = hole.
        codes: float32 [K, Z], a code a completion.
        names: K captions.
    """

    picture: Picture
    mask: np.ndarray
    codes: np.ndarray
    names: tuple[str, ...]


def refusal(message: str) -> gr.Error:
    """An error for the page to show in plain words, with nothing written to the log."""
    return gr.Error(html.escape(message), print_exception=False)


def open_picture(path: str | Path) -> Picture:
    """Reads an upload, with all that its file holds.

    Raises: gr.Error for a file that is no whole picture, or one too large or too small.
    """
    data = Path(path).read_bytes()
    try:
        # Before decoding: a small file can be huge. Other formats have programs run, or decode to
        # other sizes than they tell.
        with Image.open(io.BytesIO(data), formats=UPLOAD_FORMATS) as header:
            width, height = header.size
    except Image.DecompressionBombError as error:
        raise refusal(f"The picture has more than {MAX_PIXELS // 10**6} megapixels.") from error
    except Exception as error:
        raise refusal("This file is not a picture that can be read. Try PNG or JPEG.") from error
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise refusal(
            f"The picture has {width} x {height} pixels. The most is {MAX_PIXELS // 10**6} "
            f"megapixels and {MAX_SIDE} pixels a side: make it smaller."
        )
    if min(width, height) < MIN_SIDE:
        raise refusal(
            f"The picture has {width} x {height} pixels. It needs {MIN_SIDE} or more a side."
        )
    try:
        return read_picture(data)
    except ValueError as error:
        raise refusal("This picture is damaged: it cannot be read to its end.") from error


def example(index: int, size: int) -> tuple[Picture, np.ndarray]:
    """A portrait drawn here and now, [size, size, 3], and a mask of its face [size, size]."""
    image = avatars.render(avatars.sample_attributes("test", index), size)
    face = MaskOptions("window", region=FACE_WINDOW)
    return Picture(image, image), draw_mask(np.random.default_rng(0), face, image_size=size)[..., 0]


def view(image: np.ndarray) -> np.ndarray:
    """A picture as the page shows it: small ones enlarged by a whole factor, large ones reduced."""
    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(max(-(-VIEW_SIDE // longest), 1), MAX_VIEW_SIDE / longest)
    if scale == 1:
        return image
    return images.resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def data_url(image: np.ndarray, kind: str) -> str:
    """A picture, uint8 [H, W, 3 or 4], as the text that a browser shows: "jpeg" or "png"."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, quality=92)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def strokes(mask: np.ndarray, height: int, width: int) -> str:
    """The strokes that would brush a hole, on a view of the picture of this height and width.

    Args:
        mask: uint8 [H, W], 1 = hole.

    Returns:
        What `brushed_hole` takes.
    """
    shown = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    picture = np.zeros((height, width, 4), np.uint8)
    picture[np.asarray(shown) > 0] = BRUSH
    return data_url(picture, "png")


def brushed_hole(brushed: str | None, height: int, width: int) -> np.ndarray:
    """The hole that was brushed: uint8 [height, width], 1 wherever the brush touched a pixel.

    Args:
        brushed: the strokes on a view of the picture, a data URL of a PNG with transparency.
        height, width: of the picture itself.

    Raises: gr.Error if nothing or everything is brushed, or the strokes cannot be read.
    """
    if not brushed:
        raise refusal(NOTHING_BRUSHED)
    try:
        kind, _, text = brushed.partition(",")
        if kind != "data:image/png;base64" or len(text) > MAX_STROKES:
            raise ValueError(kind[:40])
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as picture:
            if max(picture.size) > MAX_VIEW_SIDE:
                raise ValueError(picture.size)
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    except Exception as error:
        raise refusal("The brush strokes did not arrive whole. Brush again.") from error
    stroke = np.where(alpha >= 128, np.uint8(255), np.uint8(0))
    least = 1 if stroke.shape[0] > height else 128  # averaged down, interpolated up
    hole = (images.resize(stroke, height, width) >= least).astype(np.uint8)
    if not hole.any():
        raise refusal(NOTHING_BRUSHED)
    if hole.all():
        raise refusal("Everything is brushed. Leave a part of the picture for the model to see.")
    return hole


def draw(
    inpainter: Inpainter,
    picture: Picture,
    mask: np.ndarray,
    *,
    num_samples: int,
    seed: int | None,
    select: str | None = None,
    reference: np.ndarray | None = None,
) -> tuple[Drawing, list[np.ndarray]]:
    """Completes a picture in many ways, and once more after a reference picture if there is one.

    Args: as for `Inpainter.complete`, but for `picture`, whose pixels are completed.

    Returns:
        The drawing and its K completions, uint8 [H, W, 3]; the reference's is the last.

    Raises: gr.Error for a number that the page does not offer, or what the model refuses.
    """
    if num_samples not in NUM_SAMPLES:
        raise refusal(f"How many must be one of {', '.join(map(str, NUM_SAMPLES))}.")
    if seed is None or not 0 <= seed < 2**31:
        raise refusal("The draw must be a number from 0 to 2147483647.")
    try:
        made = [inpainter.complete(picture.pixels, mask, num_samples, seed, select=select)]
        if reference is not None:
            made.append(inpainter.complete(picture.pixels, mask, instances=[reference]))
    except ValueError as error:
        raise refusal(str(error)) from error
    codes = np.concatenate([completions.codes for completions in made])
    completed = [image for completions in made for image in completions.images]
    names = [str(k + 1) for k in range(num_samples)] + [REFERENCE] * (reference is not None)
    return Drawing(picture, mask, codes, tuple(names)), completed


def walk(
    inpainter: Inpainter, drawing: Drawing, *, start: int, end: int, percent: float
) -> np.ndarray:
    """The completion that lies on the way from one code to another.

    Args:
        start, end: which completions of the drawing.
        percent: how far: 0 is the start, 100 the end.

    Returns:
        uint8 [H, W, 3].
    """
    way = interpolate(drawing.codes[start], drawing.codes[end], WALK_STEPS + 1)
    place = round(float(np.clip(percent, 0, 100)) / 100 * WALK_STEPS)
    completions = inpainter.complete(
        drawing.picture.pixels, drawing.mask, codes=np.asarray(way)[place : place + 1]
    )
    return completions.images[0]


THEME = gr.themes.Base(
    primary_hue="rose",
    neutral_hue="slate",
    radius_size="lg",
    font=("system-ui", "sans-serif"),  # of the reader's own system: nothing is fetched
    font_mono=("ui-monospace", "monospace"),
)


def build_page(inpainter: Inpainter) -> gr.Blocks:
    """The page, ready for `serve`; all its readers share the model."""
    selections = [
        (label, value)
        for value, label in SELECT_LABELS.items()
        if value in ("", "diverse") or inpainter.judges_realism
    ]
    examples = [example(index, inpainter.image_size) for index in EXAMPLES]

    def show(new: Picture, mask: np.ndarray | None = None) -> dict:
        """A new picture to brush on; whatever was made of the last one goes."""
        shown = view(new.pixels)
        hole = "" if mask is None else strokes(mask, *shown.shape[:2])
        return {
            upload: None,  # so that the next picture can be dropped there
            picture: new,
            brush: gr.HTML(value=hole, picture=data_url(shown, "jpeg")),
            drawing: None,
            gallery: gr.Gallery([], selected_index=None),
            others: gr.Button(interactive=False),
            keeping: gr.Column(visible=False),
        }

    def take_upload(path: str) -> dict:
        return show(open_picture(path))

    def use_next(kept_picture: Picture | None) -> dict:
        _check_kept(kept_picture)
        return show(kept_picture)

    def choose_example(event: gr.SelectData) -> dict:
        return show(*examples[event.index])

    def add_reference(path: str) -> dict:
        image = open_picture(path).pixels
        return {
            reference: images.resize_and_crop(image, inpainter.image_size),
            reference_view: gr.Image(view(image), visible=True),
            remove: gr.Button(visible=True),
        }

    def remove_reference() -> dict:
        return {
            reference: None,
            reference_view: gr.Image(None, visible=False),
            remove: gr.Button(visible=False),
        }

    def complete(
        chosen_picture: Picture | None,
        brushed: str | None,
        num_samples: int,
        seed: int,
        select: str,
        guide: np.ndarray | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008, Gradio looks for it here
    ) -> dict:
        _check_kept(chosen_picture)
        mask = brushed_hole(brushed, *chosen_picture.pixels.shape[:2])
        progress(0.1, desc=f"Drawing {num_samples} completions")
        drawn, completions = draw(
            inpainter,
            chosen_picture,
            mask,
            num_samples=num_samples,
            seed=seed,
            select=select or None,
            reference=guide,
        )
        progress(0.8, desc="Bringing them here")
        tiles = [(view(c), name) for c, name in zip(completions, drawn.names, strict=True)]
        return {
            drawing: drawn,
            gallery: gr.Gallery(tiles, selected_index=None),
            others: gr.Button(interactive=True),
            keeping: gr.Column(visible=False),
        }

    def keep(drawn: Drawing, event: gr.SelectData) -> dict:
        _check_kept(drawn)
        start = event.index
        ways = [(name, k) for k, name in enumerate(drawn.names) if k != start]
        # The reference, which is the last, is there to be walked to.
        end = ways[-1][1] if drawn.names[-1] == REFERENCE else ways[0][1]
        return {
            chosen: start,
            keeping: gr.Column(visible=True),
            target: gr.Dropdown(choices=ways, value=end),
            distance: 0,
            **step(drawn, start, end, 0),
        }

    def step(drawn: Drawing, start: int, end: int, percent: float) -> dict:
        _check_kept(drawn)
        image = walk(inpainter, drawn, start=start, end=end, percent=percent)
        completed_picture = with_completion(drawn.picture, image, drawn.mask)
        # A new name each time: two readers never share a file.
        path = Path(download.GRADIO_CACHE) / secrets.token_hex(16) / "completion.png"
        write_picture(path, completed_picture)
        return {
            kept: completed_picture,
            kept_view: view(image),
            download: gr.DownloadButton(value=path),
        }

    with gr.Blocks(
        title="UCTGAN",
        analytics_enabled=False,
        delete_cache=(CACHE_SECONDS, CACHE_SECONDS),
    ) as page:
        picture = gr.State(time_to_live=CACHE_SECONDS)
        reference = gr.State(time_to_live=CACHE_SECONDS)
        drawing = gr.State(time_to_live=CACHE_SECONDS)
        chosen = gr.State(time_to_live=CACHE_SECONDS)
        kept = gr.State(time_to_live=CACHE_SECONDS)

        gr.Markdown(
            "# One picture, many completions\n"
            "Brush over a part of a picture: the model draws it anew, each time differently.",
            elem_classes="title",
        )
        with gr.Row(equal_height=False, elem_classes="panes"):
            with gr.Column(min_width=320):
                _step(1, "Choose a picture")
                upload = gr.File(
                    label="Picture",
                    show_label=False,
                    elem_id="upload",
                    file_types=["image"],
                    height=84,
                )
                thumbnails = gr.Gallery(
                    [view(portrait.pixels) for portrait, _ in examples],
                    label="Examples",
                    show_label=False,
                    columns=len(examples),
                    height="auto",
                    allow_preview=False,
                    object_fit="cover",
                    buttons=[],
                    interactive=False,
                    elem_id="examples",
                )
                _step(2, "Brush over what is to change")
                brush = gr.HTML(
                    html_template=_file("brush.html"),
                    js_on_load=_file("brush.js"),
                    picture="",
                    elem_id="brush",
                )
                number = gr.Radio(NUM_SAMPLES, value=8, label="How many completions")
                go = gr.Button("Complete", variant="primary", size="lg")
                with gr.Accordion("Follow a reference picture, and more", open=False):
                    with gr.Row():
                        add = gr.UploadButton(
                            "Choose a reference picture",
                            file_types=["image"],
                            size="sm",
                        )
                        remove = gr.Button("Remove it", size="sm", visible=False)
                    reference_view = gr.Image(
                        label="One more completion follows this picture",
                        height=140,
                        buttons=[],
                        interactive=False,
                        visible=False,
                        elem_id="reference_view",
                    )
                    select = gr.Radio(selections, value="", label="Which to show")
                    seed = gr.Number(
                        0, label="Seed: the same gives the same completions", precision=0, minimum=0
                    )
            with gr.Column(min_width=320):
                _step(3, "Pick one")
                gallery = gr.Gallery(
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
                others = gr.Button("Draw others", interactive=False)
                with gr.Column(visible=False) as keeping:
                    _step(4, "Keep it, or walk on")
                    kept_view = gr.Image(
                        show_label=False, format="png", buttons=[], interactive=False,
                        elem_id="kept",
                    )  # fmt: skip
                    target = gr.Dropdown(label="Walk towards completion", interactive=True)
                    distance = gr.Slider(
                        0,
                        100,
                        0,
                        step=100 / WALK_STEPS,
                        label="How far, in percent",
                        elem_id="distance",
                    )
                    with gr.Row():
                        download = gr.DownloadButton("Download", variant="primary")
                        reuse = gr.Button("Use as next picture")

        shown = [upload, picture, brush, drawing, gallery, others, keeping]
        guided = [reference, reference_view, remove]
        given = [picture, brush, number, seed, select, reference]
        completed = [drawing, gallery, others, keeping]
        stepped = [kept, kept_view, download]
        model = dict(concurrency_id="model", concurrency_limit=1, api_visibility="private")
        plain = dict(api_visibility="private", show_progress="hidden")

        page.load(lambda: show(*examples[0]), None, shown, **plain)
        thumbnails.select(choose_example, None, shown, **plain)
        upload.upload(_told(take_upload, {upload: None}), upload, shown, **plain)
        add.upload(_told(add_reference), add, guided, **plain)
        remove.click(remove_reference, None, guided, **plain)
        go.click(None, js=_scroll_to("completions"), **plain)
        go.click(_told(complete), given, completed, show_progress_on=gallery, **model)
        others.click(lambda seed: (seed or 0) + 1, seed, seed, **plain).then(
            _told(complete), given, completed, show_progress_on=gallery, **model
        )
        gallery.select(
            _told(keep), drawing, [chosen, keeping, target, distance, *stepped],
            show_progress="hidden", **model,
        ).then(None, js=_scroll_to("kept"), **plain)  # fmt: skip
        gr.on(
            [distance.input, target.input],
            _told(step),
            [drawing, chosen, target, distance],
            stepped,
            show_progress="hidden",
            trigger_mode="always_last",
            **model,
        )
        reuse.click(_told(use_next), kept, shown, **plain)
    return page


def _scroll_to(element: str) -> str:
    """A script for phones, where steps are below each other; what is seen already stays."""
    return (
        f"() => document.getElementById('{element}')"
        ".scrollIntoView({behavior: 'smooth', block: 'nearest'})"
    )


def _told(function: Callable[..., dict], otherwise: dict | None = None) -> Callable[..., dict]:
    """The same event, but a refusal is a message beside the page as it was, with no error on it.

    Args:
        otherwise: what then changes all the same.
    """

    @functools.wraps(function)
    def event(*arguments):
        try:
            return function(*arguments)
        except gr.Error as error:
            gr.Warning(error.message, title="Please look again")
            return otherwise or gr.skip()

    return event


def _check_kept(state: object) -> None:
    """What a session had is forgotten after a while, and when others need the memory."""
    if state is None:
        raise refusal("Your picture is no longer kept here. Choose one again.")


def _file(name: str) -> str:
    return (resources.files("uctgan_jax") / name).read_text()


def _step(number: int, title: str) -> None:
    gr.Markdown(f"### **{number}** {title}", elem_classes="step")


def warm_up(inpainter: Inpainter) -> None:
    """Compiles what the page's first reader would otherwise wait for."""
    portrait, mask = example(EXAMPLES[0], inpainter.image_size)
    drawing, _ = draw(inpainter, portrait, mask, num_samples=8, seed=0, reference=portrait.pixels)
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
        css=_file("page.css"),
        quiet=True,
        prevent_thread_lock=True,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"The page is ready: {url}", flush=True)
    page.block_thread()
