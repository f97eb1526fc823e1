"""Loop-based reference implementations of torch.nn's layers: numpy only, one readable walk a family.

Functions have torch.nn.functional's names, arguments and defaults (`conv2d`, `conv2d_backward`), classes
torch.nn's (`Conv2d`).  Arrays go in and come out; floating types are widened to float64, indices are int64.
"""

from refimpl.activation import *  # noqa: F403
from refimpl.adaptive_softmax import *  # noqa: F403
from refimpl.attention import *  # noqa: F403
from refimpl.conv import *  # noqa: F403
from refimpl.dropout import *  # noqa: F403
from refimpl.group_norm import *  # noqa: F403
from refimpl.linear import *  # noqa: F403
from refimpl.loss import *  # noqa: F403
from refimpl.multihead_attention import *  # noqa: F403
from refimpl.normalization import *  # noqa: F403
from refimpl.padding import *  # noqa: F403
from refimpl.pooling import *  # noqa: F403
from refimpl.recurrent import *  # noqa: F403
from refimpl.shape import *  # noqa: F403
from refimpl.softmax import *  # noqa: F403
from refimpl.sparse import *  # noqa: F403
from refimpl.taps import execution
from refimpl.transformer import *  # noqa: F403
from refimpl.transformer_stack import *  # noqa: F403
from refimpl.vision import *  # noqa: F403
from refimpl.window import *  # noqa: F403

__all__ = ["execution"]
