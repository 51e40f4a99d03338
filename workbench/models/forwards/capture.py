"""Reading what stands inside a forward: one place to hook, keep and stop."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.network import Hook, Network, StopForward
from workbench.models.sites import Place
from workbench.models.tokens import Tokens
from workbench.positions import Position


@contextlib.contextmanager
def capturing(
    model: Network,
    places: Iterable[Place],
    take: Callable[[Tensor], Tensor],
    *,
    stop: bool = True,
) -> Iterator[dict[Place, Tensor]]:
    """Keeps what each place holds in a forward inside the block, and ends it once all are read.

    What comes after the forward inside the block is left out where that is ended early.

    Args:
        model: the model.
        places: sites and layers; hooks that are active already act before they are read.
        take: from the activation to what is kept of it. What it gives must be a copy: a view would
            keep the whole activation alive.
        stop: whether the forward ends when all are read, before it has logits.

    Raises:
        AxisError: no such site or layer.
    """
    wanted = dict.fromkeys(places)
    found: dict[Place, Tensor] = {}

    def reader(place: Place) -> Hook:
        def read(x: Tensor) -> None:
            found[place] = take(x)
            if stop and len(found) == len(wanted):
                raise StopForward

        return read

    with model.hooks((*place, reader(place)) for place in wanted):
        # Where nothing here stops the forward, who does is somebody around it.
        with contextlib.suppress(StopForward) if stop else contextlib.nullcontext():
            yield found


@torch.no_grad()
def capture(
    model: Network,
    batch: Tokens,
    places: Sequence[Place],
    positions: Sequence[Position],
    *,
    stop: bool = True,
) -> tuple[dict[Place, Float[Tensor, "prompt position *d_site"]], Tensor | None]:
    """Activations of one batch at several sites and layers, from one forward.

    Args:
        model: the model.
        batch: one batch.
        places: sites and layers.
        positions: negative numbers, or ``"t_inst"``, which is found in each prompt.
        stop: whether the forward ends when all are read.

    Returns:
        What each place holds, ``z`` as [prompt position head d_head], on the model's device; and
        the logits at the last position, None where the forward was ended before them.
    """
    columns = batch.columns(positions)
    rows = torch.arange(len(batch)).unsqueeze(1)

    def take(x: Tensor) -> Tensor:
        # Indexing with a tensor copies.
        return x[rows.to(x.device), columns.to(x.device)].to(model.device)

    logits = None
    with capturing(model, places, take, stop=stop) as found:
        logits = model.forward(batch)
    return found, logits
