"""Checkpoints: what is kept, what a kill can leave, and what is refused."""

import gc
from pathlib import Path

import pytest
import tensorflow as tf

from ieg.run import checkpoint
from ieg.run.checkpoint import Record
from ieg.run.errors import CheckpointError

IDENTITY = {"seed": 1, "method": "ieg", "decay": [1, 2], "replicas": 2, "batch_size": 10}


def state(value=0.0):
    return {
        "weights": [tf.Variable([value, value]), tf.Variable(value)],
        "count": tf.Variable(int(value)),
    }


def save(folder, iteration, keep=3, **identity):
    rows = [{"iteration": i, "loss": 0.1 * i} for i in range(1, iteration + 1)]
    checkpoint.save(
        folder, iteration, state(float(iteration)), Record({**IDENTITY, **identity}, rows), keep
    )


def restore(folder, step=0, same=None, **identity):
    """What was loaded: iteration, weights, rows."""
    values, record = state(), Record({**IDENTITY, **identity}, [])
    done = checkpoint.restore(folder, values, record, step, same)
    return done, values["weights"][0].numpy().tolist(), record.rows


def test_the_newest_are_kept_and_tensorflow_finds_them(tmp_path):
    for iteration in (1, 5, 9, 10, 100):
        save(tmp_path, iteration)
    assert sorted(checkpoint.iterations(tmp_path)) == [9, 10, 100]
    assert len(list(tmp_path.iterdir())) == 2 * 3 + 1  # nothing unfinished is left
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint.ckpt-100")
    assert [
        Path(p).name
        for p in tf.train.get_checkpoint_state(str(tmp_path)).all_model_checkpoint_paths
    ] == ["checkpoint.ckpt-9", "checkpoint.ckpt-10", "checkpoint.ckpt-100"]
    done, weights, rows = restore(tmp_path)
    assert (done, weights, rows[-1]) == (100, [100.0, 100.0], {"iteration": 100, "loss": 0.1 * 100})
    assert restore(tmp_path, step=9)[:2] == (9, [9.0, 9.0])


def test_an_empty_folder_is_a_new_run_but_not_at_a_certain_step(tmp_path):
    assert restore(tmp_path) == (0, [0.0, 0.0], [])
    assert restore(tmp_path / "not there") == (0, [0.0, 0.0], [])
    with pytest.raises(CheckpointError, match="no checkpoint of iteration 7: there are none"):
        restore(tmp_path, step=7)
    save(tmp_path, 4)
    with pytest.raises(CheckpointError, match="no checkpoint of iteration 7: there are 4"):
        restore(tmp_path, step=7)


@pytest.mark.parametrize("part", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize("damage", [b"", b"torn by a full disk", None])
def test_a_torn_checkpoint_is_skipped_for_the_one_before(tmp_path, capsys, part, damage):
    save(tmp_path, 3)
    save(tmp_path, 6)
    torn = tmp_path / f"checkpoint.ckpt-6{part}"
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2] if damage is None else damage)
    assert restore(tmp_path)[:2] == (3, [3.0, 3.0])
    assert "warning: skipped" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="cannot be read"):
        restore(tmp_path, step=6)


def test_a_kill_before_the_index_leaves_the_older_checkpoint(tmp_path):
    save(tmp_path, 3)
    save(tmp_path, 6)
    (tmp_path / "checkpoint.ckpt-6.index").unlink()  # it is renamed last
    assert restore(tmp_path)[:2] == (3, [3.0, 3.0])
    save(tmp_path, 6)
    assert restore(tmp_path)[0] == 6


def test_another_run_is_refused_naming_every_difference(tmp_path):
    save(tmp_path, 3)
    with pytest.raises(CheckpointError) as caught:
        restore(tmp_path, seed=2, method="fsr")
    assert "method: ieg then, fsr now; seed: 1 then, 2 now" in str(caught.value)
    assert "choose another --output_dir" in str(caught.value)
    assert restore(tmp_path, decay=(1, 2))[0] == 3  # a tuple becomes a list in the file
    assert restore(tmp_path, seed=2, same=["method"])[0] == 3
    with pytest.raises(CheckpointError, match="method: ieg then, fsr now"):
        restore(tmp_path, method="fsr", same=["method"])


def test_more_or_fewer_devices_go_on_if_a_step_has_the_same_images(tmp_path, capsys):
    save(tmp_path, 3)
    assert restore(tmp_path, replicas=2)[0] == 3
    assert capsys.readouterr().out == ""
    assert restore(tmp_path, replicas=4, batch_size=5)[0] == 3
    assert "were 2 x 10, now 4 x 5. The steps have the same images" in capsys.readouterr().out
    with pytest.raises(CheckpointError) as caught:
        restore(tmp_path, replicas=1)
    assert "(replicas: 2 then, 1 now). With --batch_size=20 for each of" in str(caught.value)
    for given in ({"replicas": 3}, {"batch_size": 20}, {"replicas": 1, "seed": 2}):
        with pytest.raises(CheckpointError, match=r"(replicas|batch_size): ") as caught:
            restore(tmp_path, **given)
        assert ("With --batch_size" in str(caught.value)) == (given.get("replicas") == 1)
    save(tmp_path, 6, replicas=1, batch_size=20)  # as a run that went on saves it
    assert restore(tmp_path, replicas=1, batch_size=20)[0] == 6


def test_a_checkpoint_of_another_program_is_refused_instead_of_overwritten(tmp_path):
    save(tmp_path, 3)
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "checkpoint.ckpt-9"))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint of this program"):
        restore(tmp_path)


def test_a_part_of_the_state_can_be_restored(tmp_path):
    save(tmp_path, 3)
    weights = [tf.Variable([0.0, 0.0]), tf.Variable(0.0)]
    assert checkpoint.restore(tmp_path, {"weights": weights}, Record(IDENTITY, [])) == 3
    assert weights[1].numpy() == 3.0


def test_other_classes_are_refused_naming_the_first_unless_an_older_version_saved_none(tmp_path):
    save(tmp_path, 3)
    assert restore(tmp_path, class_names=["cat", "dog"])[0] == 3
    save(tmp_path, 6, class_names=["cat", "dog", "fox"])
    for names, difference in (
        (["cat", "cow", "fly"], "dog then, cow now"),
        (["cat", "dog"], "3 classes then, 2 classes now"),
    ):
        for same in (None, ["method", "class_names"]):
            with pytest.raises(CheckpointError, match=rf"\(class_names: {difference}\)"):
                restore(tmp_path, same=same, class_names=names)
    assert restore(tmp_path, class_names=["cat", "dog", "fox"])[0] == 6


def test_another_test_set_is_refused_unless_an_older_version_did_not_say_which(tmp_path):
    save(tmp_path, 3)
    assert restore(tmp_path, limit_test=50)[0] == 3
    save(tmp_path, 6, limit_test=50)
    with pytest.raises(CheckpointError, match="limit_test: 50 then, None now"):
        restore(tmp_path, limit_test=None)


def test_a_network_of_another_shape_is_not_a_torn_checkpoint_and_not_a_page_of_warnings(
    tmp_path, caplog
):
    save(tmp_path, 3)
    with caplog.at_level("WARNING", "tensorflow"):
        for step in (0, 3):
            values = {"weights": [tf.Variable([0.0]), tf.Variable(0.0)]}
            with pytest.raises(CheckpointError, match=r"of another shape .* give the data and the"):
                checkpoint.restore(tmp_path, values, Record(IDENTITY, []), step)
        gc.collect()
    assert caplog.messages == []
