"""What a hostile gateway answers to queries ends in the same way for every operator that asks."""

import pytest
from hostile_queries import STORIES
from hostile_runs import QUERY_WAYS, play


@pytest.mark.parametrize("name", STORIES)
def test_an_answer_to_a_query_ends_in_the_same_way_for_every_operator(hostile, clock, logged, tmp_path, name):
    problems = play(STORIES[name], "query", QUERY_WAYS, hostile, clock, logged, tmp_path)
    assert not problems, "\n".join(problems)
