"""What arrays are called in signatures: by what they hold, or, where structured, by what their records are."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
AnyFloats = npt.NDArray[np.floating]  # of whatever precision
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]  # structured: one record per stream, see table.py
Events = npt.NDArray[np.void]  # structured: one record per event, see records.py
Fixed = npt.NDArray[np.void]  # structured: the one record of what follows from the settings, see records.py
Field = tuple[str, str] | tuple[str, str, tuple[int, ...]]  # name, dtype, shape: what a part keeps in each row
