"""A node that is killed at random moments, under load of every kind, keeps what it promised."""

import os
import shutil

import pytest

from story import Story, told

# How often the node is killed: two hundred times by hand.
CRASHES = int(os.environ.get("DUNLIN_CRASHES", "10"))


# The end of a process takes nothing of what the operating system has.
@pytest.mark.timeout(60 + 5 * CRASHES)
@pytest.mark.parametrize("sync", ["always", "20", "os"])
def test_kills_at_random_moments_break_no_promise(cluster, tmp_path, seed, sync):
    data, left = tmp_path / "data", tmp_path / "left"
    node = cluster.node("n", flags=["--data", str(data), "--sync", sync, "--shards", "2"])
    story = Story(node, seed)
    for crash in range(1, CRASHES + 1):
        with told(f"kill {crash}", seed, left):
            story.live(story.random.randrange(1, 400))
            shutil.rmtree(left, ignore_errors=True)
            shutil.copytree(data, left)
            node.start_anywhere()
            story.check()
    with told("the end", seed, left):
        story.finish()
    assert story.count >= CRASHES
    assert "damaged" not in node.log()
