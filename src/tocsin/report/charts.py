"""The histogram of scores as inline SVG. Colours come from the page's style sheet, so that it follows light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup


@dataclass(frozen=True)
class Bins:
    """Counts of one binning for several series."""

    edges: np.ndarray
    """(B + 1,)"""
    counts: np.ndarray
    """(S, B) int64"""
    beyond: bool
    """Whether values outside the drawn range were put into the outermost bins."""


def bin_scores(series: Sequence[np.ndarray], bins: int, mark: float | None = None) -> Bins:
    """Count each series over common bins. The range leaves out the far tails: one wild score must not flatten all others.

    ``mark`` (the threshold) is taken into the range unless that would squeeze the scores into less than a quarter of it.
    """
    clean = [s[np.isfinite(s)].astype(np.float64) for s in series]
    everything = np.concatenate(clean) if clean else np.empty(0)
    if not len(everything):
        return Bins(np.linspace(0, 1, bins + 1), np.zeros((len(series), bins), np.int64), False)
    q1, q3 = np.percentile(everything, [25, 75])
    # the range of each series counts on its own: a few suspects far out are what the picture is for
    upper = max(float(np.percentile(s, 99)) for s in clean if len(s))
    reach = 6 * (q3 - q1) if q3 > q1 else np.inf
    low = max(float(everything.min()), q1 - reach)
    high = min(float(everything.max()), max(q3 + reach, upper * 1.02 if upper > 0 else upper))
    if not high > low:
        low, high = low - 0.5, low + 0.5
    if mark is not None and high < mark < high + 3 * (high - low):
        high = mark + 0.04 * (mark - low)
    edges = np.linspace(low, high, bins + 1)
    counts = np.stack([np.histogram(np.clip(s, low, high), edges)[0] for s in clean])
    return Bins(edges, counts, bool(everything.min() < low or everything.max() > high))


def histogram(
    series: Sequence[tuple[str, np.ndarray]], threshold: float | None, *, width: int = 760, height: int = 300, bins: int = 80
) -> Markup:
    """SVG of (css class, scores) series over one another, counts on a logarithmic axis, with the threshold as a line.

    The first series is drawn as filled bars with the later ones before it; a series of class ``control`` as an outline.
    """
    binned = bin_scores([values for _, values in series], bins, threshold)
    left, right, top, bottom = 52, 12, 26, 34
    decades = max(1, int(np.ceil(np.log10(max(int(binned.counts.max(initial=1)), 2)))))
    low, high = float(binned.edges[0]), float(binned.edges[-1])

    def x(value: float | np.ndarray) -> np.ndarray:
        return np.asarray(left + (value - low) / (high - low) * (width - left - right))

    def y(count: float | np.ndarray) -> np.ndarray:
        # The axis starts below one, so that a single sample still has height.
        share = (np.log10(np.maximum(count, 0.5)) - np.log10(0.5)) / (decades - np.log10(0.5))
        return np.asarray(height - bottom - share * (height - top - bottom))

    parts = [f'<svg viewBox="0 0 {width} {height}" class="histogram" aria-hidden="true" focusable="false">']
    for power in range(decades + 1):
        at = float(y(10.0**power))
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10**power:,}</text>')
    columns, base = x(binned.edges), height - bottom
    for (css, _), counts in zip(series, binned.counts, strict=True):
        shape = _outline(columns, y(counts), counts, base) if css == "control" else _bars(columns, y(counts), counts, base)
        parts.append(f'<path class="{css}" d="{shape}"/>')
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/>')
    for tick in _ticks(low, high, 4 if width < 500 else 8):
        parts.append(
            f'<text class="tick" x="{float(x(tick)):.1f}" y="{base + 18}" text-anchor="middle">{f"{tick:g}".replace("-", "−")}</text>'
        )
    if threshold is not None and low <= threshold <= high:
        at = float(x(threshold))
        anchor, shift = ("end", -6) if at > width / 2 else ("start", 6)
        parts.append(f'<line class="threshold" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 14}" y2="{base}"/>')
        parts.append(f'<text class="mark" x="{at + shift:.1f}" y="{top - 6}" text-anchor="{anchor}">threshold {threshold:.3g}</text>')
    return Markup("".join([*parts, "</svg>"]))


def _bars(columns: np.ndarray, tops: np.ndarray, counts: np.ndarray, base: float) -> str:
    gap = 0.12 * (columns[1] - columns[0])
    return "".join(
        f"M{a + gap:.1f} {base}V{t:.1f}H{b - gap:.1f}V{base}Z"
        for a, b, t, n in zip(columns[:-1].tolist(), columns[1:].tolist(), tops.tolist(), counts.tolist(), strict=True)
        if n
    )


def _outline(columns: np.ndarray, tops: np.ndarray, counts: np.ndarray, base: float) -> str:
    """A step line, left out where it would only cover the axis."""
    parts, drawing = [], False
    for a, b, t, n in zip(columns[:-1].tolist(), columns[1:].tolist(), tops.tolist(), counts.tolist(), strict=True):
        if n:
            parts.append(f"{'' if drawing else f'M{a:.1f} {base}'}V{t:.1f}H{b:.1f}")
        elif drawing:
            parts.append(f"V{base}")
        drawing = bool(n)
    return "".join([*parts, f"V{base}" if drawing else ""])


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within [low, high], at most ``most`` of them."""
    raw = (high - low) / most
    unit = 10.0 ** np.floor(np.log10(raw))
    step = next(float(m * unit) for m in (1, 2, 2.5, 5, 10, 20) if m * unit >= raw)
    return [round(k * step, 12) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
