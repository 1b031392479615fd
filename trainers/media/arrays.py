"""Types of images, points and rows."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # RGB, (height, width, 3)
Images = NDArray[np.uint8]  # RGB, (n_images, height, width, 3)
Points = NDArray[np.floating]  # (n_points, 2), x and y in pixels
Rows = NDArray[np.intp]  # indices of rows, such as those of one batch
