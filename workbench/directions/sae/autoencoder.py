"""Sparse autoencoders: load one, encode prompts at its own site, and take a feature as a direction.

The SAEs are those of the SAELens library, an optional extra: ``pip install
'refusal-workbench[sae]'``.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from workbench.activations import Activations, collect_activations
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.directions.sae.saelens import read_sae
from workbench.errors import ArtifactError, AxisError, StudyError
from workbench.intake.parsing import parsing
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.sites import Site
from workbench.positions import Position, position_axis

_HOOKS: tuple[tuple[str, Site, int], ...] = (
    (r"blocks\.(\d+)\.hook_resid_pre", "resid_pre", 0),
    (r"blocks\.(\d+)\.hook_resid_post", "resid_pre", 1),
    (r"blocks\.(\d+)\.hook_attn_out", "attn_out", 0),
    (r"blocks\.(\d+)\.hook_mlp_out", "mlp_out", 0),
    (r"blocks\.(\d+)\.attn\.hook_z", "z", 0),
    # Hugging Face's names, which SAELens keeps where an SAE was trained without TransformerLens.
    (r"model\.layers\.(\d+)(?:\.output)?", "resid_pre", 1),
    (r"model\.layers\.(\d+)\.self_attn\.o_proj\.input", "z", 0),
)
"""Hook names, the site that each is, and by how many layers further it is read."""

_READ_AS = "hook_resid_pre, hook_resid_post, hook_attn_out, hook_mlp_out and attn.hook_z"
_BY_PROMPT = ("layer_norm", "constant_norm_rescale")
"""Normalisations of SAELens by which what a feature writes depends on the prompt's activation."""
_ROWS = 1024
"""Activations that are encoded at once."""


@dataclass(frozen=True, eq=False)
class SparseAutoencoder:
    """An SAE at its place in a model. Made by `load_sae`.

    Attributes:
        name: the release and id, or the folder, that it was loaded from.
        site: where it reads: ``resid_pre``, ``attn_out``, ``mlp_out`` or ``z``.
        layer: 0-based. The output of block l is ``resid_pre`` at l + 1.
        decoder: what an activation of 1 writes, for every feature: as `direction` uses it. Where
            ``scales_by_prompt``, in the units of the normalised activations.
        network: the SAE of SAELens.
        centred: whether it reads a stream without its mean over d_model, as TransformerLens makes
            it where it centres the weights that write.
        provenance: what SAELens recorded of its training, and its weights' fingerprint.
    """

    name: str
    site: Site
    layer: int
    decoder: Float[Tensor, "feature d_site"]
    network: Any
    centred: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"SparseAutoencoder({self.name!r}, {self.site} at layer {self.layer}, "
            f"d_model={self.d_model}, n_features={self.n_features})"
        )

    @property
    def d_model(self) -> int:
        """Width of what it reads: the stream's, or n_heads · d_head at site ``z``."""
        return self.decoder.shape[1]

    @property
    def n_features(self) -> int:
        """Number of features."""
        return self.decoder.shape[0]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of all its weights, those of the encoder included."""
        return self.provenance["weights"]

    @property
    def scales_by_prompt(self) -> bool:
        """Whether it normalises each activation, and scales what features write back by as much.

        The length of what an activation of 1 writes is then another one on every prompt; where it
        points is the same.
        """
        return self.provenance.get("normalisation") in _BY_PROMPT

    @checked
    def encode(
        self,
        model: HookedModel,
        prompts: Prompts,
        *,
        positions: Sequence[Position] | None = None,
        system: str | None = None,
    ) -> xr.DataArray:
        """Feature activations of every prompt, read at the SAE's own site and layer.

        Args:
            model: the model that the SAE was trained on, or a fine-tuned copy of it.
            prompts: what it reads.
            positions: as of `collect_activations`.
            system: a system prompt for all of them.

        Returns:
            float32 over (prompt, position, feature), with ``label``, ``category`` and ``text`` of
            each prompt where there are any; see `encode_activations` for the units.

        Raises:
            AxisError: the model is of another width or has no such layer, or a position before the
                start of some prompt.
        """
        self._check(model)
        activations = collect_activations(
            model,
            prompts,
            site=self.site,
            layers=[self.layer],
            positions=positions,
            per_prompt=True,
            system=system,
        )
        return self.encode_activations(activations)

    @torch.no_grad()
    @checked
    def encode_activations(self, activations: Activations) -> xr.DataArray:
        """Feature activations of what was collected before.

        They are in SAELens' own units: an activation of 1 writes the feature's row of ``decoder``,
        times the spread or norm of the prompt's activation where ``scales_by_prompt``.

        Raises:
            AxisError: read at another site, of another width, or without the SAE's layer.
            StudyError: means instead of single prompts, which an SAE was not trained on.
        """
        if not activations.per_prompt:
            raise StudyError("an SAE encodes single prompts: collect with per_prompt=True.")
        width = activations.values.shape[-1]
        if activations.site != self.site or width != self.d_model:
            raise AxisError(
                f"activations of width {width} at {activations.site} do not go into {self!r}."
            )
        if self.layer not in activations.layers:
            raise AxisError(
                f"layer {self.layer} of {self!r} was not collected: layers "
                f"{list(activations.layers)}. Pass layers=[{self.layer}]."
            )
        texts = {"text": ("prompt", list(activations.texts))} if activations.texts else {}
        values = activations.values[:, activations.layers.index(self.layer)]
        encoded = self._encode(values.flatten(0, 1)).view(*values.shape[:2], self.n_features)
        return xr.DataArray(
            encoded.numpy(),
            dims=("prompt", "position", "feature"),
            coords={
                "prompt": list(activations.ids),
                "position": position_axis(activations.positions),
                "feature": range(self.n_features),
                "label": ("prompt", list(activations.labels)),
                "category": ("prompt", list(activations.categories)),
                **texts,
            },
            name="activation",
            attrs={
                "sae": self.name,
                "sae_weights": self.fingerprint,
                "site": self.site,
                "layer": self.layer,
                "model": activations.provenance.get("model"),
                "provenance": dict(activations.provenance),
            },
        )

    @checked
    def direction(
        self, features: int | Iterable[int], position: int = -1, scale: float = 1.0
    ) -> Directions:
        """What features write, as directions named ``"feature 17"`` at the SAE's layer and site.

        An SAE reads every token, so a feature has no position; the directions carry the one that is
        asked for, where they are to be compared or added. A vector of site ``z`` stands before W_O
        and is none of the stream.

        Args:
            features: one feature or several.
            position: negative, from the end of the rendered prompt.
            scale: the feature activation that the vectors stand for; at 1 they are the decoder's
                rows. With the mean activation of a prompt set they have the length that the
                feature writes on it, unless the SAE normalises each prompt's activation: then no
                one length is right, and only 1 is taken.

        Raises:
            AxisError: no such feature, or one twice.
            StudyError: a scale, where what a feature writes has no one length.
        """
        if scale != 1 and self.scales_by_prompt:
            raise StudyError(
                f"{self.name} normalises each activation ({self.provenance['normalisation']}), so "
                f"how long a vector a feature activation of {scale} writes differs by prompt. "
                "Leave scale=1, and choose the length by the coefficient of Add."
            )
        single = not hasattr(features, "__iter__")
        wanted = [int(each) for each in ([features] if single else features)]  # pyright: ignore
        for each in wanted:
            if not 0 <= each < self.n_features:
                raise AxisError(
                    f"no feature {each} in {self.name}: features 0..{self.n_features - 1}."
                )
        return Directions(
            scale * self.decoder[wanted].float().cpu()[:, None, None],
            tuple(f"feature {each}" for each in wanted),
            (self.layer,),
            (position,),
            self.site,
            # "weights" in the provenance of directions are those of the model.
            {"method": "sae", "sae": self.name, "features": wanted, "scale": scale}
            | {"sae_weights" if key == "weights" else key: v for key, v in self.provenance.items()},
        )

    def _encode(self, rows: Float[Tensor, "row d_site"]) -> Float[Tensor, "row feature"]:
        """SAELens' own encoding, part by part."""
        parts = []
        for part in rows.split(_ROWS):
            part = part - part.mean(-1, keepdim=True) if self.centred else part
            found = self.network.encode(part.to(self.decoder))
            parts.append((found.to_dense() if found.is_sparse else found).float().cpu())
        return torch.cat(parts)

    def _check(self, model: HookedModel) -> None:
        """Refuses a model that the SAE was not trained on, as far as its shape tells."""
        width = model.n_heads * model.d_head if self.site == "z" else model.d_model
        if width != self.d_model:
            raise AxisError(
                f"{self!r} does not fit {model.name}: expected width {self.d_model} at "
                f"{self.site}, found {width}. Load the model that it was trained on: "
                f"{self.provenance.get('trained_on') or 'not recorded'}."
            )
        if self.layer >= model.n_layers:
            raise AxisError(
                f"{self!r} reads after the last block of {model.name}, or beyond it: layers "
                f"0..{model.n_layers - 1}. Choose an SAE of an earlier layer."
            )


@checked
def load_sae(
    release: str | Path,
    sae_id: str | None = None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
) -> SparseAutoencoder:
    """Loads an SAE of the SAELens library.

    Args:
        release: a release of SAELens or a repository of the Hub, with ``sae_id``; or a folder that
            SAELens saved.
        sae_id: which SAE of the release.
        device: where it is kept and encodes.
        dtype: of its weights.

    Raises:
        ArtifactError: no such folder, release or SAE; it is broken, cannot be reached, or holds
            numbers that are not finite; or it is no autoencoder of single activations.
        AxisError: it was trained at a hook that is none of the workbench's sites.
        ModelError: the extra is not installed.

    Source: Bloom, Tigges, Duong and Chanin 2024, SAELens.
    """
    name = str(release) if sae_id is None else f"{release}, {sae_id}"
    network = read_sae(str(release), sae_id, device, dtype)
    with parsing(name, "an SAE with whole settings"):
        return _wrapped(name, network)


def _wrapped(name: str, network: Any) -> SparseAutoencoder:
    config, metadata = network.cfg, network.cfg.metadata
    architecture = config.architecture()
    if "transcoder" in architecture or architecture == "temporal":
        raise ArtifactError(
            f"{name} is a {architecture} of SAELens, which does not encode single activations of "
            "one site. Choose an SAE."
        )
    for weight, values in network.named_parameters():
        if not bool(values.isfinite().all()):
            raise ArtifactError(f"{name} holds numbers in {weight} that are not finite.")
    site, layer = _place(name, metadata.hook_name, metadata.hook_head_index)
    kept = metadata.model_from_pretrained_kwargs or {}
    if site == "z":
        if kept.get("fold_value_biases"):
            raise ArtifactError(
                f"{name} was trained on a model with its value biases folded away, so it reads "
                "another z than the workbench does. Choose an SAE of another site."
            )
        network.turn_off_forward_pass_hook_z_reshaping()  # z comes with its heads side by side
    decoder = network.W_dec.detach()
    if getattr(config, "rescale_acts_by_decoder_norm", False):
        decoder = decoder / network.get_W_dec_norm().unsqueeze(1)
    return SparseAutoencoder(
        name=name,
        site=site,
        layer=layer,
        decoder=decoder,
        network=network,
        centred=site != "z" and bool(kept.get("center_writing_weights")),
        provenance={
            "weights": _digest(network),
            "architecture": architecture,
            "trained_on": metadata.model_name,
            "hook": metadata.hook_name,
            "normalisation": config.normalize_activations,
            "sae_lens_version": metadata.sae_lens_version,
        },
    )


def _digest(network: Any) -> str:
    """Of every weight with its name: SAEs of one decoder may still encode differently."""
    digest = hashlib.sha256()
    for name, values in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(values.shape)}".encode())
        digest.update(values.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _place(name: str, hook: str | None, head: int | None) -> tuple[Site, int]:
    """The site and layer that a hook of TransformerLens or Hugging Face is."""
    for pattern, site, further in _HOOKS:
        if found := re.fullmatch(pattern, hook or ""):
            if head is not None:
                raise AxisError(
                    f"{name} reads head {head} of {hook} alone; expected all heads of a layer."
                )
            return site, int(found[1]) + further
    raise AxisError(
        f"{name} was trained at {hook or 'a hook that it does not name'}, which is no site of the "
        f"workbench: it reads {_READ_AS}. Choose an SAE of one of them."
    )
