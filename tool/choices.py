"""Names and numbers that scripts' flags show, of parts that take seconds to import: here, where
nothing is imported, so that --help does not wait for torch.

What a name means is said where it is used.
"""

SAMPLINGS = ("uniform", "class")  # voc12/dataset.py
METHODS = ("cpn", "seam", "cam")  # network/cam_steps.py has a step of each
REFINEMENTS = ("pcm+prcm", "pcm", "prcm", "none")  # network/cpn.py
PRCM_KEYS = ("released", "transposed")  # network/cpn.py
AFFINITIES = ("cosine", "attention")  # network/refiner.py
ARCHITECTURES = ("deeplabv1", "deeplabv3", "deeplabv3plus")  # network/seg.py has a head of each
WALK_PRESETS = ("psa", "seam")  # network/expansion_inference.py has a walk of each

# tool/patches.py
STRATEGIES = ("superpixel", "grid", "pixel")
DRAWS = ("released", "exact")
SLIC_INPUTS = ("rescaled", "raw")

# tool/losses.py
SEAM_SCALE = 0.3  # of the crop: SEAM's second view, as released

# tool/schedule.py
OPTIMIZERS = ("sgd", "adamw")
NEW_LAYER_FACTOR = 10
# The released optimiser hands its weight decay to SGD's momentum slot, so 5e-4 is the momentum that
# made the published numbers.
RELEASED_MOMENTUM = 5e-4

# ResNet38's ImageNet weights, where trainers look for them if no flag says.
RESNET38_WEIGHTS = "weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.params"
