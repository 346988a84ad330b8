"""A search on a real Ray cluster of two nodes, each in processes of its own, of which one is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import Quiet
from tiny_study import environment, is_sound, tiny_spec

from autopeft.coordinator import search
from autopeft.errors import AutopeftError, SpecError
from autopeft.spec_file import read_spec
from autopeft.trial import TrialState

pytest.importorskip("ray")

TRIALS, AT_ONCE = 20, 8

TWO_NODES = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster
from test_cluster import lose_a_node

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    lose_a_node(cluster, cluster.add_node(num_cpus=4), Path(sys.argv[1]))
    cluster.shutdown()
"""


class LosesANode(Quiet):
    """Progress that kills a node of the cluster when eight trials run and one has ended."""

    def __init__(self, cluster, node) -> None:
        super().__init__()
        self.cluster, self.node, self.most = cluster, node, 0
        self.ran_at_kill = 0

    def ended(self, trial, record) -> None:
        super().ended(trial, record)
        running = sum(not t.state.finished for t in record.trials)
        self.most = max(self.most, running + 1)
        if self.node is not None and self.most >= AT_ONCE:
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.node, self.ran_at_kill = None, running


def lose_a_node(cluster, node, folder: Path) -> None:
    """Search on both nodes, lose one, and check what came of it."""
    path = tiny_spec(folder, budget=f"{TRIALS}trials", fidelity={"steps": 60}, executor={"name": "ray", "address": cluster.address})
    spec, home = read_spec(path, ["executor.cores=4096"], environ={})
    with pytest.raises(SpecError, match=r"4096 cores for a trial; lower executor\.cores"):
        search(spec, home, folder / "study", Quiet())
    assert not (folder / "study").exists()
    spec, home = read_spec(path, environ={})
    progress = LosesANode(cluster, node)
    record = search(spec, home, folder / "study", progress)
    assert progress.most == AT_ONCE
    assert progress.node is None
    assert progress.ran_at_kill >= 4
    assert len(record.trials) == len({t.configuration.key for t in record.trials}) == TRIALS
    assert {t.state for t in record.trials} <= {TrialState.COMPLETE, TrialState.EARLY_STOPPED}
    assert sorted(progress.ends) == list(range(TRIALS))
    for trial in record.trials:
        assert len({(o.seed, o.step) for o in trial.observations}) == len(trial.observations)
    assert is_sound(folder / "study")


@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_a_search_outlives_a_node(tmp_path: Path) -> None:
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", TWO_NODES, str(tmp_path)],
        env=environment(PYTHONPATH=here, RAY_USAGE_STATS_ENABLED="0", RAY_raylet_start_wait_time_s="120"),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    spec, home = read_spec(tiny_spec(tmp_path, executor={"name": "ray", "address": "127.0.0.1:1"}), environ={})
    with pytest.raises(AutopeftError, match=r"cluster 127\.0\.0\.1:1 cannot be reached"):
        search(spec, home, tmp_path / "study", Quiet())
    assert not (tmp_path / "study").exists()


def test_ray_is_asked_for_by_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "autopeft.execute.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    spec, home = read_spec(tiny_spec(tmp_path, executor={"name": "ray"}), environ={})
    with pytest.raises(SpecError, match=r"pip install 'autopeft\[ray\]'"):
        search(spec, home, tmp_path / "study", Quiet())
