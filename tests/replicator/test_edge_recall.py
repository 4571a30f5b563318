"""Answers given again: only while nothing is under way, and never after news."""

import math
from dataclasses import dataclass, field

import pytest

from anycastle.replicator import edge_recall
from anycastle.replicator.edge_recall import CLEAR_SECONDS_MAX, UNCLEAR_SECONDS, Answer, Recall

HEAD = b"GET /a HTTP/1.1\r\n\r\n"
A = Answer("blogs", "serve", b"HTTP/1.1 204 No Content\r\n\r\n")


@dataclass
class World:
    seconds: float = 5.0
    until: dict[str, float] = field(default_factory=dict)
    asked: int = 0

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.seconds

    def clear_until(self, group: str) -> float:
        self.asked += 1
        return self.until.get(group, math.inf)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def recall(world: World) -> Recall:
    return Recall(clock=world, clear_until=world.clear_until)


def test_the_same_head_has_the_same_answer(recall: Recall) -> None:
    assert recall.find(HEAD) is None
    recall.keep(HEAD, A)
    assert recall.find(HEAD) is A
    assert recall.find(HEAD.replace(b"/a", b"/b")) is None


def test_news_of_the_group_end_it_and_of_another_do_not(recall: Recall) -> None:
    recall.keep(HEAD, A)
    recall.news("photos")
    assert recall.find(HEAD) is A
    recall.news("blogs")
    assert recall.find(HEAD) is None
    recall.keep(HEAD, A)
    assert recall.find(HEAD) is A


def test_nothing_is_kept_or_given_while_something_is_under_way(world: World, recall: Recall) -> None:
    world.until["blogs"] = -math.inf
    recall.keep(HEAD, A)
    world.until["blogs"] = math.inf
    world.seconds += UNCLEAR_SECONDS
    assert recall.find(HEAD) is None
    recall.keep(HEAD, A)
    world.until["blogs"] = -math.inf
    world.seconds += CLEAR_SECONDS_MAX
    assert recall.find(HEAD) is None
    world.until["blogs"] = math.inf
    world.seconds += UNCLEAR_SECONDS
    assert recall.find(HEAD) is A, "what is known is the same: there was no news"


def test_it_ends_with_what_is_vouched_for(world: World, recall: Recall) -> None:
    world.until["blogs"] = 5.05
    recall.keep(HEAD, A)
    world.seconds = 5.04
    assert recall.find(HEAD) is A
    world.seconds = 5.05
    assert recall.find(HEAD) is None


def test_the_state_of_a_group_is_asked_for_now_and_then(world: World, recall: Recall) -> None:
    recall.keep(HEAD, A)
    for _ in range(100):
        assert recall.find(HEAD) is A
    assert world.asked == 1
    world.seconds += CLEAR_SECONDS_MAX
    assert recall.find(HEAD) is A
    assert world.asked == 2


def test_nor_with_each_request_while_something_is_under_way(world: World, recall: Recall) -> None:
    world.until["blogs"] = -math.inf
    for _ in range(100):
        recall.keep(HEAD, A)
    assert world.asked == 1
    world.seconds += UNCLEAR_SECONDS
    recall.keep(HEAD, A)
    assert world.asked == 2


def test_memory_is_bounded(recall: Recall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_recall, "KEPT_BYTES_MAX", 10 * (len(HEAD) + len(A.text)))
    heads = [HEAD.replace(b"/a", b"/%d" % number) for number in range(10)]
    for head in heads:
        recall.keep(head, A)
        recall.keep(head, A)
    assert all(recall.find(head) for head in heads)
    recall.keep(HEAD, A)
    assert recall.find(HEAD) is A
    assert not any(recall.find(head) for head in heads)
