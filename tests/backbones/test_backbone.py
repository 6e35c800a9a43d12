"""Loading, pooling, layers, flipping, the head, and what a backbone says of itself."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from embedkit.backbones import load_backbone
from embedkit.backbones import timm_models as timm_catalog
from embedkit.backbones.pooling import FeatureModule, gem
from embedkit.backbones.timm_models import timm_spec
from embedkit.backbones.tiny import TinyNet
from embedkit.decode.preprocessing import Preprocessing
from embedkit.errors import BackboneError, UnknownBackboneError

SMALL_RESNET = "timm:test_resnet.r160_in1k"
SMALL_VIT = "timm:test_vit.r160_in1k"
TRACES = pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(3, 3, 64, 64, generator=generator)


def random(name=SMALL_RESNET, **settings):
    return load_backbone(name, weights="random", input_size=64, **settings)


def run(backbone, images):
    with torch.inference_mode():
        return backbone.module(images)


def last_maps(images):
    with torch.inference_mode():
        return random().module.net.forward_features(images)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_default_is_resnet50_swsl():
    backbone = load_backbone(weights="random")
    assert (backbone.spec.name, backbone.feature_dim) == ("resnet50_swsl", 2048)
    assert backbone.spec.warning is None


def test_average_is_what_the_network_gives_its_classifier(images):
    backbone = random()
    close(run(backbone, images), last_maps(images).mean((2, 3)))
    assert backbone.head_applies


def test_maximum(images):
    close(run(random(pooling="max"), images), last_maps(images).amax((2, 3)))


def test_average_and_maximum_side_by_side(images):
    maps = last_maps(images)
    both = run(random(pooling="avg+max"), images)
    close(both, torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))
    assert random(pooling="avg+max").feature_dim == 2 * random().feature_dim


def test_gem_lies_between_average_and_maximum(images):
    maps = last_maps(images).clamp(min=1e-6)
    close(gem(maps, p=1.0), maps.mean((2, 3)))
    rising = [maps.mean((2, 3)), gem(maps), gem(maps, p=5.0), maps.amax((2, 3))]
    for lower, higher in itertools.pairwise(rising):
        assert (lower <= higher * (1 + 1e-5)).all()
        assert (lower < higher).any()
    close(run(random(pooling="gem", gem_p=4.0), images), gem(maps, p=4.0))


def test_gem_by_hand():
    maps = torch.tensor([[[[1.0, 2.0], [3.0, -5.0]]]])
    assert gem(maps, p=3.0).item() == pytest.approx(((1 + 8 + 27) / 4) ** (1 / 3))


def test_layers_are_pooled_and_joined_in_the_order_asked_for(images):
    net = random().module.net
    with torch.inference_mode():
        x = net.layer2(net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(images))))))
        third = net.layer3(x)
    backbone = random(layers=("layer3", "layer2"))
    expected = torch.cat([third.mean((2, 3)), x.mean((2, 3))], 1)
    close(run(backbone, images), expected)
    assert backbone.feature_dim == expected.shape[1]
    assert not backbone.head_applies


def test_last_layer_by_name_is_the_last_layer(images):
    close(run(random(layers=["layer4"]), images), run(random(), images))


def test_unknown_layers_are_told_with_those_there_are():
    with pytest.raises(ValueError, match=r"no layer layer9: .* act1, layer1, layer2"):
        random(layers=["layer4", "layer9"])


def test_layer_named_twice():
    with pytest.raises(ValueError, match="named twice"):
        random(layers=["layer4", "layer4"])


def test_flip_averages_with_the_mirror_image(images):
    backbone = random(flip=True)
    plain = random()
    close(run(backbone, images), (run(plain, images) + run(plain, images.flip(3))) / 2)
    close(run(backbone, images), run(backbone, images.flip(3)))
    assert backbone.head_applies


def test_head_on_features_is_the_classifier(images):
    backbone = random()
    with torch.inference_mode():
        logits = backbone.classifier(images)
    assert backbone.head is not None
    mine = run(backbone, images).numpy() @ backbone.head.weight.T + backbone.head.bias
    np.testing.assert_allclose(mine, logits.numpy(), rtol=1e-4, atol=1e-5)


def test_classifier_shares_nothing_with_the_module(images):
    backbone = random()
    before = run(backbone, images)
    for parameter in backbone.classifier.parameters():
        parameter.data.zero_()
    close(run(backbone, images), before)


def test_module_holds_no_classifier():
    backbone = random()
    assert backbone.head is not None
    whole = sum(p.numel() for p in backbone.classifier.parameters())
    without = sum(p.numel() for p in backbone.module.parameters())
    assert whole - without == backbone.head.weight.size + backbone.head.bias.size
    assert not backbone.module.training


def test_imagenet_classes_have_names_and_synsets():
    head = random().head
    assert head is not None
    assert (head.class_names[0], head.class_ids[0]) == ("tench, Tinca tinca", "n01440764")
    assert len(head.class_names) == len(head.class_ids) == 1000


def test_random_weights_are_seeded_and_leave_the_random_state_alone():
    torch.default_generator.manual_seed(9)
    expected = torch.rand(3)
    torch.default_generator.manual_seed(9)
    first = random(seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert first.fingerprint == random(seed=1).fingerprint != random(seed=2).fingerprint
    assert (first.weights, first.licence) == ("random:1", "none (random weights)")


def test_classifier_leaves_the_random_state_alone():
    backbone = random()
    before = torch.get_rng_state()
    assert backbone.classifier is not None
    assert torch.equal(torch.get_rng_state(), before)


def test_random_weights_carry_no_warning():
    assert load_backbone("tiny").warning is None


def test_tiny_is_always_random():
    tiny = load_backbone("tiny")
    assert (tiny.feature_dim, tiny.weights) == (16, "random:0")
    assert tiny.head is not None
    assert tiny.head.class_names[:2] == ("class 0", "class 1")
    assert tiny.head.class_ids == ()
    assert (tiny.preprocessing.resize, tiny.preprocessing.crop) == (36, 32)


def test_tiny_has_layers(images):
    assert run(load_backbone("tiny", layers=("conv1", "conv3")), images).shape == (3, 24)


def test_timm_names_take_timms_preprocessing():
    backbone = load_backbone(SMALL_RESNET, weights="random")
    assert backbone.preprocessing == Preprocessing(
        resize=168, crop=160, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )
    assert backbone.spec.licence in {"apache-2.0", "unknown"}  # timm 1.0.12 states none


def test_timm_prefix_before_a_listed_name_keeps_the_tables_facts():
    spec = load_backbone("timm:resnet18.fb_swsl_ig1b_ft_in1k", weights="random").spec
    assert spec.name == "resnet18_swsl"


def test_transformers_have_average_and_layers_only(images):
    backbone = random(SMALL_VIT)
    net = backbone.module.net
    with torch.inference_mode():
        close(
            run(backbone, images), net.forward_head(net.forward_features(images), pre_logits=True)
        )
    with pytest.raises(ValueError, match="use 'avg', or name layers"):
        random(SMALL_VIT, pooling="gem")
    assert run(random(SMALL_VIT, pooling="max", layers=["blocks.1"]), images).shape == (3, 64)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("timm:resnet5", "timm:resnet50"),
        ("timm:resnet50.no_such_tag", "timm:resnet50"),
        ("resnet5_swsl", "resnet50_swsl"),
    ],
)
def test_unknown_names_get_suggestions(name, suggestion):
    with pytest.raises(UnknownBackboneError, match=suggestion):
        load_backbone(name, weights="random")


def test_what_timm_converts_while_reading_is_left_to_the_hub():
    spec = timm_spec("vit_base_patch16_224.augreg_in21k")
    assert (spec.url, spec.filename, spec.sha8) == ("", "", "")
    assert spec.hub_id == "timm/vit_base_patch16_224.augreg_in21k"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"crop_mode": "border"}, "crop mode 'border'"),
        ({"crop_mode": "squash", "crop_pct": 0.9}, "squashes and then crops"),
        ({"interpolation": "random"}, "interpolation 'random'"),
        ({"input_size": (3, 224, 320)}, "square RGB"),
        ({"input_size": (1, 224, 224)}, "square RGB"),
    ],
)
def test_preprocessing_that_embedkit_lacks_is_refused(monkeypatch, change, told):
    cfg = replace(timm_catalog.get_pretrained_cfg("test_resnet"), **change)
    monkeypatch.setattr(timm_catalog, "get_pretrained_cfg", lambda name: cfg)
    with pytest.raises(BackboneError, match=told):
        timm_spec("test_resnet")


@pytest.mark.parametrize("settings", [{"pooling": "mean"}, {"gem_p": 0.0}, {"gem_p": float("nan")}])
def test_unknown_settings_are_value_errors(settings):
    with pytest.raises(ValueError, match=r"pooling|gem_p"):
        load_backbone("tiny", **settings)


def test_input_size_scales_the_resize():
    assert load_backbone("tiny", input_size=64).preprocessing.resize == 72
    with pytest.raises(ValueError, match="32 or more, not 31"):
        load_backbone("tiny", input_size=31)


def test_size_that_the_network_refuses():
    with pytest.raises(ValueError, match="does not take 100x100"):
        load_backbone("timm:vit_tiny_patch16_224", weights="random", input_size=100)


def test_given_preprocessing_wins():
    given = Preprocessing(resize=40, crop=40)
    assert load_backbone("tiny", preprocessing=given).preprocessing == given


def test_fields_of_the_preprocessing_can_be_changed():
    changed = load_backbone("tiny", preprocessing={"interpolation": "bicubic"}).preprocessing
    assert changed == Preprocessing(resize=36, crop=32, interpolation="bicubic")


def test_config_is_json_and_tells_backbones_apart():
    settings = [{}, {"flip": True}, {"pooling": "gem"}, {"pooling": "gem", "gem_p": 4.0}]
    settings += [{"layers": ["conv1"]}, {"input_size": 64}, {"seed": 1}]
    told = [json.dumps(load_backbone("tiny", **chosen).to_config()) for chosen in settings]
    assert len(set(told)) == len(settings)
    assert json.loads(told[0])["licence"] == "none (random weights)"


def test_gem_p_plays_no_part_in_other_poolings():
    assert load_backbone("tiny", gem_p=5.0).to_config() == load_backbone("tiny").to_config()


@TRACES
@pytest.mark.parametrize("settings", [{}, {"pooling": "gem", "flip": True}, {"layers": ["layer3"]}])
def test_module_can_be_traced(images, settings):
    backbone = random(**settings)
    traced = torch.jit.trace(backbone.module, images[:2])
    close(traced(images), run(backbone, images))


@TRACES
def test_module_converts_to_openvino(images):
    import openvino

    backbone = random(pooling="gem", layers=("layer3", "layer4"), flip=True)
    converted = openvino.convert_model(backbone.module, example_input=images[:1])
    converted = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    mine = torch.from_numpy(converted(images.numpy())[0])
    torch.testing.assert_close(mine, run(backbone, images), rtol=1e-3, atol=1e-4)


def test_module_has_no_graph_breaks(images):
    backbone = random(pooling="avg+max", layers=("layer3", "layer4"), flip=True)
    compiled = torch.compile(backbone.module, fullgraph=True, backend="eager")
    with torch.inference_mode():
        close(compiled(images), run(backbone, images))


def test_features_are_float32_whatever_the_weights():
    module = FeatureModule(TinyNet().to(torch.bfloat16))
    assert module(torch.zeros(1, 3, 32, 32, dtype=torch.bfloat16)).dtype == torch.float32
