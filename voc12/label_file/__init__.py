"""Files of image labels in the forms in which people have them."""
