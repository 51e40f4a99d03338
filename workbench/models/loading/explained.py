"""What libraries raise or print while a model is loaded, in the words of the workbench."""

import contextlib
import re
from collections.abc import Iterator

from workbench.errors import ModelError


def explained(name: str, error: Exception) -> ModelError:
    """One clear line for whatever Hugging Face, PEFT or TransformerLens raised."""
    from huggingface_hub import errors as hub

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    first_line = re.sub(r" Available architectures: \[.*?\],", "", first_line)[:300]

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(item, kinds) for item in chain)

    if has(hub.GatedRepoError) or "gated repo" in str(error):
        return ModelError(
            f"{name} is gated. Accept its licence on its Hub page, then log in with "
            "`hf auth login` or set HF_TOKEN."
        )
    if has(hub.RevisionNotFoundError):
        return ModelError(f"{name} has no such revision. {first_line}")
    if has(hub.RepositoryNotFoundError) or "is not a valid model identifier" in str(error):
        return ModelError(
            f"no model {name!r} on the Hugging Face Hub. Check the spelling; a private one needs "
            "`hf auth login`."
        )
    if has(hub.LocalEntryNotFoundError, ConnectionError, TimeoutError) or (
        "couldn't connect" in str(error).lower()
    ):
        return ModelError(
            f"{name} is not on this machine and the Hub cannot be reached. Connect once, or pass "
            "a local folder."
        )
    if has(ImportError) and "bitsandbytes" in str(error):
        return lacks("bitsandbytes", "bitsandbytes", name)
    unknown = ("architecture", "unrecognized configuration class", "does not recognize")
    if any(word in str(error).lower() for word in unknown):
        return ModelError(
            f"TransformerLens cannot wrap {name}: {first_line} "
            "`transformer_lens.supported_models` lists the architectures it knows."
        )
    return ModelError(f"cannot load {name}: {first_line}")


def lacks(package: str, extra: str, name: str) -> ModelError:
    """The error about a package that is not installed, with the line that installs it."""
    return ModelError(
        f"reading {name} needs the package {package}: pip install 'refusal-workbench[{extra}]'."
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the loader's progress bars and notes, and leaves logging as it was."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
