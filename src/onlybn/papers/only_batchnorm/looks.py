"""How the paper's regimes and families look in every figure."""

from onlybn.drawing.looks import COLOURS, Look, Looks, Panel

LOOKS = Looks(
    regimes={
        "all": Look("all parameters", COLOURS[0], "o"),
        "no-affine": Look("all but γ and β", COLOURS[7], "s"),
        "batchnorm+output+shortcut": Look("BatchNorm, output and shortcuts", COLOURS[9], "<"),
        "batchnorm+output": Look("BatchNorm and output layer", COLOURS[2], "^"),
        "batchnorm": Look("BatchNorm", COLOURS[3], "D"),
        "random-2": Look("2 random weights per channel", COLOURS[4], "v"),
        "output": Look("output layer", COLOURS[1], "P"),
        "gamma": Look("γ alone", COLOURS[5], ">"),
        "beta": Look("β alone", COLOURS[6], "*"),
    },
    panels=(
        Panel("depth", "resnet", COLOURS[3], "D"),
        # ResNet-14 is the WRN of width 1.
        Panel("width", "wrn", COLOURS[9], "s", too=("resnet-14",)),
        Panel("VGG depth", "vgg", COLOURS[2], "^"),
        Panel("ImageNet depth", "imagenet-resnet", COLOURS[0], "o"),
    ),
)
