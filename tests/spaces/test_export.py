"""Exported files work where archsmith does not exist."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archsmith import spaces
from archsmith.errors import SpaceError
from archsmith.spaces.export import FILES, export_network

# Runs in a bare interpreter: anything of archsmith is refused, installed or not.
CONSUMER = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "archsmith":
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Refuse())
try:
    import archsmith
except ImportError:
    pass
else:
    raise SystemExit("archsmith can still be imported")

import numpy as np
folder = sys.argv[1]
for batch in (1, 2, 9):
    inputs = np.load(f"{folder}/inputs.npy")[:batch]
    logits = np.load(f"{folder}/logits.npy")[:batch]
    if sys.argv[2] == "onnx":
        import onnxruntime
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {session.get_inputs()[0].name: inputs})
        assert "torch" not in sys.modules
    else:
        import torch
        with torch.no_grad():
            got = torch.export.load(f"{folder}/model.pt2").module()(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(got, logits, atol=1e-4)
assert not any(name.split(".")[0] == "archsmith" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    space = spaces.get("mobilenet", "tiny")
    architecture = space.decode(space.largest())
    network = space.network(architecture, seed=0)
    (x,) = space.example_inputs(9)
    network.train()(x)
    folder = tmp_path_factory.mktemp("export") / "models" / "0"
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    files = export_network(network, space, architecture, folder)
    assert network.training
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    np.save(folder / "inputs.npy", x.numpy())
    np.save(folder / "logits.npy", network.eval()(x).detach().numpy())
    return space, architecture, network, files


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_exported_model_without_archsmith_gives_the_same_logits(exported, form, tmp_path):
    folder = exported[3]["model.onnx"].parent
    result = subprocess.run(
        [sys.executable, "-I", "-c", CONSUMER, str(folder), form],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_export_writes_exactly_its_files(exported):
    files = exported[3]
    assert tuple(files) == FILES
    folder = files["model.onnx"].parent
    assert {path.name for path in folder.iterdir()} == {*FILES, "inputs.npy", "logits.npy"}


def test_exported_architecture_says_what_it_is(exported):
    space, architecture, network, files = exported
    about = json.loads(files["architecture.json"].read_text())
    assert about["architecture"]["key"] == architecture.key
    assert about["space"]["identity"] == space.identity
    assert space.architecture(about["architecture"]["choices"]) == architecture
    assert about["params"] == sum(p.numel() for p in network.parameters())


def test_exported_weights_fill_a_new_network(exported):
    space, architecture, network, files = exported
    (x,) = space.example_inputs(4)
    other = space.network(architecture, seed=1)
    missing, unexpected = other.load_state_dict(load_file(files["weights.safetensors"]), strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert torch.equal(other.eval()(x), network.eval()(x))


def test_export_of_another_architecture_is_refused_and_writes_nothing(exported, tmp_path):
    space, _, network, _ = exported
    with pytest.raises(SpaceError, match=r"its Op needs"):
        export_network(network, space, space.decode(space.smallest()), tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_export_to_a_file_fails_clearly(exported, tmp_path):
    space, architecture, network, _ = exported
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError, match="taken"):
        export_network(network, space, architecture, tmp_path / "taken")
