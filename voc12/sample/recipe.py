"""How the demo trains on the sample data set: the flags of its commands, and its sizes."""

DATA = "data/sample"
IMAGES, VAL_IMAGES = 400, 100
START_EPOCHES, MAX_EPOCHES = 3, 1

# What two cores learn in a few minutes; docs/log has the tries. Both methods go on from the same
# plain CAM, for as many images: from ImageNet weights, patches hide too much for a head to be found
# in this time.
NETWORK = "--backbone efficientnet_lite0"
# As --preset small but for the rates, spelled out, so that a table's --preset best is no other
# setting. What goes on from a plain CAM does so at smaller rates.
TRAINING = (
    "--crop_size 144 --resize_long 160 240 --batch_size 8 --optimizer adamw --wt_dec 0.01 "
    "--warmup 30 --clip_norm 1 --refinement_factor 0 --val_list none"
)
START_RATE, RATE = "--lr 0.0003", "--lr 0.0001 --new_layer_factor 30"
PATCHES = "--patch grid --grid_sizes 36 72"
SCALES = "--scales 0.9"  # the middle of what training sees
CRF = "--crf irn --crf_threshold auto"
IRN = "--crop_size 224 --batch_size 8 --max_epoches 1 --fg_threshold auto --bg_threshold auto"
WALK = "--fill 1"
SEG = (
    "--arch deeplabv3plus --output_stride 16 --head_channels 128 --crop_size 144 --scale 0.6 1.0 "
    "--batch_size 8 --lr 0.004 --max_iterations 300 --val_list none"
)
SEG_INFERENCE = "--scales 0.75 1.0 --crf irn"
