from __future__ import annotations

import onnxruntime
import pytest
import torch

from archsmith import spaces
from archsmith.spaces.layers.mobile_attention import MobileAttention, MobileAttentionSpec, attend
from archsmith.spaces.onnx_graph import onnx_model


@pytest.fixture(scope="module")
def tiny():
    return spaces.get("mobilenetv4", "tiny")


@pytest.mark.parametrize(
    ("form", "depthwise"),
    [("extra_dw", ["start", "depthwise"]), ("ib", ["depthwise"]), ("convnext", ["start"]), ("ffn", [])],
)
def test_form_builds_its_depthwise_layers(tiny, form, depthwise):
    architecture = tiny.architecture({"stages.2.depth": 2, "stages.2.1.form": form})
    block = tiny.network(architecture, seed=0).stages[2][1].inverted
    found = [name for name in ("start", "depthwise") if getattr(block, name) is not None]
    assert found == depthwise
    named = set(architecture.choices) & {f"stages.2.1.{gene}" for gene in ("kernel", "start")}
    assert len(named) == len(depthwise)


@pytest.mark.parametrize("form", ["extra_dw", "ib", "convnext"])
def test_first_block_strides_in_the_window_that_is_there(tiny, form):
    ops = {op.name: op for op in tiny.ops(tiny.architecture({"stages.2.0.form": form}))}
    strides = {part: ops[f"stages.2.0.{part}.conv"].attributes["stride"] for part in ("start", "depthwise")
               if f"stages.2.0.{part}.conv" in ops}  # fmt: skip
    assert strides == {"extra_dw": {"start": 1, "depthwise": 2}, "ib": {"depthwise": 2}, "convnext": {"start": 2}}[form]


def test_first_block_is_never_one_that_cannot_stride(tiny):
    values = tiny.genes[tiny.table.find("stages.2.0.form")].values
    assert values == ("extra_dw", "ib", "convnext")


@pytest.mark.parametrize("heads", [1, 3])
def test_attention_equals_torchs_with_the_key_repeated(heads):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, heads * 4, 3, 5, generator=generator)
    key, value = (torch.randn(2, 4, 2, 3, generator=generator) for _ in range(2))
    rows = query.view(2, heads, 4, 15).transpose(2, 3)
    repeated = [part.view(2, 1, 4, 6).transpose(2, 3).expand(2, heads, 6, 4) for part in (key, value)]
    expected = torch.nn.functional.scaled_dot_product_attention(rows, *repeated)
    torch.testing.assert_close(
        attend(query, key, value, heads), expected.transpose(2, 3).reshape(2, heads * 4, 3, 5), atol=1e-6, rtol=1e-5
    )


def test_attention_block_with_zero_layer_scale_is_the_identity():
    block = MobileAttention(MobileAttentionSpec(channels=8, heads=2, head_channels=4, stride=2, layer_scale=True))
    assert block.layer_scale is not None
    torch.nn.init.zeros_(block.layer_scale.weight)
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x)


def test_onnx_model_of_attention_and_every_form_equals_the_network(tiny):
    for form in ("mqa", "ffn", "convnext"):
        architecture = tiny.architecture({"stages.2.depth": 2, "stages.2.1.form": form})
        network = tiny.network(architecture, seed=0).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("layer_scale.weight"):
                    parameter.fill_(0.5)
        state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        session = onnxruntime.InferenceSession(
            onnx_model(tiny.ops(architecture), state, batch=3).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (x,) = tiny.example_inputs(3)
        (found,) = session.run(None, {"image": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(x).detach(), atol=1e-4, rtol=1e-4)
