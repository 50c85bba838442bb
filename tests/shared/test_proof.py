"""`python -m tests.proof` in short, as far as it needs no project."""

import random

import pytest

from tests.proof import disk, downloads, mutations


def assert_all_well(rows, tried):
    assert [failure for row in rows for failure in row.failures] == []
    assert sum(row.tried for row in rows) == tried


@pytest.mark.training
def test_a_download_cut_at_a_random_byte_is_continued_or_refused():
    assert_all_well(downloads.part(12, seed=1), 12)


@pytest.mark.training
def test_mutated_files_are_read_or_refused_in_little_memory_and_time():
    assert_all_well(mutations.noise_part(200, seed=1), 200)


@pytest.mark.training
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    commands = disk.shared_commands()
    commands.pop("data shapes")  # takes seconds
    assert_all_well(disk.shared_part(commands, 1, 1, tmp_path), len(commands))


def test_a_mutation_changes_the_file_and_is_drawn_from_the_seed(tmp_path):
    for data in mutations.noise_files(tmp_path).values():
        drawn = [mutations.mutate(data, random.Random(seed)) for seed in (0, 0, 1, 2, 3)]
        assert drawn[0] == drawn[1]
        assert any(one != data for one in drawn)
