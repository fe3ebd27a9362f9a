"""Converts models and weights of other libraries to the layers of this project, and back."""

from ._adopt import (
    adopt as adopt,
    Left as Left,
    provide_pdequinox_conv as provide_pdequinox_conv,
    Replaced as Replaced,
    Report as Report,
)
from ._equinox import conv_from_equinox as conv_from_equinox
from ._fno import (
    ChannelMLP as ChannelMLP,
    FNO as FNO,
    fno_to_neuraloperator as fno_to_neuraloperator,
    FNOBlock as FNOBlock,
    load_neuraloperator_fno as load_neuraloperator_fno,
    SoftGating as SoftGating,
)
from ._layers import CannotConvertError as CannotConvertError
from ._modes import resize_modes as resize_modes
from ._neuraloperator import (
    spectral_from_neuraloperator as spectral_from_neuraloperator,
    spectral_to_neuraloperator as spectral_to_neuraloperator,
)
from ._torch import (
    conv_from_torch as conv_from_torch,
    conv_to_torch as conv_to_torch,
    conv_transpose_from_torch as conv_transpose_from_torch,
)


__version__ = "0.2.0"
