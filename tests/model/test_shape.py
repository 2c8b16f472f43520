"""Shapes of models, read from configs of three families."""

from transformers import CONFIG_MAPPING

from pipeline.model.shape import ModelShape, model_shape


def test_shapes_of_three_families() -> None:
    llama = CONFIG_MAPPING["llama"](
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96
    )
    assert model_shape(llama, 1) == ModelShape(1, 32, 64, 4, 64, 32, 96, True, 32000)
    qwen3 = CONFIG_MAPPING["qwen3"](
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=32
    )
    assert (model_shape(qwen3, 1).attention, model_shape(qwen3, 1).key_value) == (128, 64)
    gpt2 = CONFIG_MAPPING["gpt2"](n_embd=64, n_head=4, n_layer=2)
    assert model_shape(gpt2, 1) == ModelShape(1, 2, 64, 4, 64, 64, 256, False, 50257)
