"""The curves of a soak as one SVG picture: small panels, one below the other, over the same days."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_LEFT, _WIDTH, _HEIGHT, _GAP = 70, 620, 90, 52


class Drawn(Protocol):
    """What a panel shows."""

    @property
    def name(self) -> str: ...  # noqa: D102 - what it is, with its unit

    @property
    def days(self) -> Sequence[int]: ...  # noqa: D102

    @property
    def values(self) -> Sequence[float]: ...  # noqa: D102


def picture(curves: Sequence[Drawn], warm_days: int) -> str:
    """SVG text; every panel begins at zero."""
    last = max(max(curve.days) for curve in curves)
    height = 40 + len(curves) * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="720" height="{height}" fill="white"/>',
    ]
    for number, curve in enumerate(curves):
        parts += _panel(curve, last, 30 + number * (_HEIGHT + _GAP))
    parts.append(
        f'<text x="{_LEFT + _WIDTH / 2}" y="{height - 8}" text-anchor="middle">simulated day; '
        f"the first {warm_days} are warm-up</text>"
    )
    return "\n".join([*parts, "</svg>\n"])


def _panel(curve: Drawn, last: int, top: float) -> list[str]:
    highest = max(curve.values) * 1.1 or 1.0

    def x(day: float) -> float:
        return _LEFT + _WIDTH * day / last

    def y(value: float) -> float:
        return top + _HEIGHT * (1 - value / highest)

    points = " ".join(f"{x(day):.1f},{y(value):.1f}" for day, value in zip(curve.days, curve.values, strict=False))
    parts = [f'<text x="{_LEFT}" y="{top - 8:.1f}" font-weight="bold">{curve.name}</text>']
    for mark in (0.0, max(curve.values)):
        parts.append(f'<path d="M{_LEFT} {y(mark):.1f}H{_LEFT + _WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:,.4g}</text>')
    parts += [
        f'<text x="{x(day):.1f}" y="{top + _HEIGHT + 16:.1f}" text-anchor="middle" fill="#555">{day:,}</text>'
        for day in range(0, last + 1, max(1, last // 5))
    ]
    parts.append(f'<polyline points="{points}" fill="none" stroke="#0b6e99" stroke-width="1.5"/>')
    return parts
