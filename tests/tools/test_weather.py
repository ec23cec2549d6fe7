"""`get_weather` against recorded answers of Open-Meteo, and against everything else that a network gives."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses

from chatstream.errors import ToolError
from chatstream.tools.weather import ATTRIBUTION, FORECAST, GEOCODING, WEATHER, get_weather

PARIS = {
    "name": "Paris",
    "latitude": 48.85341,
    "longitude": 2.3488,
    "country_code": "FR",
    "country": "France",
    "admin1": "Île-de-France",
}
TEXAN = {
    "name": "Paris",
    "latitude": 33.66094,
    "longitude": -95.55551,
    "country_code": "US",
    "country": "United States",
    "admin1": "Texas",
}
ANSWER = {
    "latitude": 48.86,
    "longitude": 2.3599997,
    "timezone": "Europe/Paris",
    "current_units": {
        "time": "iso8601",
        "interval": "seconds",
        "temperature_2m": "°C",
        "apparent_temperature": "°C",
        "relative_humidity_2m": "%",
        "precipitation": "mm",
        "weather_code": "wmo code",
        "wind_speed_10m": "km/h",
    },
    "current": {
        "time": "2026-03-01T12:15",
        "interval": 900,
        "temperature_2m": 11.4,
        "apparent_temperature": 8.9,
        "relative_humidity_2m": 71,
        "precipitation": 0.0,
        "weather_code": 61,
        "wind_speed_10m": 12.6,
    },
}


class Response(aiohttp.ClientResponse):
    """aioresponses 0.7.9 does not know the argument `stream_writer` of aiohttp 3.14."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, stream_writer=SimpleNamespace(output_size=0))


class Service:
    """Open-Meteo: `places` and `forecast` are what it answers, `requests` what it was asked."""

    def __init__(self, mock: aioresponses) -> None:
        self.mock = mock

    def places(self, **answer: Any) -> None:
        self.mock.get(re.compile(re.escape(GEOCODING)), response_class=Response, **answer)

    def forecast(self, **answer: Any) -> None:
        self.mock.get(re.compile(re.escape(FORECAST)), response_class=Response, **answer)

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [call.kwargs["params"] for calls in self.mock.requests.values() for call in calls]


@pytest.fixture
def service():
    with aioresponses() as mock:
        yield Service(mock)


async def test_the_weather_is_told_in_words_and_units_with_attribution(service):
    service.places(payload={"results": [PARIS]})
    service.forecast(payload=ANSWER)

    assert await get_weather("Paris") == {
        "place": "Paris",
        "region": "Île-de-France",
        "country": "France",
        "time": "2026-03-01T12:15",
        "timezone": "Europe/Paris",
        "weather": "light rain",
        "temperature": "11.4 °C",
        "feelsLike": "8.9 °C",
        "humidity": "71 %",
        "precipitation": "0.0 mm",
        "windSpeed": "12.6 km/h",
        "attribution": ATTRIBUTION,
    }
    assert service.requests == [
        {"name": "Paris", "count": 1, "language": "en", "format": "json"},
        {
            "latitude": 48.85341,
            "longitude": 2.3488,
            "timezone": "auto",
            "current": "temperature_2m,apparent_temperature,relative_humidity_2m,precipitation,wind_speed_10m,"
            "weather_code",
        },
    ]


HINTS = [
    ("Paris, Texas", "Texas"),
    ("Paris, TEXAS, United States", "Texas"),
    ("Paris , us", "Texas"),
    ("Paris, France", "Île-de-France"),
    ("Paris, Atlantis", "Île-de-France"),
]


@pytest.mark.parametrize(("location", "region"), HINTS)
async def test_what_follows_a_comma_chooses_among_places_of_one_name(service, location, region):
    service.places(payload={"results": [PARIS, TEXAN]})
    service.forecast(payload=ANSWER)

    assert (await get_weather(location))["region"] == region
    assert (service.requests[0]["name"], service.requests[0]["count"]) == ("Paris", 20)


async def test_an_unknown_weather_code_is_told_as_it_is(service):
    service.places(payload={"results": [PARIS]})
    service.forecast(payload=ANSWER | {"current": ANSWER["current"] | {"weather_code": 4}})

    assert 4 not in WEATHER
    assert (await get_weather("Paris"))["weather"] == "WMO code 4"


FAILURES = [
    ("no_results", {"payload": {"generationtime_ms": 0.4}}, "no place is called 'Paris'"),
    ("empty_results", {"payload": {"results": []}}, "no place is called 'Paris'"),
    ("reason", {"status": 400, "payload": {"error": True, "reason": "Bad name"}}, r"refused \(HTTP 400\): Bad name"),
    ("reason_in_200", {"payload": {"error": True, "reason": "Odd"}}, r"refused \(HTTP 200\): Odd"),
    ("too_many", {"status": 429, "payload": {"error": True, "reason": "Daily limit"}}, "HTTP 429.: Daily limit"),
    ("server_error", {"status": 502, "body": "<html>", "reason": "Bad Gateway"}, r"\(HTTP 502\): Bad Gateway"),
    ("html", {"body": "<html>", "content_type": "text/html"}, "unknown form"),
    ("empty_body", {"body": ""}, "unknown form"),
    ("not_utf8", {"body": b'"\xff"'}, "unknown form"),
    ("list", {"payload": [1]}, "unknown form"),
    ("wrong_types", {"payload": {"results": ["Paris"]}}, "unknown form"),
    ("missing_key", {"payload": {"results": [{"name": "Paris"}]}}, "unknown form"),
    ("timeout", {"exception": TimeoutError()}, "did not answer within 7 s"),
    ("no_network", {"exception": aiohttp.ClientConnectionError("secret")}, "cannot be reached .ClientConnectionError"),
]


@pytest.mark.parametrize(("answer", "message"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
async def test_whatever_goes_wrong_is_told_to_the_model(service, answer, message):
    service.places(**answer)

    with pytest.raises(ToolError, match=message):
        await get_weather("Paris")


@pytest.mark.parametrize("answer", [{}, {"current": {}}, ANSWER | {"current_units": None}, {"current": 7}])
async def test_a_forecast_of_another_form_is_told_to_the_model(service, answer):
    service.places(payload={"results": [PARIS]})
    service.forecast(payload=answer)

    with pytest.raises(ToolError, match="unknown form"):
        await get_weather("Paris")


def test_it_only_reads_and_its_two_requests_end_within_its_limit():
    assert get_weather.read_only
    assert get_weather.timeout == 15
