"""The curves of a soak as one SVG picture: small panels in two columns, over the same days, each from zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_COLUMNS, _LEFT, _WIDTH, _HEIGHT, _GAP = 2, 62, 380, 84, 62
_MIDDLE = 28


class Drawn(Protocol):
    """What a panel shows."""

    @property
    def name(self) -> str: ...  # noqa: D102 - what it is, with its unit

    @property
    def days(self) -> Sequence[int]: ...  # noqa: D102

    @property
    def values(self) -> Sequence[float]: ...  # noqa: D102

    @property
    def verdict(self) -> str: ...  # noqa: D102 - its growth, and what it may be


def picture(curves: Sequence[Drawn], warm_days: int) -> str:
    """SVG text; every panel begins at zero."""
    last = max(max(curve.days) for curve in curves)
    rows = -(-len(curves) // _COLUMNS)
    width = _COLUMNS * (_LEFT + _WIDTH + _MIDDLE)
    height = 40 + rows * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, curve in enumerate(curves):
        left = _LEFT + number % _COLUMNS * (_LEFT + _WIDTH + _MIDDLE)
        parts += _panel(curve, last, left, 40 + number // _COLUMNS * (_HEIGHT + _GAP))
    parts.append(
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">simulated day; '
        f"the first {warm_days} are warm-up and not shown</text>"
    )
    return "\n".join([*parts, "</svg>\n"])


def _panel(curve: Drawn, last: int, left: float, top: float) -> list[str]:
    highest = max(curve.values) * 1.1 or 1.0

    def x(day: float) -> float:
        return left + _WIDTH * day / last

    def y(value: float) -> float:
        return top + _HEIGHT * (1 - value / highest)

    points = " ".join(f"{x(day):.1f},{y(value):.1f}" for day, value in zip(curve.days, curve.values, strict=False))
    parts = [
        f'<text x="{left}" y="{top - 18:.1f}" font-weight="bold">{curve.name}</text>',
        f'<text x="{left}" y="{top - 4:.1f}" font-size="11" fill="#555">{curve.verdict}</text>',
    ]
    for mark in (0.0, max(curve.values)):
        parts.append(f'<path d="M{left} {y(mark):.1f}H{left + _WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{_figure(mark)}</text>')
    step = max(1, last // 5)
    parts += [
        f'<text x="{x(day):.1f}" y="{top + _HEIGHT + 15:.1f}" text-anchor="middle" fill="#555">{day:,}</text>'
        for day in range(0, last + 1, step)
    ]
    parts.append(f'<polyline points="{points}" fill="none" stroke="#0b6e99" stroke-width="1.2"/>')
    return parts


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
