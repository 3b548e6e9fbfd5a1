"""Kept answers: given again while their time lasts, bounded in every way."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from proxy.core.cache import ENTRY_OVERHEAD_BYTES, Entry, Limits, ResponseCache, fingerprint
from proxy.core.entities import Usage

NOW = 1_800_000_000.0
LIMITS = Limits(bytes_max=1 << 20, entry_bytes_max=64 << 10, entries_max=3)
ENTRY = Entry(
    body=b"answer",
    last=b"end",
    stream=True,
    content_type="text/event-stream",
    usage=Usage(output=2),
    finish_reason="stop",
    channel="main",
    upstream_model="up-m",
    stored_at=NOW,
    expires_at=NOW + 60,
)


def test_an_answer_is_given_again_until_its_time_is_over() -> None:
    cache = ResponseCache()
    assert cache.get(b"a", NOW) is None
    assert cache.put(b"a", ENTRY, LIMITS)
    assert cache.get(b"a", NOW + 59.9) is ENTRY
    assert cache.get(b"b", NOW) is None
    assert (len(cache), cache.size) == (1, 9 + ENTRY_OVERHEAD_BYTES)
    assert cache.get(b"a", NOW + 60) is None
    assert (len(cache), cache.size) == (0, 0)
    counts = cache.counts
    assert (counts.hits, counts.misses, counts.stored, counts.evicted) == (1, 3, 1, 0)


def test_a_newer_answer_takes_the_place_of_the_older() -> None:
    cache = ResponseCache()
    cache.put(b"a", ENTRY, LIMITS)
    newer = replace(ENTRY, body=b"longer answer")
    assert cache.put(b"a", newer, LIMITS)
    assert cache.get(b"a", NOW) is newer
    assert (len(cache), cache.size) == (1, newer.size)
    assert not cache.put(b"a", replace(ENTRY, body=b"x" * (64 << 10)), LIMITS)
    assert cache.get(b"a", NOW) is None, "what is no longer true is not kept either"
    assert (len(cache), cache.size, cache.counts.too_large) == (0, 0, 1)


def test_the_least_recently_used_leaves_first() -> None:
    cache = ResponseCache()
    for digest in (b"a", b"b", b"c"):
        cache.put(digest, ENTRY, LIMITS)
    assert cache.get(b"a", NOW) is ENTRY
    cache.put(b"d", ENTRY, LIMITS)
    assert [cache.get(digest, NOW) is ENTRY for digest in (b"a", b"b", b"c", b"d")] == [
        True, False, True, True,
    ]  # fmt: skip
    assert cache.counts.evicted == 1


def test_bytes_are_bounded_whatever_the_number_is() -> None:
    cache, limits = ResponseCache(), Limits(bytes_max=2_500, entry_bytes_max=2_000)
    for digest in (b"a", b"b", b"c"):
        assert cache.put(digest, ENTRY, limits)
    assert (len(cache), cache.size) == (2, 2 * ENTRY.size)
    cache.trim(Limits())
    assert (len(cache), cache.size) == (0, 0)


def test_what_would_not_be_kept_is_known_beforehand() -> None:
    cache = ResponseCache()
    edge = (64 << 10) - ENTRY_OVERHEAD_BYTES
    assert cache.takes(edge, LIMITS)
    assert not cache.takes(edge + 1, LIMITS)
    assert not cache.takes(0, Limits())
    assert not cache.takes(2_000, Limits(bytes_max=2_500))


def test_no_part_of_a_request_runs_into_the_next() -> None:
    assert fingerprint([b"ab", b"c"]) != fingerprint([b"a", b"bc"]) != fingerprint([b"abc"])
    assert fingerprint([b"ab", b"c"]) == fingerprint((b"ab", b"c"))
    assert len(fingerprint([])) == 32


@given(
    st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 3_000), st.booleans())
    )
)
def test_it_never_holds_more_than_its_limits(steps: list[tuple[bytes, int, bool]]) -> None:
    cache, limits = ResponseCache(), Limits(bytes_max=6_000, entry_bytes_max=3_500, entries_max=3)
    now = NOW
    for digest, size, put in steps:
        now += 5
        if put:
            entry = replace(ENTRY, body=b"x" * size, expires_at=now + 20)
            assert cache.put(digest, entry, limits) is cache.takes(size + len(ENTRY.last), limits)
        else:
            found = cache.get(digest, now)
            assert found is None or now < found.expires_at
        assert cache.size == sum(one.size for one in cache._entries.values()) <= 6_000
        assert len(cache) <= 3
