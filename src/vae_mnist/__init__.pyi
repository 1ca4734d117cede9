from .errors import VaeMnistError as VaeMnistError
from .models import VAE as VAE
from .models import build_model as build_model
from .models import load_model as load_model
from .sampling import decode as decode
from .sampling import encode as encode
from .sampling import interpolate as interpolate
from .sampling import reconstruct as reconstruct
from .sampling import sample as sample
from .sampling import traverse as traverse

__version__: str
