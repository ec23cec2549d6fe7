"""Broken streams, a few of them: `scripts/fuzz` tries as many as there is time for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus import FAKES
from tests.fuzz.mutations import STEPS, Step, mutate, split
from tests.fuzz.promises import LEEWAY, check, good_streams, growth

steps = st.lists(st.tuples(st.sampled_from(list(STEPS)), st.integers(0, 2**32)), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(good_streams())), steps)
def test_a_broken_stream_is_a_typed_error_or_a_whole_turn(name: str, steps: list[Step]) -> None:
    api, data = good_streams()[name]
    check(api, mutate(data, steps), steps[0][1])


@pytest.mark.parametrize("step", STEPS)
def test_every_step_changes_streams(step: str) -> None:
    """A step that changes nothing would prove nothing."""
    _, data = good_streams()["calls anthropic-messages"]
    assert sum(mutate(data, [(step, seed)]) != data for seed in range(20)) > 10


@pytest.mark.parametrize("api", FAKES)
def test_the_work_grows_with_the_stream_and_not_with_its_square(api: str) -> None:
    """Each event of a stream is said very often, whatever it is."""
    for name in ("calls", "reasoning"):
        frames = split(good_streams()[f"{name} {api}"][1])
        for at in range(len(frames)):
            assert growth(api, frames, at) < 16 * LEEWAY
