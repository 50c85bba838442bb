"""Open-set noise: which images are replaced by which, by the published recipe."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.formats import noise_file
from shared.formats.noise_file import NoiseFileError
from shared.noise import open_set
from shared.noise.generators import share_of
from shared.noise.open_set import (
    Pairs,
    draw_pairs,
    flags,
    pairs_for,
    read_pairs,
    replace_images,
    write_pairs,
)


def pictures(count, seed=0, side=4):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def noise_with(replaced, **known):
    labels = np.zeros(len(replaced), int)
    return noise_file.make(labels, clean_labels=labels, open_set=replaced, kind="open_set", **known)


def assert_equal(one: Pairs, two: Pairs) -> None:
    np.testing.assert_array_equal(one.positions, two.positions)
    np.testing.assert_array_equal(one.donors, two.donors)


# ---- drawing


@pytest.mark.parametrize("rate", [0.4, 0.5, 0.6])
def test_the_published_pairs_of_seed_123(rate):
    pairs = draw_pairs(50_000, 50_000, rate, 123)
    assert len(pairs) == int(50_000 * rate)
    assert pairs.positions[:4].tolist() == [11872, 40828, 36400, 5166]
    assert pairs.donors[:4].tolist() == [20304, 22089, 1976, 22154]


@given(st.integers(0, 60), st.floats(0, 1), st.integers(0, 2**32 - 124))
def test_pairs_are_different_images_and_a_higher_rate_adds_to_them(size, rate, seed):
    pairs, all_pairs = (draw_pairs(size, 60, r, seed) for r in (rate, 1.0))
    assert len(pairs) == share_of(rate, size) == len(set(pairs.positions)) == len(set(pairs.donors))
    assert set(pairs.positions) <= set(range(size))
    assert set(pairs.donors) <= set(range(60))
    assert pairs.positions.dtype == pairs.donors.dtype == np.int64
    assert_equal(pairs, Pairs(all_pairs.positions[: len(pairs)], all_pairs.donors[: len(pairs)]))
    assert flags(pairs, size).sum() == len(pairs)


def test_the_global_stream_is_not_moved():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global stream is what this test watches
    draw_pairs(100, 100, 0.5, 1)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 30, 0.4, 1), "40 images are to be replaced, but there are 30"),
        ((100, 100, 1.1, 1), "outside"),
        ((100, 100, float("nan"), 1), "outside"),
        ((100, 100, 0.1, -1), "seed -1"),
        ((100, 100, 0.1, 2**32 - 123), "choose another"),
    ],
)
def test_draws_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_pairs(*arguments)


@pytest.mark.parametrize(
    ("positions", "donors", "message"),
    [
        ([1, 2], [3], "2 positions and 1 donors"),
        ([1, 1], [3, 4], "twice"),
        ([-1], [3], "positions: -1"),
        ([1], [-3], "donors: -3"),
        ([[1]], [3], "shape"),
        ([0.5], [3], "integers"),
    ],
)
def test_wrong_pairs_are_refused(positions, donors, message):
    with pytest.raises(NoiseFileError, match=message):
        Pairs(np.array(positions), np.array(donors))


def test_pairs_are_read_only_and_a_donor_may_serve_twice():
    pairs = Pairs(np.array([4, 1]), np.array([2, 2]))
    with pytest.raises(ValueError, match="read-only"):
        pairs.positions[0] = 3


# ---- images


def test_images_are_replaced_in_a_copy():
    images, donors = pictures(6), pictures(4, seed=1)
    before = images.copy()
    replaced = replace_images(images, donors, Pairs(np.array([5, 0]), np.array([2, 2])))
    expected = [donors[2], images[1], images[2], images[3], images[4], donors[2]]
    np.testing.assert_array_equal(replaced, expected)
    np.testing.assert_array_equal(images, before)
    none = replace_images(images, donors, Pairs(np.zeros(0, int), np.zeros(0, int)))
    np.testing.assert_array_equal(none, images)
    assert not np.shares_memory(none, images)


@pytest.mark.parametrize(
    ("images", "donors", "message"),
    [
        (pictures(6), pictures(4, side=8), "4 x 4 pixels, donor images 8 x 8"),
        (pictures(6) / 255, pictures(4), "float64"),
        (pictures(6), pictures(4)[0], "donor_images are uint8 of shape"),
        (pictures(5), pictures(4), "training image 5, but the last one is 4"),
        (pictures(6), pictures(3), "donor image 3, but the last one is 2"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, donors, message):
    with pytest.raises(ValueError, match=message):
        replace_images(images, donors, Pairs(np.array([5, 0]), np.array([3, 2])))


def test_flags_of_a_shorter_set_are_refused():
    with pytest.raises(ValueError, match="last one is 4"):
        flags(Pairs(np.array([5]), np.array([0])), 5)


# ---- from flags back to pairs


def test_pairs_are_drawn_anew_from_the_header_or_from_given_seeds():
    pairs = draw_pairs(200, 300, 0.25, 7)
    replaced = flags(pairs, 200)
    assert_equal(pairs_for(noise_with(replaced, seed=7), 300), pairs)
    assert_equal(pairs_for(noise_with(replaced), 300, seeds=(123, 7)), pairs)
    assert_equal(pairs_for(noise_with(replaced, seed=1), 300, seeds=[7]), pairs)
    assert len(pairs_for(noise_with(np.zeros(5, bool)), 300)) == 0


@pytest.mark.parametrize(
    ("noise", "seeds", "words"),
    [
        (
            noise_with(flags(draw_pairs(200, 300, 0.25, 7), 200)),
            (123, 8),
            "tried seed 123, 8.*list of pairs.*--kind open",
        ),
        (noise_with(flags(draw_pairs(200, 300, 0.25, 7), 200)), (), "no seed that could be tried"),
        (
            noise_with(np.ones(20, bool)),
            (7,),
            "no seed that could be tried",
        ),  # whatever the seed, all are replaced
        (noise_with(np.ones(400, bool), seed=1), (), "drawn again: 400 images"),
        (noise_file.make([0, 1]), (1,), "flags no replaced images"),
        (
            noise_file.make([0, 1], open_set=[True, False], indices=[4, 5]),
            (1,),
            "a part of the training set",
        ),
    ],
)
def test_files_that_do_not_lead_to_their_pairs_are_refused(noise, seeds, words):
    with pytest.raises(NoiseFileError, match=words):
        pairs_for(noise, 300, seeds)


def test_where_everything_is_replaced_the_header_is_believed():
    assert_equal(pairs_for(noise_with(np.ones(20, bool), seed=3), 300), draw_pairs(20, 300, 1.0, 3))


# ---- files


@given(st.sets(st.integers(0, 10**18 - 1), max_size=20), st.data())
@settings(max_examples=40)
def test_a_list_survives_its_file(tmp_path_factory, positions, data):
    donors = data.draw(
        st.lists(st.integers(0, 10**12), min_size=len(positions), max_size=len(positions))
    )
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    pairs = Pairs(np.array(list(positions), np.int64), np.array(donors, np.int64))
    write_pairs(path, pairs)
    assert_equal(read_pairs(path), pairs)


def test_the_list_is_plain_csv(tmp_path):
    path = tmp_path / "new/pairs.csv"
    write_pairs(path, Pairs(np.array([11872, 40828]), np.array([20304, 22089])))
    assert path.read_bytes() == b"index,donor_index\n11872,20304\n40828,22089\n"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_pairs(path).donors.tolist() == [20304, 22089]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "first line is ''"),
        (b"label,label_noisy\n1,2\n", "expected index,donor_index"),
        (b"index,donor_index\n1,2\n3\n", "line 3: '3'"),
        (b"index,donor_index\n1,2,3\n", "line 2"),
        (b"index,donor_index\n1,-2\n", "line 2"),
        (b"index,donor_index\n1,2.0\n", "line 2"),
        (b"index,donor_index\n\n", "line 2"),
        (b"index,donor_index\n1," + b"9" * 30, "line 2"),
        (b"index,donor_index\n1,2\n1,3\n", "twice"),
        ("index,donor_index\n١,2\n".encode(), "not a list of pairs"),
        (b"\x93NUMPY\xff", "not a list of pairs"),
    ],
)
def test_damaged_lists_are_refused(tmp_path, content, message):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(NoiseFileError, match=f"pairs.csv.*{message}"):
        read_pairs(path)


def test_a_list_that_is_missing_or_too_large_is_named(tmp_path, monkeypatch):
    with pytest.raises(NoiseFileError, match=r"none\.csv does not exist"):
        read_pairs(tmp_path / "none.csv")
    with pytest.raises(NoiseFileError, match="cannot read"):
        read_pairs(tmp_path)
    write_pairs(tmp_path / "a.csv", Pairs(np.array([1]), np.array([2])))
    monkeypatch.setattr(open_set.safe_arrays, "MAX_FILE_BYTES", 3)
    with pytest.raises(NoiseFileError, match="too large"):
        read_pairs(tmp_path / "a.csv")
