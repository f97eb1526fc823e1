"""The convolutions of published networks at their real sizes, batch 1."""

from __future__ import annotations

from parity_tests.specs.spec import DTYPES, Built, Corner


def _network(
    name: str,
    channels: tuple[int, int],
    kernel: int,
    size: int,
    dtypes: tuple[str, ...] = ("float32",),
    bias: bool = True,
    **arguments: int,
) -> Corner:
    """A convolution of a published network at its real size, batch 1."""
    given = {"in_channels": channels[0], "out_channels": channels[1], "kernel_size": kernel, **arguments}
    given |= {} if bias else {"bias": False}
    return Corner(f"network_{name}", built=Built(given, ((1, channels[0], size, size),)), dtypes=dtypes)


def _inception(
    name: str, channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pool: int
) -> list[Corner]:
    """The six convolutions of an inception block (Szegedy et al., arXiv:1409.4842, table 1), on 28 x 28."""
    return [
        _network(f"{name}_1x1", (channels, one), 1, 28),
        _network(f"{name}_3x3_reduce", (channels, three[0]), 1, 28),
        _network(f"{name}_3x3", three, 3, 28, padding=1),
        _network(f"{name}_5x5_reduce", (channels, five[0]), 1, 28),
        _network(f"{name}_5x5", five, 5, 28, padding=2),
        _network(f"{name}_pool_proj", (channels, pool), 1, 28),
    ]


NETWORKS = (
    # LeNet-5: LeCun et al. 1998, Gradient-based learning applied to document recognition
    _network("lenet5_conv1", (1, 6), 5, 28, DTYPES, padding=2),
    _network("lenet5_conv2", (6, 16), 5, 14, DTYPES),
    # AlexNet: Krizhevsky et al. 2012; conv2, conv4 and conv5 in two groups
    _network("alexnet_conv1", (3, 96), 11, 224, stride=4, padding=2),
    _network("alexnet_conv2", (96, 256), 5, 27, padding=2, groups=2),
    _network("alexnet_conv3", (256, 384), 3, 13, padding=1),
    _network("alexnet_conv4", (384, 384), 3, 13, padding=1, groups=2),
    _network("alexnet_conv5", (384, 256), 3, 13, padding=1, groups=2),
    # VGG-16: Simonyan and Zisserman, arXiv:1409.1556, configuration D
    *(
        _network(f"vgg16_conv{name}", channels, 3, size, padding=1)
        for name, channels, size in (
            ("1_1", (3, 64), 224),
            ("1_2", (64, 64), 224),
            ("2_1", (64, 128), 112),
            ("2_2", (128, 128), 112),
            ("3_1", (128, 256), 56),
            ("3_2", (256, 256), 56),
            ("4_1", (256, 512), 28),
            ("4_2", (512, 512), 28),
            ("5_1", (512, 512), 14),
        )
    ),
    # GoogLeNet: stem and first two inception blocks
    _network("googlenet_conv1", (3, 64), 7, 224, stride=2, padding=3),
    _network("googlenet_conv2_reduce", (64, 64), 1, 56),
    _network("googlenet_conv2", (64, 192), 3, 56, padding=1),
    *_inception("googlenet_3a", 192, 64, (96, 128), (16, 32), 32),
    *_inception("googlenet_3b", 256, 128, (128, 192), (32, 96), 64),
    # ResNet-18: He et al., arXiv:1512.03385, table 1; convolutions without bias, 1x1 stride 2 shortcuts
    _network("resnet18_conv1", (3, 64), 7, 224, bias=False, stride=2, padding=3),
    _network("resnet18_layer1", (64, 64), 3, 56, bias=False, padding=1),
    *(
        _network(f"resnet18_layer{n}_{kind}", channels, kernel, size, bias=False, **arguments)
        for n, inner, outer, side in ((2, 64, 128, 56), (3, 128, 256, 28), (4, 256, 512, 14))
        for kind, channels, kernel, size, arguments in (
            ("first", (inner, outer), 3, side, {"stride": 2, "padding": 1}),
            ("second", (outer, outer), 3, side // 2, {"padding": 1}),
            ("shortcut", (inner, outer), 1, side, {"stride": 2}),
        )
    ),
    # DenseNet-121: Huang et al., arXiv:1608.06993; first block, growth 32, bottleneck 128
    *(_network(f"densenet_block1_{n}_1x1", (64 + 32 * n, 128), 1, 56, bias=False) for n in range(6)),
    _network("densenet_block1_3x3", (128, 32), 3, 56, bias=False, padding=1),
)
