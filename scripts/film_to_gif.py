"""The film of a policy as a small GIF: cameras, what System 2 sees, and both systems in time.

    python scripts/film_to_gif.py runs/demo/rollout.mp4 docs/images/push.gif

The columns with the pixels' own edges and change, beside System 2's, are left out: `rollout.mp4` has them.
"""

import sys

import av
from PIL import Image

PANEL, MAP, TOP = 256, 308, 20  # px of a film of frames of 256 px: a camera, a map with its scale, the titles' line
COLUMNS = ((0, PANEL), (PANEL, PANEL), (2 * PANEL + MAP, MAP), (2 * PANEL + 3 * MAP, MAP))
LABELS = 148
"""width of the words before the timelines"""


def rearranged(frame: Image.Image) -> Image.Image:
    width, bottom = sum(column for _, column in COLUMNS), TOP * 2 + PANEL
    picture = Image.new("RGB", (width, frame.height))
    left = 0
    for start, column in COLUMNS:
        picture.paste(frame.crop((start, TOP, start + column, bottom)), (left, TOP))
        left += column
    picture.paste(frame.crop((0, 0, width, TOP)), (0, 0))
    picture.paste(frame.crop((0, bottom, LABELS, frame.height)), (0, bottom))
    times = frame.crop((LABELS, bottom, frame.width, frame.height))
    picture.paste(times.resize((width - LABELS, times.height)), (LABELS, bottom))
    return picture.resize((width * 3 // 4, frame.height * 3 // 4), Image.Resampling.LANCZOS)


def main(film: str, out: str) -> None:
    with av.open(film) as container:
        frames = [rearranged(frame.to_image()) for frame in container.decode(video=0)]
    # the method that keeps rare colours: the goal is a few green pixels
    palette = frames[len(frames) // 2].quantize(256, method=Image.Quantize.MAXCOVERAGE)
    pictures = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames[::2]]
    pictures[0].save(
        out, save_all=True, append_images=pictures[1:], duration=[100] * (len(pictures) - 1) + [1500], loop=0
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
