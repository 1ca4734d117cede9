from .errors import VaeMnistError as VaeMnistError
from .models import VAE as VAE
from .models import VAEOutput as VAEOutput
from .models import build_model as build_model
from .objectives.elbo import kl_divergence as kl_divergence
from .objectives.elbo import negative_elbo as negative_elbo
from .objectives.elbo import reconstruction_nll as reconstruction_nll
from .sampling import decode as decode
from .sampling import encode as encode
from .sampling import interpolate as interpolate
from .sampling import reconstruct as reconstruct
from .sampling import sample as sample
from .sampling import traverse as traverse
from .storage.checkpoints import load_model as load_model

__version__: str
