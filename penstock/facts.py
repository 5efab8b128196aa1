"""Which warehouse tables hold exactly the rows of a refined table, so that the ledger can follow rows to the end."""

FACTS = {
    "flights": ("fct_flights", "scheduled_on"),
    "weather": ("fct_weather_hourly", "observed_on"),
}
"""Refined interval table -> fact of the same rows, and the fact's column with the interval's day."""
