-- at_least is inside the band, below is outside; a null bound is open.
select
    weather_factor,
    band_rank,
    weather_band,
    at_least,
    below

from (
    values
        ('wind_speed_mph', 1, 'calm', cast(null as double), cast(5 as double)),
        ('wind_speed_mph', 2, 'breeze', 5, 15),
        ('wind_speed_mph', 3, 'strong', 15, 25),
        ('wind_speed_mph', 4, 'gale', 25, null),
        ('precipitation_in', 1, 'dry', null, 0.01),
        ('precipitation_in', 2, 'light', 0.01, 0.1),
        ('precipitation_in', 3, 'moderate', 0.1, 0.3),
        ('precipitation_in', 4, 'heavy', 0.3, null),
        ('visibility_mi', 1, 'clear', 10, null),
        ('visibility_mi', 2, 'hazy', 5, 10),
        ('visibility_mi', 3, 'low', 1, 5),
        ('visibility_mi', 4, 'very low', null, 1),
        ('temperature_f', 1, 'freezing', null, 32),
        ('temperature_f', 2, 'cold', 32, 50),
        ('temperature_f', 3, 'mild', 50, 70),
        ('temperature_f', 4, 'warm', 70, 85),
        ('temperature_f', 5, 'hot', 85, null)
) as bands (weather_factor, band_rank, weather_band, at_least, below)
