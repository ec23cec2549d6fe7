"""`get_weather`: the current weather from Open-Meteo, without a key.

The API is described at https://open-meteo.com/en/docs and https://open-meteo.com/en/docs/geocoding-api. Its data are
CC BY 4.0 and want attribution; the free service is for non-commercial use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ToolError
from .base import tool

if TYPE_CHECKING:
    from aiohttp import ClientSession

GEOCODING = "https://geocoding-api.open-meteo.com/v1/search"
FORECAST = "https://api.open-meteo.com/v1/forecast"
REQUEST_LIMIT = 7.0  # seconds: two requests end within the tool's limit
ATTRIBUTION = "Weather data by Open-Meteo.com (CC BY 4.0)"

CURRENT = {
    "temperature_2m": "temperature",
    "apparent_temperature": "feelsLike",
    "relative_humidity_2m": "humidity",
    "precipitation": "precipitation",
    "wind_speed_10m": "windSpeed",
}

# WMO code table 4677 as Open-Meteo uses it (https://open-meteo.com/en/docs, "WMO Weather interpretation codes").
WEATHER = {
    0: "clear sky",
    1: "mainly clear",
    2: "partly cloudy",
    3: "overcast",
    45: "fog",
    48: "fog with rime",
    51: "light drizzle",
    53: "drizzle",
    55: "dense drizzle",
    56: "light freezing drizzle",
    57: "dense freezing drizzle",
    61: "light rain",
    63: "rain",
    65: "heavy rain",
    66: "light freezing rain",
    67: "heavy freezing rain",
    71: "light snowfall",
    73: "snowfall",
    75: "heavy snowfall",
    77: "snow grains",
    80: "light rain showers",
    81: "rain showers",
    82: "violent rain showers",
    85: "light snow showers",
    86: "heavy snow showers",
    95: "thunderstorm",
    96: "thunderstorm with light hail",
    99: "thunderstorm with heavy hail",
}


@tool(read_only=True, timeout=15)
async def get_weather(location: str) -> dict[str, Any]:
    """Tell the current weather at a place: sky, temperature, humidity, precipitation and wind.

    Args:
        location: Name of a town, alone or with its region or country after a comma, such as "Springfield, Illinois".
    """
    from aiohttp import ClientError, ClientSession, ClientTimeout

    try:
        async with ClientSession(timeout=ClientTimeout(total=REQUEST_LIMIT), trust_env=True) as session:
            place = await _find_place(session, location)
            where = {"latitude": place["latitude"], "longitude": place["longitude"], "timezone": "auto"}
            answer = await _fetch(session, FORECAST, where | {"current": ",".join([*CURRENT, "weather_code"])})
        return _describe(place, answer)
    except TimeoutError as error:
        raise ToolError(
            f"the weather service did not answer within {REQUEST_LIMIT:g} s; try once more later"
        ) from error
    except ClientError as error:
        raise ToolError(f"the weather service cannot be reached ({type(error).__name__}); do without it") from error
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ToolError("the weather service gave an answer of an unknown form; do without it") from error


async def _find_place(session: ClientSession, location: str) -> dict[str, Any]:
    # The service knows names alone, "Paris, Texas" finds nothing: what follows the comma chooses among its results.
    name, *hints = (part.strip() for part in location.split(","))
    count = 20 if hints else 1
    answer = await _fetch(session, GEOCODING, {"name": name, "count": count, "language": "en", "format": "json"})
    places: list[dict[str, Any]] = answer.get("results") or []
    if not places:
        raise ToolError(f"no place is called {name[:100]!r}; try a larger town nearby, or the English spelling")
    wanted = {hint.casefold() for hint in hints}

    def fit(place: dict[str, Any]) -> int:
        return len(wanted & {str(place.get(key)).casefold() for key in ("country", "country_code", "admin1", "admin2")})

    return max(places, key=fit)


async def _fetch(session: ClientSession, url: str, params: dict[str, Any]) -> dict[str, Any]:
    async with session.get(url, params=params) as response:
        answer: Any = await response.json(content_type=None) if response.status < 500 else {}
        if response.status != 200 or answer.get("error"):
            reason = str(answer.get("reason") or response.reason)[:300]
            raise ToolError(f"the weather service refused (HTTP {response.status}): {reason}")
        return dict(answer)


def _describe(place: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    current, units = answer["current"], answer["current_units"]
    return {
        "place": place["name"],
        "region": place.get("admin1"),
        "country": place.get("country"),
        "time": current["time"],
        "timezone": answer.get("timezone"),
        "weather": WEATHER.get(current["weather_code"], f"WMO code {current['weather_code']}"),
        **{name: f"{current[key]} {units[key]}" for key, name in CURRENT.items()},
        "attribution": ATTRIBUTION,
    }
