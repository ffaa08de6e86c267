"""What the commands and the estimators make of forty real tables, beside boosting, an MLP and a linear model."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # here, because libraries read them when they are imported
