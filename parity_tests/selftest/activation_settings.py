"""The activations that self-tests look at: inputs, and arguments for every layer."""

import numpy as np

X = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])

# layer -> its arguments; PReLU's weight and GLU's axis are tried elsewhere
LAYERS = {
    "ReLU": {}, "ReLU6": {}, "Hardsigmoid": {}, "Hardswish": {}, "SELU": {}, "Sigmoid": {}, "LogSigmoid": {},
    "SiLU": {}, "Mish": {}, "Softsign": {}, "Tanh": {}, "Tanhshrink": {}, "GELU": {}, "RReLU": {"upper": 0.5},
    "Threshold": {"threshold": 0.5, "value": -3.0}, "Hardtanh": {"min_val": -0.75, "max_val": 1.5},
    "Hardshrink": {"lambd": 0.25}, "Softshrink": {"lambd": 0.25}, "LeakyReLU": {"negative_slope": 0.3},
    "ELU": {"alpha": -1.5}, "CELU": {"alpha": 0.7}, "Softplus": {"beta": 1.5, "threshold": 1.0},
}  # fmt: skip
TANH = {"GELU": {"approximate": "tanh"}}
SPREAD = np.array([-3.7, -1.3, -0.61, -0.11, 0.13, 0.49, 1.1, 1.7, 3.3, 6.4])  # no breakpoint
